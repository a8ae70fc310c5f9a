"""Conversations of two voices, mixed of what `Spoken` says."""

import numpy as np
import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.data.base import Data, Intervals, Split
from sslzoo.data.builtin.spoken import Spoken
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.errors import ConfigError

_PAUSE = (-0.6, 0.6)  # seconds between the end of a turn and the next: below 0 they overlap


class SpokenMixtures(Data):
    """Two voices in turns, some of which overlap. A voice is in one split only, as in `Spoken`. Time-aligned label:
    speaker.

    count: mixtures of train; an eighth of it each in valid and test. turns: of each mixture, sentences.
    """

    modality = "speech"

    def __init__(self, batch: ByCount | BySeconds, sample_rate: int = 16000, count: int = 400, turns: int = 6):
        if count < 8 or turns < 2:
            raise ConfigError(f"data.count is 8 or more and data.turns 2 or more, got {count} and {turns}")
        self.spoken = Spoken(batch, sample_rate)
        self.batch, self.sample_rate, self.count, self.turns = batch, sample_rate, count, turns
        self._splits: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        if name not in self._splits:
            count = self.count if name == "train" else self.count // 8
            self._splits[name] = _Mixtures(self.spoken.split(name), name, count, self.turns, self.sample_rate)
        return self._splits[name]


class _Mixtures(Split):
    """One split. sources: of each mixture, (the item, its first sample, its voice) of each turn."""

    def __init__(self, spoken: Split, part: str, count: int, turns: int, sample_rate: int):
        self.spoken, self.columns, self.sources = spoken, {}, []
        voices, intents = spoken.column("voice"), spoken.column("intent")
        said = {voice: np.flatnonzero((voices == voice) & (intents != "")) for voice in np.unique(voices)}
        lengths, self.names, self.intervals = [], [], {"speaker": []}
        for number in range(count):
            draw = np.random.default_rng(rng.derive_seed("mixture", part, number))
            pair, place = draw.choice(sorted(said), 2, replace=False), 0
            rows: list[tuple[int, int, str]] = []
            for turn in range(turns):
                item = int(draw.choice(said[pair[turn % 2]]))
                pause = round(draw.uniform(*_PAUSE) * sample_rate) if turn else 0
                start = max(place + pause, rows[-1][1] + 1 if rows else 0)
                rows.append((item, start, str(pair[turn % 2])))
                place = start + int(spoken.lengths[item])
            ends = [start + int(spoken.lengths[item]) for item, start, _ in rows]
            lengths.append(max(ends))
            self.sources.append(rows)
            self.names.append(f"mixture {part} {number}: {pair[0]}, {pair[1]}")
            spans = [
                np.array(x) for x in zip(*((s, e, v) for (_, s, v), e in zip(rows, ends, strict=True)), strict=True)
            ]
            self.intervals["speaker"].append(Intervals(spans[0] / sample_rate, spans[1] / sample_rate, spans[2]))
        self.lengths = np.array(lengths, np.int64)

    def read(self, index: int, seed: int | None = None) -> Tensor:
        mixed = torch.zeros(int(self.lengths[index]))
        for item, start, _ in self.sources[index]:
            samples = self.spoken.read(item)
            mixed[start : start + len(samples)] += samples
        start, stop = self.window(index, seed)
        return mixed[start:stop].clamp(-1, 1)
