"""Tiny data and encoders whose answers are known."""

import numpy as np
import torch
from torch import nn

from sslzoo.data.base import Data, Split
from sslzoo.encoders.base import Encoded, Encoder


class Items(Split):
    """Items in memory, which counts how often each is read."""

    def __init__(self, items, columns=None, intervals=None, names=None):
        self.items, self.columns, self.intervals = items, columns or {}, intervals or {}
        self.names = names or [f"item {i}" for i in range(len(items))]
        self.lengths = np.array([1 if x.ndim > 1 else len(x) for x in items], dtype=np.int64)
        self.read_at = []

    def read(self, index, seed=None):
        self.read_at.append(index)
        return self.items[index]


class Held(Data):
    """Splits that are already open; `modality`, `sample_rate` and so on as given."""

    def __init__(self, train, valid, test, **says):
        self.splits = {"train": train, "valid": valid, "test": test}
        self.__dict__.update({"modality": "speech", "sample_rate": 10, **says})

    def split(self, name):
        return self.splits[name]


class Framed(Encoder):
    """Every `stride` samples of a wave are a token, whose layers are given functions of their mean:
    a float a layer, times the mean, beside one dimension of noise that depends on the token alone."""

    modality, dim, feature_dim, offers = "speech", 2, 1, frozenset({"tokens"})

    def __init__(self, layers=(0.0, 1.0, 0.0), stride=5, prefix=0, pool="mean"):
        super().__init__()
        self.gains, self.depth, self.stride, self.prefix, self.pool = (
            layers,
            len(layers) - 1,
            stride,
            prefix,
            pool,
        )
        self.weight = nn.Parameter(torch.ones(()))

    def forward(self, inputs, lengths):
        size = -(-inputs.shape[1] // self.stride) * self.stride
        tokens = nn.functional.pad(inputs, (0, size - inputs.shape[1])).view(len(inputs), -1, self.stride).mean(2)
        noise = torch.frac(tokens.double() * 12345.678).float() - 0.5
        hidden = [torch.stack([gain * tokens + (1 - gain) * noise, noise], 2) * self.weight for gain in self.gains]
        if self.prefix:
            hidden = [torch.cat([torch.full((len(h), self.prefix, 2), 1e3), h], 1) for h in hidden]
        lengths = -(-lengths // self.stride) + self.prefix
        inside = (torch.arange(hidden[-1].shape[1]) < lengths[:, None])[..., None].clone()
        inside[:, : self.prefix] = False
        pooled = (hidden[-1] * inside).sum(1) / inside.sum(1)
        return Encoded(hidden, lengths, pooled if self.pool == "mean" else hidden[-1][:, 0])


def waves(count, seed, classes=3, noise=0.3, shortest=5, longest=40):
    """Waves whose mean is their class, and the class of each."""
    g = np.random.default_rng(seed)
    labels = g.permutation(np.arange(count) % classes)
    lengths = g.integers(shortest, longest, count)
    made = [k + noise * g.standard_normal(n) for k, n in zip(labels, lengths, strict=True)]
    return [torch.tensor(wave, dtype=torch.float32) for wave in made], labels


def spoken(sizes=(90, 30, 30), **more):
    """A data set of `waves` with the label column "word", and its columns' makers in `more`."""
    splits = []
    for seed, size in enumerate(sizes):
        items, labels = waves(size, seed, **more)
        words = np.array([f"w{k}" for k in labels])
        splits.append(Items(items, {"word": words}, names=[f"{seed}/{i}" for i in range(size)]))
    return Held(*splits)
