"""AN4, the alphanumeric database of CMU, in the layout of its download."""

import re
from pathlib import Path

from sslzoo.data import files, splits, tree
from sslzoo.data.audio import SUFFIXES, AudioData
from sslzoo.data.index import Listing
from sslzoo.errors import UserError

_LINE = re.compile(r"^(?:<s>\s*)?(.*?)\s*(?:</s>\s*)?\(([^()]+)\)\s*$")  # <s> HELLO </s> (utterance)
_PARTS = ("train", "test")


class AN4(AudioData):
    """AN4: etc/an4_{train,test}.fileids, etc/an4_{train,test}.transcription and wav/<part>/<speaker>/<utterance>.

    Labels: transcript, speaker. Valid is taken from train, so that no speaker is in both. The audio may have any
    suffix but .raw, which has no header.
    """

    def listing(self) -> Listing:
        root = files.rooted(self.path, "an4")
        wav = root / "wav"
        lists = {part: root / "etc" / f"an4_{part}.fileids" for part in _PARTS}
        texts = [root / "etc" / f"an4_{part}.transcription" for part in _PARTS]
        for path in (*lists.values(), *texts):
            if not path.exists():
                raise UserError(f"there is no {path}, which AN4 has{files.elsewhere(path)}")
        if not wav.is_dir():
            raise UserError(f"there is no folder {wav}, which AN4 has")
        there = {str(Path(name).with_suffix("")): name for name in tree.look(wav, SUFFIXES).names()}
        said: dict[str, str] = {}
        names, split = [], []
        for path in texts:
            said |= _transcripts(path)
        for part, path in lists.items():
            for line in filter(None, map(str.strip, files.lines(path))):
                if line not in there:
                    mend = "; a .raw file has no header: `sox -r 16000 -e signed -b 16 -B a.raw a.wav` gives it one"
                    raw = (wav / f"{line}.raw").exists()
                    raise UserError(f"{wav} has no audio file of {line}, which {path.name} lists{mend if raw else ''}")
                names.append(there[line])
                split.append(part)
        speakers = [Path(name).parent.name for name in names]
        columns = {"transcript": [said.get(Path(name).stem, "") for name in names], "speaker": speakers}
        filled = splits.fill(split, speakers, str(root))
        return Listing(wav, names, filled, columns, walks=[(wav, SUFFIXES)], read=[*lists.values(), *texts])


def _transcripts(path: Path) -> dict[str, str]:
    """{utterance: transcript}."""
    found = {}
    for number, line in enumerate(files.lines(path), 1):
        if line.strip():
            match = _LINE.match(line.strip())
            if match is None:
                raise UserError(f"{path}, line {number} is not of the form TRANSCRIPT (utterance)")
            found[match[2]] = match[1]
    return found
