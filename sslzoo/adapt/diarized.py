"""The chunks of a task about who speaks when."""

import numpy as np
import torch
from torch import Tensor

from sslzoo.adapt.items import SupervisedSplit
from sslzoo.adapt.prepared import PooledItems
from sslzoo.data.base import Data, Intervals, Split
from sslzoo.errors import UserError
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task


class Chunks(SupervisedSplit):
    """Recordings in consecutive chunks of at most `frames` frames. A frame's label has bit s set where the recording's
    s-th speaker, by name, speaks.

    recording, first: [M], of each chunk, the recording's number and the chunk's first sample. stride:
    samples of a frame.
    """

    def __init__(
        self,
        splits: list[Split],
        source: np.ndarray,
        places: np.ndarray,
        label: str,
        stride: int,
        rate: int,
        frames: int,
    ):
        super().__init__(splits, source, places)
        size = frames * stride
        counts = -(-self.lengths // size)
        self.recording = np.repeat(np.arange(len(places)), counts)
        self.first = np.concatenate([np.arange(n) for n in counts]) * size
        whole = self.lengths[self.recording]
        self.source, self.places = source[self.recording], places[self.recording]
        self.lengths = self._cut_lengths = np.minimum(whole - self.first, size)
        self.label, self.stride, self.rate = label, stride, rate

    def read(self, index: int, seed: int | None = None) -> Tensor:
        split, place = self.located(index)
        start = int(self.first[index])
        return split.read(place)[start : start + int(self.lengths[index])]

    def window(self, index: int, seed: int | None) -> tuple[int, int]:
        return int(self.first[index]), int(self.first[index] + self.lengths[index])

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        split, place = self.located(index)
        count, first = max(1, int(self.lengths[index]) // self.stride), int(self.first[index]) // self.stride
        return {
            "label": torch.from_numpy(
                activity(split.intervals[self.label][place], self.rate / self.stride, first, count)
            )
        }


def activity(turns: Intervals, frame_rate: float, first: int, count: int) -> np.ndarray:
    """int64 [count], the bits of the speakers of frames from `first`;
    a turn has the frames between its rounded ends."""
    bits = np.zeros(count, np.int64)
    number = {name: s for s, name in enumerate(np.unique(turns.label))}
    for start, end, name in zip(turns.start, turns.end, turns.label, strict=True):
        begin, stop = (int(np.rint(at * frame_rate)) - first for at in (start, end))
        bits[max(begin, 0) : max(stop, 0)] |= 1 << number[name]
    return bits


def diarized(task: Task, data: Data, stride: int) -> PooledItems:
    """The recordings of each part, in chunks of `task.chunk` frames. Raises UserError for a recording of more than
    `task.speakers` speakers, and if none of train has two."""
    pool, label = Pool(data), task.label or "speaker"
    intervals, names = pool.intervals(label), pool.names()
    known = [len(np.unique(turns.label)) for turns in intervals]
    for place, count in enumerate(known):
        if count > task.speakers:
            raise UserError(f"task {task.name}: {names[place]} has {count} speakers: set task.speakers={max(known)}")
    parts = task.parts_of(pool, np.flatnonzero(known), None)
    if max(known[i] for i in parts["train"]) < 2:
        raise UserError(f"task {task.name}: each recording of train has one speaker: there is nothing to tell apart")
    return PooledItems(
        pool,
        parts,
        [f"speaker {s + 1}" for s in range(task.speakers)],
        lambda part, opened, source, at: Chunks(opened, source, at, label, stride, pool.rate, task.chunk),
    )
