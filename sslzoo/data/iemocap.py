"""IEMOCAP in the layout of its release."""

import re

import numpy as np

from sslzoo.data import files, splits, tree
from sslzoo.data.audio import AudioData
from sslzoo.data.index import Listing
from sslzoo.errors import UserError

# [6.2901 - 8.2357]	Ses01F_impro01_F000	neu	[2.5000, 2.5000, 2.5000]
_LINE = re.compile(r"^\[[\d. -]+\]\t(\w+)\t(\w+)\t\[")
CLASSES = {"neu": "neutral", "hap": "happy", "exc": "happy", "sad": "sad", "ang": "angry"}


class IEMOCAP(AudioData):
    """IEMOCAP (Busso et al. 2008): Session<1-5>/sentences/wav/<dialog>/<utterance>.wav and
    Session<1-5>/dialog/EmoEvaluation/<dialog>.txt. Labels: emotion (neutral, happy, sad, angry; excited counts as
    happy, other emotions are ""), session, speaker.

    Its own train, valid and test are by a hash of the utterances' names: task/split=fold holds a session out.
    """

    def listing(self) -> Listing:
        root = files.rooted(self.path, "IEMOCAP_full_release", "IEMOCAP")
        sessions = sorted(path.name for path in root.glob("Session[1-5]"))
        if not sessions:
            raise UserError(f"{root} has no Session1 to Session5, which IEMOCAP has")
        emotions: dict[str, str] = {}
        names, read = [], []
        for session in sessions:
            walk = root / session / "sentences" / "wav"
            names += [f"{session}/sentences/wav/{name}" for name in tree.walk(walk, (".wav",))]
            tables = sorted((root / session / "dialog" / "EmoEvaluation").glob("*.txt"))
            if not tables:
                raise UserError(f"{root / session} has no dialog/EmoEvaluation/*.txt with its emotions")
            for table in tables:
                lines = (_LINE.match(line) for line in files.lines(table))
                emotions |= {line[1]: CLASSES.get(line[2], "") for line in lines if line}
            read += tables
        stems = [name.rsplit("/", 1)[1].removesuffix(".wav") for name in names]
        columns = {
            "emotion": [emotions.get(stem, "") for stem in stems],
            "session": [name.split("/")[0] for name in names],
            "speaker": [stem[:5] + stem.rsplit("_", 1)[1][:1] for stem in stems],  # Ses01F_impro01_M000: Ses01M
        }
        split = splits.fill(np.full(len(names), "train"), names, str(root))
        walks = [(root / session / "sentences" / "wav", (".wav",)) for session in sessions]
        return Listing(root, names, split, columns, walks=walks, read=read)
