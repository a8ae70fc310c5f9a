"""Streaming frozen features to disk: the files that `sslzoo extract` writes.

    <out>/features-00000.npy   float32 [rows, L, D], the items of this file, concatenated
    <out>/index.csv            item, file, start, rows: the file and rows of each item
    <out>/labels.csv           item, split and the data's label columns, a row per item in the order of index.csv
    <out>/about.json           the layers' names, what a row is, and the sizes

To read them, numpy is enough: `np.load(file, mmap_mode="r")[start : start + rows]`.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch

from sslzoo.data.base import Data
from sslzoo.data.loader import ordered_loader
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.frozen import Frozen, units
from sslzoo.progress import Progress, quiet
from sslzoo.run import write_atomic, write_json

FILE_BYTES = 2**28


def extract(
    encoder: Encoder,
    data: Data,
    split: str,
    out: Path,
    layer: Any = "all",
    what: Literal["tokens", "items"] = "tokens",
    device: str | torch.device = "cpu",
    progress: Progress = quiet,
) -> dict:
    """Write the features of every item of a split, and return the content of about.json.

    layer: "all", or a number from 0 (the trunk's input) to `encoder.depth`; negative ones count from the last.
    what: a row is a token ("tokens") or the mean of an item's tokens ("items"); an encoder without tokens has items
    only. Memory: a batch and one file's rows. Raises UserError if the folder is not empty.
    """
    if what == "tokens" and "tokens" not in encoder.offers:
        raise ConfigError(f"{type(encoder).__name__} gives one vector an item and has no tokens — set what=items")
    if layer != "all" and (type(layer) is not int or not -encoder.depth - 1 <= layer <= encoder.depth):
        raise ConfigError(f"layer must be all or from 0 to {encoder.depth}, got {layer}")
    out = Path(out)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise UserError(f"{out} is not an empty folder — set out= to another")
    source, opened = Frozen(encoder, device), data.split(split)
    pending: list[np.ndarray] = []
    index: list[tuple[str, str, int, int]] = []
    places: list[int] = []
    files, held, done = 0, 0, 0

    def flush() -> None:
        nonlocal pending, files, held
        rows = np.concatenate(pending)
        write_atomic(out / _name(files), lambda path: save_array(path, rows))
        pending, files, held = [], files + 1, 0

    for batch in ordered_loader(opened, units(data)):
        if what == "tokens":
            features, lengths = source.tokens(batch)
            items = [rows[:length].numpy() for rows, length in zip(features, lengths.tolist(), strict=True)]
        else:
            items = list(source.items(batch)[:, None].numpy())
        if layer != "all":
            items = [rows[:, : encoder.depth + 1][:, [layer]] for rows in items]
        for place, rows in zip(batch.index.tolist(), items, strict=True):
            places.append(place)
            index.append((opened.names[place], _name(files), held, len(rows)))
            # a copy: a view would keep the whole padded batch alive
            pending.append(rows.copy())
            held += len(rows)
        done += len(batch)
        progress(f"features of {split}", done, len(opened))
        if sum(rows.nbytes for rows in pending) >= FILE_BYTES:
            flush()
    if pending:
        flush()
    columns = {"item": [row[0] for row in index], "split": [split] * len(index)}
    # a label column named item or split is written as label.item or label.split
    named = {name: f"label.{name}" if name in columns else name for name in opened.columns}
    columns |= {named[name]: np.asarray(opened.columns[name])[places].tolist() for name in named}
    rows = list(zip(*columns.values(), strict=True))
    write_atomic(out / "index.csv", lambda path: _write_rows(path, ("item", "file", "start", "rows"), index))
    write_atomic(out / "labels.csv", lambda path: _write_rows(path, list(columns), rows))
    about = {
        "what": what,
        "layers": source.layers if layer == "all" else [source.layers[: encoder.depth + 1][layer]],
        "dim": items[0].shape[2],
        "stride": encoder.stride,
        "sample_rate": getattr(data, "sample_rate", None),
        "split": split,
        "items": len(index),
        "rows": sum(row[3] for row in index),
        "files": files,
        "labels": list(named.values()),
    }
    write_json(out / "about.json", about)
    return about


def _name(number: int) -> str:
    return f"features-{number:05d}.npy"


def save_array(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:  # given a path, numpy may add a suffix
        np.save(file, array)


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[tuple]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
