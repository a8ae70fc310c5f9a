"""Writing shards of any data set (see `data.shards`), resumable: what a kill leaves is continued by the same command.

Until the set is whole, <out>/.making holds plan.json, what it is made from, and of each finished shard a file of its
items' places; the manifest is written last. An item that is a file is stored as it is; others are stored without loss:
audio as 32-bit WAV, images as PNG, token ids as .npy.
"""

import hashlib
import io
import json
import shutil
import tarfile
import zlib
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from PIL import Image

from sslzoo.config import leaves
from sslzoo.data import stored
from sslzoo.data.base import Data, Split
from sslzoo.data.image import ImageSplit
from sslzoo.data.shard_parquet import ParquetShard
from sslzoo.data.shard_sets import TOKENIZER, settings_of
from sslzoo.data.shards import MANIFEST, SUFFIXES, VERSION, labels_of
from sslzoo.data.stored import Arrays
from sslzoo.data.targets import fingerprint
from sslzoo.data.text import TextData, token_counts
from sslzoo.disk import remove_unfinished
from sslzoo.errors import ConfigError, UserError
from sslzoo.progress import Progress, quiet
from sslzoo.run import write_atomic, write_json

MAKING = ".making"
FIELDS = ("row", "offset", "size", "crc", "length", "suffix")


class TarShard:
    """Writes one tar shard, with equal bytes for equal items. size: bytes of the file so far."""

    def __init__(self, path: Path):
        self._tar = tarfile.open(path, "w", format=tarfile.USTAR_FORMAT)  # noqa: SIM115 (closed by `close`)
        self.size = 0

    def add(self, key: str, suffix: str, content: bytes, about: bytes) -> tuple[int, int]:
        """(offset, size) of the content of the item that is added."""
        place = self._tar.offset + tarfile.BLOCKSIZE, len(content)
        for ending, part in ((suffix, content), (".json", about)):
            member = tarfile.TarInfo(f"{key}{ending}")
            member.size = len(part)
            self._tar.addfile(member, io.BytesIO(part))
        self.size = self._tar.offset
        return place

    def close(self) -> None:
        self._tar.close()


def encoded(split: Split, index: int, sample_rate: int | None) -> tuple[str, bytes]:
    """(suffix, bytes) of an item as it is stored."""
    file = split.file(index)
    if file is not None:
        try:
            return file.suffix.lower(), file.read_bytes()
        except OSError as error:
            raise UserError(f"cannot read {file}: {error.strerror}") from error
    held = io.BytesIO()
    if isinstance(split, ImageSplit):
        split.picture(index).save(held, "PNG")
        return ".png", held.getvalue()
    item = split.read(index).numpy()
    if item.dtype == np.int64:
        np.save(held, item.astype(np.uint16 if item.max(initial=0) < 1 << 16 else np.uint32))
        return ".npy", held.getvalue()
    if item.ndim == 1:
        soundfile.write(held, item, sample_rate, format="WAV", subtype="FLOAT")
        return ".wav", held.getvalue()
    pixels = item[0] if len(item) == 1 else item.transpose(1, 2, 0)
    Image.fromarray(np.ascontiguousarray(pixels)).save(held, "PNG")
    return ".png", held.getvalue()


def write_shards(
    data: Data, out: Path, plan: dict, progress: Progress = quiet, making: str = MAKING
) -> tuple[dict, bool]:
    """Write the shards of `plan["splits"]` of a set to a folder: (the manifest, whether it was there already).

    plan: "made_from" (a config node), "format" ("tar" or "parquet"), "shard_mb", "splits". Raises ConfigError if the
    folder holds another set, UserError if it holds other files, or the set has changed since the writing began.
    """
    if getattr(data, "pack", False):
        raise ConfigError("shards hold texts one by one: set data.pack=false")
    if (out / MANIFEST).exists():
        found = json.loads((out / MANIFEST).read_text(encoding="utf-8"))
        _agree(out, found["plan"], plan)
        return found, True
    folder = out / making
    if not folder.is_dir() and out.is_dir() and any(path.name[0] != "." for path in out.iterdir()):
        raise UserError(f"{out} is not an empty folder — set out= to another")
    if (folder / "plan.json").exists():
        _agree(out, json.loads((folder / "plan.json").read_text(encoding="utf-8")), plan)
    write_json(folder / "plan.json", plan)
    remove_unfinished(out)
    remove_unfinished(folder)
    parts = {name: _write_split(data, out, folder, name, plan, progress) for name in plan["splits"]}
    if isinstance(data, TextData):
        data.tokenizer.save(out / TOKENIZER)
    manifest = {
        "version": VERSION,
        "modality": data.modality,
        "settings": settings_of(data),
        "splits": parts,
        "plan": plan,
    }
    write_json(out / MANIFEST, manifest)
    shutil.rmtree(folder)
    return manifest, False


def _agree(out: Path, held: dict, plan: dict) -> None:
    old, new = dict(leaves(held)), dict(leaves(plan))
    differ = sorted(key for key in old.keys() | new.keys() if old.get(key) != new.get(key))
    if differ:
        shown = ", ".join(f"{key}: {old.get(key)} -> {new.get(key)}" for key in differ[:4])
        raise ConfigError(f"{out} holds shards of other settings ({shown}) — set out= to another folder, or delete it")


def _write_split(data: Data, out: Path, making: Path, name: str, plan: dict, progress: Progress) -> dict:
    split, suffix, limit = data.split(name), SUFFIXES[plan["format"]], plan["shard_mb"] * 1e6
    ident, rate = fingerprint(split), getattr(data, "sample_rate", None)
    held: list[Arrays] = []
    while (path := making / f"{name}-{len(held):06d}.part").exists():  # shards that an earlier process finished
        held.append(Arrays(path))
        if held[-1].meta["set"] != ident:
            raise UserError(f"{out}: the {name} split has changed since its first shards were written — delete {out}")
    columns = {key: np.asarray(values) for key, values in split.columns.items()}
    endings: dict[str, int] = held[-1].meta["suffixes"] if held else {}
    first = int(held[-1]["row"][-1]) + 1 if held else 0
    left: Iterator = iter(range(first, len(split)))
    waiting = next(left, None)
    skipped = 0
    while waiting is not None:
        number = len(held)
        rows: list[tuple[int, ...]] = []

        def fill(beside: Path, rows: list = rows) -> None:
            nonlocal waiting, skipped
            shard: Any = TarShard(beside) if plan["format"] == "tar" else ParquetShard(beside)
            while waiting is not None and (not rows or shard.size < limit):
                try:
                    ending, content = encoded(split, waiting, rate)
                except UserError:
                    if split.on_error != "skip":
                        raise
                    skipped += 1
                else:
                    place = shard.add(f"{waiting:09d}", ending, content, _about(split, columns, waiting))
                    code = endings.setdefault(ending, len(endings))
                    rows.append((waiting, *place, zlib.crc32(content), int(split.lengths[waiting]), code))
                progress(f"shards of {name}", waiting, len(split))
                waiting = next(left, None)
            shard.close()

        path = out / f"{name}-{number:06d}{suffix}"
        write_atomic(path, fill)
        if not rows:  # the last items could not be read
            path.unlink()
            break
        with open(path, "rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        arrays = dict(zip(FIELDS, np.array(rows, np.int64).T, strict=True))
        meta = {
            "set": ident, "name": path.name, "bytes": path.stat().st_size, "sha256": digest, "items": len(rows),
            "suffixes": endings,
        }  # fmt: skip
        part = making / f"{name}-{number:06d}.part"
        write_atomic(part, partial(stored.write, arrays=arrays, meta=meta))
        held.append(Arrays(part))
    if not held:
        raise UserError(f"{out}: none of the {len(split)} items of {name} can be read")
    return _index(data, split, out, name, plan, held, skipped)


def _about(split: Split, columns: dict[str, np.ndarray], index: int) -> bytes:
    """What a shard says of an item beside it: its name and labels, JSON."""
    said: dict[str, Any] = {"name": str(split.names[index])}
    for name, values in columns.items():
        said[name] = values[index].item() if isinstance(values[index], np.generic) else values[index]
    for name, held in split.intervals.items():
        found = held[index]
        said[name] = [np.asarray(x).tolist() for x in (found.start, found.end, found.label)]
    return json.dumps(said, ensure_ascii=True).encode()


def _index(data: Data, split: Any, out: Path, name: str, plan: dict, held: list[Arrays], skipped: int) -> dict:
    """Write a split's index; its part of the manifest."""
    fields = {key: np.concatenate([part[key] for part in held]) for key in FIELDS}
    rows, fields["lengths"] = fields.pop("row"), fields.pop("length")
    fields["shard"] = np.repeat(np.arange(len(held)), [part.meta["items"] for part in held])
    if data.modality == "speech":
        files = split.file(0) is not None
        fields["rates"] = split.rates[rows] if files else np.full(len(rows), data.sample_rate, np.int64)
        fields["frames"] = split.frames[rows] if files else fields["lengths"]
    if isinstance(data, TextData) and name == "train":
        fields["counts"] = token_counts(_ids(split))
    arrays, about = labels_of(
        {key: values[rows] for key, values in split.columns.items()},
        {key: [values[row] for row in rows.tolist()] for key, values in split.intervals.items()},
    )
    arrays |= fields | stored.encode("names", [split.names[row] for row in rows.tolist()])
    shards = [{key: part.meta[key] for key in ("name", "items", "bytes", "sha256")} for part in held]
    suffixes = list(held[-1].meta["suffixes"])
    meta = {"format": plan["format"], "shards": [shard["name"] for shard in shards], "suffixes": suffixes, **about}
    ident = stored.digest(json.dumps([meta, shards], sort_keys=True), fields["crc"], fields["lengths"])
    write_atomic(out / f"{name}.index", lambda beside: stored.write(beside, arrays, meta, ident))
    return {
        "items": len(rows),
        "units": int(fields["lengths"].sum()),
        "skipped": skipped,
        "index": f"{name}.index",
        "ident": ident,
        "shards": shards,
    }


def _ids(split: Any) -> np.ndarray:
    """All ids of a text split; of one that has no stream of them, those of its items."""
    if hasattr(split, "tokens"):
        return split.tokens
    return np.concatenate([split.read(i).numpy() for i in range(len(split))])
