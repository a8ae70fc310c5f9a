"""Recordings of several speakers, with who speaks when in RTTM files."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

from sslzoo.data import files, splits, tree
from sslzoo.data.audio import SUFFIXES, AudioData, AudioSplit
from sslzoo.data.base import SPLITS, Intervals
from sslzoo.data.index import Listing
from sslzoo.errors import UserError

Turns = dict[str, list[tuple[float, float, str]]]  # recording: (start, end, speaker) in seconds


class Diarized(AudioData):
    """Audio files and an RTTM file for each part: {train,development,test}.rttm, or a file rttm in a folder of the
    part's name, as Kaldi has it. A recording is the audio file of its name, anywhere under `path`.

    Time-aligned label: speaker; turns of several speakers may overlap.
    """

    def listing(self) -> Listing:
        root = files.rooted(self.path)
        there = {Path(name).stem: name for name in tree.look(root, SUFFIXES).names()}
        names, split, found = [], [], self.rttms(root)
        for part, path in found.items():
            for recording in turns(path):
                if recording not in there:
                    raise UserError(f"{path} is about the recording {recording}, of which {root} has no audio file")
                names.append(there[recording])
                split.append(part)
        filled = splits.fill(split, names, str(root))
        return Listing(root, names, filled, {}, walks=[(root, SUFFIXES)], read=list(found.values()))

    @staticmethod
    def rttms(root: Path) -> dict[str, Path]:
        """The RTTM file of each part."""
        paths = sorted([*root.glob("*.rttm"), *root.glob("*/rttm")])
        word = {path: path.parent.name if path.name == "rttm" else path.stem for path in paths}
        known = splits.named(word.values())
        found = {known[word[path]]: path for path in paths if word[path] in known}
        if "train" not in found:
            raise UserError(f"{root} has no train.rttm, nor train/rttm: it lists who speaks when in what is trained on")
        return {part: found[part] for part in SPLITS if part in found}

    def split(self, name: str) -> AudioSplit:
        opened = super().split(name)
        if "speaker" not in opened.intervals:
            said: Turns = {}
            for path in self.rttms(files.rooted(self.path)).values():
                said |= turns(path)
            opened.intervals["speaker"] = [_intervals(said[Path(file).stem]) for file in opened.names]
        return opened


def _intervals(rows: list[tuple[float, float, str]]) -> Intervals:
    start, end, speaker = zip(*sorted(rows), strict=True)
    return Intervals(np.array(start), np.array(end), np.array(speaker))


def turns(path: Path) -> Turns:
    """The turns of each recording of an RTTM file (NIST, RT-09 evaluation plan, appendix A): lines of
    SPEAKER recording channel start duration <NA> <NA> speaker."""
    found: Turns = {}
    for number, recording, start, length, speaker in _lines(path):
        if length <= 0 or start < 0:
            raise UserError(f"{path}, line {number}: a turn begins at 0 s or later and is longer than 0 s")
        found.setdefault(recording, []).append((start, start + length, speaker))
    if not found:
        raise UserError(f"{path} has no line of a speaker's turn")
    return found


def _lines(path: Path) -> Iterator[tuple[int, str, float, float, str]]:
    for number, line in enumerate(files.lines(path), 1):
        fields = line.split()
        if not fields or fields[0] != "SPEAKER":
            continue
        try:
            yield number, fields[1], float(fields[3]), float(fields[4]), fields[7]
        except (IndexError, ValueError):
            raise UserError(
                f"{path}, line {number} is not of the form SPEAKER recording 1 start duration <NA> <NA> speaker"
            ) from None
