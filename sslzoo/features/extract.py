"""Streaming frozen features to disk: the files that `sslzoo extract` writes.

    <out>/features-00000.npy   float32 [rows, L, D], the items of this file, concatenated; or .safetensors, as
                               "features"
    <out>/index.csv            item, file, start, rows, content: the file and rows of each item, and the hash of its
                               content
    <out>/labels.csv           item, split and the data's label columns, a row per item in the order of index.csv
    <out>/about.json           the manifest, written last: layers' names, what a row is, sizes, each file's SHA-256, and
                               hashes of the encoder and the data

To read them, numpy is enough: `np.load(file, mmap_mode="r")[start : start + rows]`.
"""

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from safetensors import safe_open
from safetensors.numpy import save_file

import sslzoo
from sslzoo import distributed
from sslzoo.data.base import Data, Split
from sslzoo.data.content import digest_of, item_hash
from sslzoo.data.loader import batch_loader, ordered_batches
from sslzoo.data.targets import fingerprint
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.frozen import Frozen, units
from sslzoo.features.identity import code_hash, encoder_hash
from sslzoo.features.ranks import by_first
from sslzoo.progress import Progress, quiet
from sslzoo.run import sha256, write_atomic, write_json

FILE_BYTES = 2**28
UNFINISHED = "unfinished.json"  # there until about.json is
INDEX = ("item", "file", "start", "rows", "content")  # the columns of index.csv


def extract(
    encoder: Encoder,
    data: Data,
    split: str,
    out: Path,
    layer: Any = "all",
    what: Literal["tokens", "items"] = "tokens",
    device: str | torch.device = "cpu",
    progress: Progress = quiet,
    format: Literal["npy", "safetensors"] = "npy",
) -> dict:
    """Write the features of every item of a split, and return the content of about.json. A call that was killed is
    continued by the next: its files stay.

    layer: "all", or a number from 0 (the trunk's input) to `encoder.depth`; negative ones count from the last.
    what: a row is a token ("tokens") or the mean of an item's tokens ("items"); an encoder without tokens has items
    only. Memory: a batch and one file's rows. Ranks share the batches, and write files of their own. Raises UserError
    if the folder holds anything else.
    """
    if what == "tokens" and "tokens" not in encoder.offers:
        raise ConfigError(f"{type(encoder).__name__} gives one vector an item and has no tokens — set what=items")
    if layer != "all" and (type(layer) is not int or not -encoder.depth - 1 <= layer <= encoder.depth):
        raise ConfigError(f"layer must be all or from 0 to {encoder.depth}, got {layer}")
    if format not in FORMATS:
        raise ConfigError(f"format must be {' or '.join(FORMATS)}, got {format}")
    source, opened = Frozen(encoder, device), data.split(split)
    settings = {"what": what, "layer": layer, "split": split, "format": format}
    settings |= {"encoder": encoder_hash(encoder), "code": code_hash(encoder), "items": fingerprint(opened)}
    out, world = Path(out), distributed.world_size()
    if (about := by_first(lambda: _begun(out, settings))) is not None:
        return about
    files = by_first(lambda: _files(out))
    there = np.zeros(len(opened), bool)
    there[[item[0] for file in files for item in file["items"]]] = True
    plan = ordered_batches(opened.lengths, np.arange(len(opened)), units(data))
    left = [batch for batch in plan if not there[batch].all()]
    done, writer = int(there.sum()), Writer(out, format, files)
    for batch in batch_loader(opened, left[distributed.rank() :: world], world=world):
        if what == "tokens":
            features, lengths = source.tokens(batch)
            found = [rows[:length].numpy() for rows, length in zip(features, lengths.tolist(), strict=True)]
        else:
            found = list(source.items(batch)[:, None].numpy())
        if layer != "all":
            found = [rows[:, : encoder.depth + 1][:, [layer]] for rows in found]
        hashes = [item_hash(x[:n] if x.ndim == 1 else x) for x, n in zip(batch.inputs, batch.lengths, strict=True)]
        for place, rows, content in zip(batch.index.tolist(), found, hashes, strict=True):
            writer.add(place, rows, content)
        writer.flush(FILE_BYTES)
        done += len(batch) * world
        progress(f"features of {split}", min(done, len(opened)), len(opened))
    writer.flush()
    made = distributed.gather_objects(writer.written)
    files = files + sorted((file for share in made for file in share), key=lambda file: file["file"])
    return by_first(lambda: _finish(out, source, opened, data, settings, files))


class Writer:
    """Writes features to files of this rank, numbered between those of the other ranks and after those that are
    there."""

    def __init__(self, out: Path, format: str, files: list[dict]):
        self.out, self.format = out, format
        numbers = [int(file["file"].split("-")[1].split(".")[0]) for file in files]
        self.number = distributed.rank() + max(numbers, default=-1) + 1
        self.written: list[dict] = []
        self.pending: list[np.ndarray] = []
        self.rows = self.bytes = 0  # of what is pending
        self.items: list[list[int]] = []  # of the file that is filled: place, start, rows, content

    def add(self, place: int, rows: np.ndarray, content: int) -> None:
        """The features of the item at `place`, and the hash of its content."""
        self.items.append([place, self.rows, len(rows), content])
        self.pending.append(rows.copy())  # a view would keep the whole padded batch alive
        self.rows, self.bytes = self.rows + len(rows), self.bytes + rows.nbytes

    def flush(self, least: int = 0) -> None:
        """Write a file of what was added, if that is `least` bytes or more."""
        if not self.pending or self.bytes < least:
            return
        rows, path = np.concatenate(self.pending), self.out / f"features-{self.number:05d}.{self.format}"
        write_atomic(path, lambda beside: FORMATS[self.format](beside, rows))
        # after the features: a file without its list is written again
        self.written.append({"file": path.name, "rows": len(rows), "sha256": sha256(path), "items": self.items})
        write_json(_list(path), self.written[-1])
        self.pending, self.items, self.rows, self.bytes = [], [], 0, 0
        self.number += distributed.world_size()


def _begun(out: Path, settings: dict) -> dict | None:
    """The content of about.json of a folder that is done already; None for one to begin, or to go on with."""
    said = read_json_file(out / "about.json") or read_json_file(out / UNFINISHED)
    if said is None:
        if out.exists() and (not out.is_dir() or any(out.iterdir())):
            raise UserError(f"{out} is not an empty folder — set out= to another")
        write_json(out / UNFINISHED, {"settings": settings})
        return None
    differ = [name for name, value in settings.items() if said.get("settings", {}).get(name) != value]
    if differ:
        raise UserError(f"{out} holds features of another {' and '.join(differ)} — set out= to another folder")
    return said if (out / "about.json").exists() else None


def _files(out: Path) -> list[dict]:
    """What an earlier call said of each of its files; those after one that is damaged are written again."""
    found: list[dict] = []
    for path in sorted(out.glob("features-*.list.json")):
        said = read_json_file(path)
        file = out / str((said or {}).get("file"))
        if said is None or path.name != _list(file).name or not file.exists() or sha256(file) != said["sha256"]:
            break
        found.append(said)
    return found


def _finish(out: Path, source: Frozen, opened: Split, data: Data, settings: dict, files: list[dict]) -> dict:
    """Write the tables and about.json."""
    encoder, layer, items = source.encoder, settings["layer"], [item for file in files for item in file["items"]]
    places = [place for place, *_ in items]
    index = [
        (opened.names[place], file["file"], start, rows, f"{content:016x}")
        for file in files
        for place, start, rows, content in file["items"]
    ]
    columns = {"item": [row[0] for row in index], "split": [settings["split"]] * len(index)}
    # a label column named item or split is written as label.item or label.split
    named = {name: f"label.{name}" if name in columns else name for name in opened.columns}
    columns |= {named[name]: np.asarray(opened.columns[name])[places].tolist() for name in named}
    labels = list(zip(*columns.values(), strict=True))
    write_atomic(out / "index.csv", lambda path: _write_rows(path, INDEX, index))
    write_atomic(out / "labels.csv", lambda path: _write_rows(path, list(columns), labels))
    shape = array_shape(out / files[0]["file"])
    if settings["what"] == "items" and layer == "all" and source.in_tokens:
        source.has_layers(source.layers[: encoder.depth + 1] + ["pooled"] * (shape[1] > encoder.depth + 1))
    content = np.array([item[3] for item in sorted(items)], np.uint64)
    about = {
        "what": settings["what"],
        "layers": source.layers if layer == "all" else [source.layers[: encoder.depth + 1][layer]],
        "dim": shape[2],
        "stride": encoder.stride,
        "sample_rate": getattr(data, "sample_rate", None),
        "split": settings["split"],
        "items": len(items),
        "rows": sum(file["rows"] for file in files),
        "files": [{name: file[name] for name in ("file", "rows", "sha256")} for file in files],
        "labels": list(named.values()),
        "content": digest_of(content),
        "sslzoo": sslzoo.__version__,
        "settings": settings,
    }
    write_json(out / "about.json", about)
    for path in (out / UNFINISHED, *out.glob("features-*.list.json")):
        path.unlink(missing_ok=True)
    return about


def array_shape(path: Path) -> tuple[int, ...]:
    """The shape of a file's features, read without them."""
    if path.suffix == ".npy":
        return np.load(path, mmap_mode="r").shape
    with safe_open(path, "np") as file:
        return tuple(file.get_slice("features").get_shape())


def read_json_file(path: Path) -> dict | None:
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None


def _list(path: Path) -> Path:
    """What is known of a file's items until all files are written."""
    return path.with_name(f"{path.stem}.list.json")


def save_array(path: Path, array: np.ndarray) -> None:
    with open(path, "wb") as file:  # given a path, numpy may add a suffix
        np.save(file, array)


def save_tensor(path: Path, array: np.ndarray) -> None:
    save_file({"features": array}, path)


FORMATS = {"npy": save_array, "safetensors": save_tensor}


def _write_rows(path: Path, header: Sequence[str], rows: Sequence[tuple]) -> None:
    with open(path, "w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
