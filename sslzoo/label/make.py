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
    are computed once for the sample and again to assign clusters. Ranks share the batches; the labels are those of one rank.
    """
    begun = time.monotonic()
    splits = {name: data.split(name) for name in SPLITS}
    units, rank, ranks = seconds * data.sample_rate, distributed.rank(), distributed.world_size()

    def frames(name: str, what: str) -> Iterator[tuple[Batch, Tensor, list[int], int]]:
        """Yield (batch, the features of all its frames, concatenated, the number of frames in each row, the place of its
        first frame among those of all batches), of this rank's batches."""
        done, seen, split = 0, 0, splits[name]
        loader = iter(ordered_loader(split, units, workers=workers, rank=rank, world=ranks))
        while True:  # in step with the other ranks, whose batches are before and after
            batch = next(loader, None)
            features, lengths = ([], torch.zeros(0)) if batch is None else source(batch)
            counts = distributed.gather_objects(-1 if batch is None else int(lengths.sum()))
            if batch is None:
                if max(counts) < 0:
                    return
                continue
            rows = [row[:length] for row, length in zip(features, lengths.tolist(), strict=True)]
            for row, place in zip(rows, batch.index.tolist(), strict=True):
                if not row.isfinite().all():
                    raise UserError(
                        f"the {source.name} features of {split.names[place]} are not finite: the run diverged, or "
                        "the item is bad"
                    )
            yield batch, torch.cat(rows), [len(row) for row in rows], seen + sum(counts[:rank])
            seen += sum(max(count, 0) for count in counts)
            done += len(batch)
            progress(what, min(ranks * done, len(split)), len(split))

    train = frames("train", f"{source.name} of train")
    chosen = cluster.sample(((start, x) for _, x, _, start in train), sample, seed)
    if len(chosen) < clusters:
        raise UserError(f"{len(chosen)} frames of train make no {clusters} clusters — set fewer clusters")
    # the first rank's: another machine's sums may differ in their last digits
    codebook = distributed.gather_objects(cluster.fit(chosen, clusters, seed, iterations) if rank == 0 else None)[0]
    del chosen
    found = {}
    for name, split in splits.items():
        mine: dict[int, np.ndarray] = {}
        total = 0.0
        for batch, features, lengths, _ in frames(name, f"labels of {name}"):
            codes, distances = codebook.assign(features)
            total += float(distances.double().sum())
            for place, row in zip(batch.index.tolist(), codes.split(lengths), strict=True):
                mine[place] = row.numpy().astype(np.uint16 if clusters <= NARROW else np.int32)
        shares = distributed.gather_objects((mine, total))
        if rank:
            continue
        rows = [row for _, row in sorted(item for share, _ in shares for item in share.items())]
        found[name] = _written(folder, name, split, rows, clusters)
        found[name]["inertia"] = sum(part for _, part in shares) / found[name]["labels"]
        held = getattr(split, "intervals", {})
        if against in held:
            found[name] |= {"against": against, **_compared(rows, held[against], source, data.sample_rate)}
    if rank:
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
