"""Clustering the features of frames and writing a folder of labels (see `sslzoo.data.targets`)."""

import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from safetensors.torch import save_file
from torch import Tensor

from sslzoo import distributed
from sslzoo.data.base import SPLITS, Batch, Data, Split
from sslzoo.data.loader import ordered_loader
from sslzoo.data.targets import CODES, fingerprint
from sslzoo.errors import UserError
from sslzoo.features.extract import save_array
from sslzoo.features.frozen import SECONDS
from sslzoo.features.intervals import labels_at
from sslzoo.label.agreement import agreement
from sslzoo.label.sources import Cepstra, Layer
from sslzoo.nn import cluster
from sslzoo.progress import Progress, quiet
from sslzoo.run import commit, machine, write_atomic, write_json, write_signed

NARROW = 2**16  # the most clusters that fit in uint16


class Frames:
    """The features of the frames of a data set, batch by batch. Ranks share the batches, and go through them in step.

    units: samples of audio per batch.
    """

    def __init__(self, source: Cepstra | Layer, data: Data, units: float, workers: int, progress: Progress):
        self.source, self.units, self.workers, self.progress = source, units, workers, progress
        self.splits = {name: data.split(name) for name in SPLITS}
        self.sample_rate = data.sample_rate

    def of(self, name: str, what: str) -> Iterator[tuple[Batch, Tensor, list[int], int]]:
        """Yield (batch, the features of all its frames, concatenated, the number of frames in each row, the place of
        its first frame among those of all batches), of this rank's batches. what: is being made, in words."""
        rank, ranks, split = distributed.rank(), distributed.world_size(), self.splits[name]
        done, seen = 0, 0
        loader = iter(ordered_loader(split, self.units, workers=self.workers, rank=rank, world=ranks))
        while True:  # in step with the other ranks, whose batches are before and after
            batch = next(loader, None)
            rows = [] if batch is None else self.rows(batch, split)
            lengths = [len(row) for row in rows]
            counts = distributed.gather_objects(-1 if batch is None else sum(lengths))
            if batch is None:
                if max(counts) < 0:
                    return
                continue
            yield batch, torch.cat(rows), lengths, seen + sum(counts[:rank])
            seen += sum(max(count, 0) for count in counts)
            done += len(batch)
            self.progress(what, min(ranks * done, len(split)), len(split))

    def rows(self, batch: Batch, split: Split) -> list[Tensor]:
        """The features of each row, without padding. Raises UserError where they are not finite."""
        features, lengths = self.source(batch)
        rows = [row[:length] for row, length in zip(features, lengths.tolist(), strict=True)]
        for row, place in zip(rows, batch.index.tolist(), strict=True):
            if not row.isfinite().all():
                raise UserError(
                    f"the {self.source.name} features of {split.names[place]} are not finite: the run diverged, or "
                    "the item is bad"
                )
        return rows


def label(
    source: Cepstra | Layer,
    data: Data,
    folder: Path,
    clusters: int,
    seed: int = 0,
    sample: int = 300_000,
    iterations: int = 15,
    against: str | None = "phone",
    workers: int = 0,
    seconds: float = SECONDS,
    progress: Progress = quiet,
    about: dict | None = None,
) -> dict:
    """Write labels of all splits of `data` to `folder`, and return the content of label.json, which includes `about`.

    The codebook is fitted to at most `sample` frames of train, drawn uniformly. against: the time-aligned labels that
    clusters are compared with, in splits that have them. seconds: of audio per batch. Features are not stored: they
    are computed once for the sample and again to assign clusters. Ranks share the batches;
    the labels are those of one rank.
    """
    begun = time.monotonic()
    frames = Frames(source, data, seconds * data.sample_rate, workers, progress)
    codebook = _fitted(frames, clusters, seed, sample, iterations)
    found = {}
    for name, split in frames.splits.items():
        rows, inertia = _assigned(frames, name, codebook)
        if distributed.rank():
            continue
        found[name] = _written(folder, name, split, rows, clusters) | {"inertia": inertia}
        held = getattr(split, "intervals", {})
        if against in held:
            found[name] |= {"against": against, **_compared(rows, held[against], source, data.sample_rate)}
    if distributed.rank():
        return distributed.gather_objects(None)[0]
    write_atomic(
        folder / "codebook.safetensors", lambda path: save_file({"centroids": codebook.centroids.contiguous()}, path)
    )
    info = {
        **(about or {}),
        "clusters": clusters,
        "hop": source.hop,
        "sample_rate": data.sample_rate,
        "rate": data.sample_rate / source.hop,
        "seed": seed,
        **{key: found["train"][key] for key in ("inertia", "used", "perplexity")},
        "splits": found,
        "seconds": time.monotonic() - begun,
        "commit": commit(),
        "machine": machine(),
    }
    write_json(folder / "label.json", info)  # last: marks the folder as complete
    return distributed.gather_objects(info)[0]


def _fitted(frames: Frames, clusters: int, seed: int, sample: int, iterations: int) -> cluster.Codebook:
    """The codebook of a sample of train's frames."""
    train = frames.of("train", f"{frames.source.name} of train")
    chosen = cluster.sample(((start, x) for _, x, _, start in train), sample, seed)
    if len(chosen) < clusters:
        raise UserError(f"{len(chosen)} frames of train make no {clusters} clusters — set fewer clusters")
    # the first rank's: another machine's sums may differ in their last digits
    made = None if distributed.rank() else cluster.fit(chosen, clusters, seed, iterations)
    return distributed.gather_objects(made)[0]


def _assigned(frames: Frames, name: str, codebook: cluster.Codebook) -> tuple[list[np.ndarray], float]:
    """(the labels of each item of a split, in the split's order; the mean squared distance to its centroid)."""
    mine: dict[int, np.ndarray] = {}
    total, width = 0.0, np.uint16 if len(codebook.centroids) <= NARROW else np.int32
    for batch, features, lengths, _ in frames.of(name, f"labels of {name}"):
        codes, distances = codebook.assign(features)
        total += float(distances.double().sum())
        for place, row in zip(batch.index.tolist(), codes.split(lengths), strict=True):
            mine[place] = row.numpy().astype(width)
    shares = distributed.gather_objects((mine, total))
    rows = [row for _, row in sorted(item for share, _ in shares for item in share.items())]
    return rows, sum(part for _, part in shares) / sum(map(len, rows))


def _written(folder: Path, name: str, split: Split, rows: list[np.ndarray], clusters: int) -> dict:
    """Write a split's labels, and return their statistics."""
    codes, starts = np.concatenate(rows), np.cumsum([0, *map(len, rows)], dtype=np.int64)
    for kind, array in ((CODES, codes), ("starts", starts)):
        write_signed(folder / f"{name}.{kind}.npy", lambda path, array=array: save_array(path, array))
    share = np.bincount(codes, minlength=clusters) / max(len(codes), 1)
    used = share[share > 0]
    return {
        "items": len(split),
        "labels": len(codes),
        "hash": fingerprint(split),
        "used": len(used),
        "perplexity": float(np.exp(-(used * np.log(used)).sum())),
    }


def _compared(rows: list[np.ndarray], intervals: list, source: Cepstra | Layer, rate: int) -> dict:
    """The agreement of labels with the classes at the middles of their frames."""
    middles = [(source.first + source.hop * np.arange(len(row))) / rate for row in rows]
    classes = np.concatenate([labels_at(at, held) for at, held in zip(middles, intervals, strict=True)])
    labelled = classes != ""
    return agreement(classes[labelled], np.concatenate(rows)[labelled])
