"""Speech sets in the layouts of their downloads."""

from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import audio, delimited, files, splits, tree
from sslzoo.data.audio import AudioData
from sslzoo.data.index import Check, Listing
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.errors import UserError, nearest

_SUBSETS = (
    "dev-clean",
    "dev-other",
    "test-clean",
    "test-other",
    "train-clean-100",
    "train-clean-360",
    "train-other-500",
)
_SOUND, _TEXT = (".flac", ".wav", ".ogg"), ".trans.txt"  # of LibriSpeech


class FreeSpokenDigits(AudioData):
    """Free Spoken Digit Dataset: recordings/{digit}_{speaker}_{index}.wav. Labels: digit, speaker.

    The official test split is index 0 to 4 of every speaker and digit; valid is taken from the others.
    """

    def listing(self) -> Listing:
        root = files.rooted(self.path, "free-spoken-digit-dataset/recordings", "recordings")
        names = tree.walk(root, (".wav",))
        parts = [Path(name).stem.split("_") for name in names]
        for name, part in zip(names, parts, strict=True):
            if len(part) != 3 or not part[2].isdigit():
                raise UserError(f"{root / name} is not named as this set's files are: digit_speaker_index.wav")
        digit, speaker, index = (np.array(x) for x in zip(*parts, strict=True))
        split = splits.fill(np.where(index.astype(int) < 5, "test", "train"), names, str(root))
        return Listing(root, names, split, {"digit": digit, "speaker": speaker}, walks=[(root, (".wav",))])


class SpeechCommands(AudioData):
    """Speech Commands (1804.03209): <word>/<speaker>_nohash_<n>.wav. Labels: word, speaker.

    Splits are those of validation_list.txt and testing_list.txt; without them, by a hash of the speaker.
    Background noise is left out. download: let torchaudio download v0.02.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        sample_rate: int = 16000,
        max_seconds: float | None = None,
        min_seconds: float = 0.1,
        on_error: Literal["raise", "skip"] = "raise",
        check: Check | None = None,
        download: bool = False,
    ):
        super().__init__(path, batch, sample_rate, max_seconds, min_seconds, on_error, check)
        self.download = download

    def listing(self) -> Listing:
        inside = ("SpeechCommands/speech_commands_v0.02", "speech_commands_v0.02")
        if self.download and not any((Path(self.path) / name).is_dir() for name in inside):
            audio.download("SPEECHCOMMANDS", self.path)
        root = files.rooted(self.path, *inside)
        names = [name for name in tree.walk(root, (".wav",)) if "/" in name and not name.startswith("_")]
        if not names:
            raise UserError(f"{root} has no folders of words with .wav files in them")
        split = np.full(len(names), "train", "<U5")
        lists = {root / "validation_list.txt": "valid", root / "testing_list.txt": "test"}
        for listed, name in lists.items():
            if listed.exists():
                split[np.isin(names, [line.strip() for line in files.lines(listed)])] = name
        speaker = [Path(name).stem.split("_nohash_")[0] for name in names]
        columns = {"word": [name.split("/")[0] for name in names], "speaker": speaker}
        split = splits.fill(split, speaker, str(root))
        return Listing(root, names, split, columns, walks=[(root, (".wav",))], read=list(lists))


class LibriSpeech(AudioData):
    """LibriSpeech: <subset>/<speaker>/<chapter>/<utterance>.flac, with or without transcripts.

    train, valid, test: the subsets of each split; those missing on disk are skipped; if none is left for valid or
    test, it is taken from the training files by a hash of their names. Labels: speaker, chapter, subset; sex, if
    SPEAKERS.TXT exists; transcript, if any subset has transcripts ("" for files without one).
    download: let torchaudio download missing subsets.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        sample_rate: int = 16000,
        max_seconds: float | None = None,
        min_seconds: float = 0.1,
        on_error: Literal["raise", "skip"] = "raise",
        check: Check | None = None,
        train: list[str] = ("train-clean-100",),
        valid: list[str] = ("dev-clean",),
        test: list[str] = ("test-clean",),
        download: bool = False,
    ):
        super().__init__(path, batch, sample_rate, max_seconds, min_seconds, on_error, check)
        self.subsets = {"train": list(train), "valid": list(valid), "test": list(test)}
        self.download = download

    def listing(self) -> Listing:
        root = self._root()
        there = sorted(p.name for p in root.iterdir() if p.is_dir())
        names, split, walks, texts, lacking = [], [], [], [], []
        for name, subsets in self.subsets.items():
            for subset in subsets:
                if subset not in there and subset not in _SUBSETS:
                    raise UserError(f"{root} has no subset {subset}{nearest(subset, _SUBSETS)} — set data.{name}")
                walks.append((root / subset, (*_SOUND, _TEXT)))
                found = [f"{subset}/{file}" for file in tree.look(*walks[-1]).names()] if subset in there else []
                texts += [file for file in found if file.endswith(_TEXT)]
                found = [file for file in found if not file.endswith(_TEXT)]
                if not found:
                    lacking.append(subset)
                names += found
                split += [name] * len(found)
        if "train" not in split and root.name in _SUBSETS:
            raise UserError(
                f"{root} is one subset: set data.path={root.parent} data.train=[{root.name}] data.valid=[] data.test=[]"
            )
        if "train" not in split:
            raise UserError(
                f"{root} has none of {', '.join(self.subsets['train'])}, but {', '.join(there) or 'no subset'} — set "
                f"data.train to what is there, such as data.train=[{(there or ['…'])[-1]}] data.valid=[] data.test=[]"
            )
        notes = [f"{root} has no files of {', '.join(lacking)}: used is what there is"] if lacking else []
        notes += [f"{root}: {part} is taken from the training files" for part in ("valid", "test") if part not in split]
        walks = [(path, suffixes) for path, suffixes in walks if path.name in there]
        parts = [name.split("/") for name in names]
        for name, part in zip(names, parts, strict=True):
            if len(part) != 4:
                raise UserError(f"{root / name} is not where this set's files are: subset/speaker/chapter/file")
        columns = {key: [part[place] for part in parts] for place, key in enumerate(("subset", "speaker", "chapter"))}
        sexes = _sexes(root / "SPEAKERS.TXT")
        if sexes:
            columns["sex"] = [sexes.get(speaker, "") for speaker in columns["speaker"]]
        read = [root / file for file in texts]
        transcripts = _transcripts(read)
        if transcripts:
            columns["transcript"] = [transcripts.get(Path(name).stem, "") for name in names]
        split = splits.fill(split, names, str(root))
        return Listing(
            root, names, split, columns, walks, [*read, root / "SPEAKERS.TXT", root], notes if lacking else ()
        )

    def _root(self) -> Path:
        if self.download:
            for subset in {name: None for names in self.subsets.values() for name in names}:
                if not (Path(self.path) / "LibriSpeech" / subset).is_dir():
                    audio.download("LIBRISPEECH", self.path, url=subset)
        return files.rooted(self.path, "LibriSpeech")


class LJSpeech(AudioData):
    """LJSpeech 1.1: metadata.csv (id|transcript|normalised transcript) and wavs/. Label: transcript.

    It has no official splits: valid and test are taken by a hash of the names. Files on disk that metadata.csv does
    not list have the transcript "". download: let torchaudio download the set.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        sample_rate: int = 16000,
        max_seconds: float | None = None,
        min_seconds: float = 0.1,
        on_error: Literal["raise", "skip"] = "raise",
        check: Check | None = None,
        download: bool = False,
    ):
        super().__init__(path, batch, sample_rate, max_seconds, min_seconds, on_error, check)
        self.download = download

    def listing(self) -> Listing:
        if self.download and not (Path(self.path) / "LJSpeech-1.1").is_dir():
            audio.download("LJSPEECH", self.path)
        root = files.rooted(self.path, "LJSpeech-1.1")
        if root.name == "wavs" and (root.parent / "metadata.csv").exists():
            root = root.parent
        table = root / "metadata.csv"
        rows = list(delimited.rows(table, "|", quoted=False))
        for line, row in rows:
            if len(row) != 3:
                raise UserError(f"{table}, line {line}: {len(row)} fields, but it should be id|transcript|normalised")
        if not rows:
            raise UserError(f"{table} has no lines")
        rows = [row for _, row in rows]
        said = {f"wavs/{row[0]}.wav": row[2] for row in rows}
        walk = (root / "wavs", (".wav",))
        names = [f"wavs/{name}" for name in tree.walk(*walk)]
        gone, more = len(said.keys() - set(names)), len(set(names) - said.keys())
        notes = (
            [f"{root}: {gone} of {len(said)} files of metadata.csv are not there: used are the others"] if gone else []
        )
        notes += [f"{root}: {more} of {len(names)} files in wavs/ have no transcript in metadata.csv"] if more else []
        split = splits.fill(["train"] * len(names), names, str(root))
        columns = {"transcript": [said.get(name, "") for name in names]}
        return Listing(root, names, split, columns, walks=[walk], read=[table], notes=notes)


def _sexes(path: Path) -> dict[str, str]:
    """{speaker: M or F}, from lines of: id | sex | subset | minutes | name."""
    if not path.exists():
        return {}
    lines = [line.split("|") for line in files.lines(path) if not line.startswith(";")]
    return {line[0].strip(): line[1].strip() for line in lines if len(line) > 1}


def _transcripts(paths: list[Path]) -> dict[str, str]:
    """{utterance: transcript}, from the chapters' <speaker>-<chapter>.trans.txt files."""
    found = {}
    for path in paths:
        found |= dict(line.split(" ", 1) for line in files.lines(path) if " " in line)
    return found
