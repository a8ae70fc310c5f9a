"""Audio SNIPS in the layout that SUPERB uses."""

from pathlib import Path

from sslzoo.data import files, tree
from sslzoo.data.audio import SUFFIXES, AudioData
from sslzoo.data.index import Listing
from sslzoo.errors import UserError

SPEAKERS = {  # of s3prl/downstream/ctc/snips.yaml
    "train": "Ivy Joanna Joey Justin Kendra Kimberly Matthew Salli",
    "valid": "Aditi Amy Geraint Nicole",
    "test": "Brian Emma Raveena Russell",
}
TABLE = "all.iob.snips.txt"  # lines: speaker-snips-part-number BOS word … EOS <tab> O slot … intent
_DROPPED, _SAID = "?!.,;-", {"&": "AND"}


class AudioSNIPS(AudioData):
    """Audio SNIPS (Lai et al. 2021): {train,valid,test}/<speaker>-snips-….wav and all.iob.snips.txt. Labels:
    transcript; slots, the transcript with its slots marked; speaker. Parts are of SUPERB's speakers."""

    def listing(self) -> Listing:
        root = files.rooted(self.path, "SNIPS")
        table = root / TABLE
        if not table.exists():
            raise UserError(f"there is no {table}, which Audio SNIPS has{files.elsewhere(table)}")
        said = _table(table)
        names, split = [], []
        columns: dict[str, list[str]] = {"transcript": [], "slots": [], "speaker": []}
        for name in tree.walk(root, SUFFIXES):
            folder, _, file = name.rpartition("/")
            stem, part = Path(file).stem, folder.rpartition("/")[2]
            speaker = stem.partition("-")[0]
            if part in SPEAKERS and speaker in SPEAKERS[part].split() and stem in said:
                names.append(name)
                split.append(part)
                for key, value in zip(columns, (*said[stem], speaker), strict=True):
                    columns[key].append(value)
        for part, speakers in SPEAKERS.items():
            if part not in split:
                raise UserError(f"{root / part} has no audio of {speakers}, named as in {TABLE}")
        return Listing(root, names, split, columns, walks=[(root, SUFFIXES)], read=[table])


def _table(path: Path) -> dict[str, tuple[str, str]]:
    """{utterance: (transcript, transcript with slots marked)}."""
    found = {}
    for number, line in enumerate(files.lines(path), 1):
        text, _, tags = line.partition("\t")
        name, *words = text.split()
        kinds = tags.split()
        if not words or len(kinds) < len(words) or words[0] != "BOS" or words[-1] != "EOS":
            raise UserError(f"{path}, line {number} is not an utterance, BOS, words and EOS, a tab, and a slot a word")
        pairs = zip(words[1:-1], kinds[1 : len(words) - 1], strict=True)
        kept = [(_SAID.get(word, word), kind) for word, kind in pairs if word not in _DROPPED]
        marked, before = [], "O"
        for word, kind in kept:
            if kind != before:
                marked += [*([] if before == "O" else ["]"]), *([] if kind == "O" else [f"[{kind}"])]
            marked.append(word)
            before = kind
        text = " ".join([*marked, *([] if before == "O" else ["]"])]).replace(" ]", "]")
        found[name] = " ".join(word for word, _ in kept), text
    return found
