"""Shards: the items of a set in a few large files, and an index of where each is, so that any item is read by itself.

<path>/manifest.json         settings; of each split its items and units, its index, its shards with bytes and SHA-256
<path>/train-000000.tar      <key>.<suffix>, an item's bytes, and <key>.json, its name and labels (webdataset's layout);
                             or train-000000.parquet, a row an item
<path>/train.index           `stored.Arrays`: shard, offset, size, CRC-32, length, name and labels of each item
<path>/tokenizer.json        of text

As any item can be read, the sampler draws from shards as from files: the items of a step are a function of the step,
for any number of ranks and workers. `sslzoo shard` writes them (`data.shard_writing`); a folder of tar files of others
has no manifest, and is scanned once (`data.shard_scan`).
"""

import hashlib
import json
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from sslzoo.data import cache, stored
from sslzoo.data.index import Check
from sslzoo.data.remote import Folder, Member
from sslzoo.data.stored import Arrays, Columns, Names, Rows
from sslzoo.data.token_store import RaggedIntervals
from sslzoo.errors import UserError

MANIFEST, VERSION = "manifest.json", 1
SUFFIXES = {"tar": ".tar", "parquet": ".parquet"}
HASHED = (
    1 << 30
)  # bytes: shards of up to that many together are hashed with data.check=null, of more their sizes are compared
AGAIN = "get it again, or write the set again with `sslzoo shard`"


class Items:
    """The items of one split, at `rows` of its index.

    names, columns, intervals: as of a `Split`. meta: the index's, with the names of the shards and their format.
    """

    def __init__(self, folder: Folder, arrays: Arrays, rows: Rows):
        self.folder, self.arrays, self.rows, self.meta = folder, arrays, rows, arrays.meta

    def __len__(self) -> int:
        return self.rows.stop - self.rows.start if isinstance(self.rows, slice) else len(self.rows)

    @property
    def names(self) -> Names:
        return Names(self.arrays, "names", self.rows)

    @property
    def columns(self) -> "ShardColumns":
        return ShardColumns(self.arrays, self.meta["columns"], self.rows)

    @property
    def intervals(self) -> dict[str, Any]:
        found = {}
        for name in self.meta["intervals"]:
            parts = (self.arrays[f"interval_{part}.{name}"] for part in ("starts", "start", "end", "label"))
            held = RaggedIntervals(*parts)
            rows = range(len(held))[self.rows] if isinstance(self.rows, slice) else self.rows.tolist()
            found[name] = held if len(rows) == len(held) else [held[row] for row in rows]
        return found

    def array(self, name: str) -> np.ndarray:
        """A field of the index [N]."""
        return self.arrays[name][self.rows]

    def content(self, index: int) -> Member:
        """The bytes of item `index`. Raises UserError if they are not those that the index was made of."""
        row = self.rows.start + index if isinstance(self.rows, slice) else int(self.rows[index])
        shard = self.meta["shards"][int(self.arrays["shard"][row])]
        first, second = int(self.arrays["offset"][row]), int(self.arrays["size"][row])
        where = f"{self.folder}/{shard}, item {Names(self.arrays)[row]}"
        if self.meta["format"] == "tar":
            found = self.folder.read(shard, first, first + second)
        else:
            from sslzoo.data.shard_parquet import read_row

            found = read_row(self.folder, shard, first, second)
        if zlib.crc32(found) != int(self.arrays["crc"][row]):
            raise UserError(
                f"{where} has other bytes than when the index was made: the shard is damaged, of another set, or newer than "
                f"its index — {AGAIN}"
            )
        return Member(found, where, self.meta["suffixes"][int(self.arrays["suffix"][row])])


class ShardColumns(Mapping):
    """Label columns: strings as codes of distinct values, numbers as they are."""

    def __init__(self, arrays: Arrays, names: dict[str, str], rows: Rows):
        self.arrays, self.names, self.rows = arrays, names, rows
        self._texts = Columns(arrays, [name for name, kind in names.items() if kind == "text"], rows)

    def __getitem__(self, name: str) -> np.ndarray:
        if self.names.get(name) == "number":
            return self.arrays[f"number.{name}"][self.rows]
        return self._texts[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    def __len__(self) -> int:
        return len(self.names)


def labels_of(columns: Mapping[str, np.ndarray], intervals: Mapping[str, Any]) -> tuple[dict[str, np.ndarray], dict]:
    """(arrays of labels to store, what to say of them in the index's meta). columns: [N] each; intervals: `Intervals`
    [N] each."""
    arrays: dict[str, np.ndarray] = {}
    kinds = {}
    for name, values in columns.items():
        values = np.asarray(values)
        kinds[name] = "text" if values.dtype.kind in "OUS" else "number"
        arrays |= Columns.encode(name, values.tolist()) if kinds[name] == "text" else {f"number.{name}": values}
    for name, held in intervals.items():
        arrays[f"interval_starts.{name}"] = np.cumsum([0, *(len(x.label) for x in held)], dtype=np.int64)
        for part in ("start", "end", "label"):
            joined = np.concatenate([np.asarray(getattr(x, part)) for x in held] or [np.zeros(0)])
            arrays[f"interval_{part}.{name}"] = joined.astype(str) if part == "label" else joined
    return arrays, {"columns": kinds, "intervals": list(intervals)}


class Shards:
    """A folder of shards, checked against its manifest, or scanned if it has none.

    check: "whole" compares the SHA-256 of every shard on this machine (once for each state of the files), "headers" the
    sizes, "none" nothing; null: "whole" up to `HASHED` bytes. Whatever it is, an item whose bytes have changed is found
    when it is read. Raises UserError if the shards are not those of the manifest.
    """

    def __init__(self, path: str, modality: str, check: Check | None = None):
        self.folder = Folder(path)
        self._scanned: Arrays | None = None
        there = self.folder.listing()
        if MANIFEST not in there:
            from sslzoo.data.shard_scan import scanned

            self.manifest, self._scanned = scanned(self.folder, there, modality)
            return
        self.manifest = _manifest(self.folder)
        if self.manifest["modality"] != modality:
            kinds = {"speech": "audio_shards", "image": "image_shards", "text": "text_shards"}
            raise UserError(
                f"{path} holds shards of {self.manifest['modality']}: set data={kinds[self.manifest['modality']]}"
            )
        if check != "none":
            _check(self.folder, self.manifest, there, check)

    def items(self, split: str) -> Items:
        """The items of a split. Raises UserError if there is none, or its index is of other shards."""
        found = self.manifest["splits"].get(split)
        if not found or not found["items"]:
            raise UserError(f"{self.folder} has no {split} split, but {', '.join(self.manifest['splits'])}")
        if self._scanned is not None:
            arrays = self._scanned
            return Items(self.folder, arrays, slice(*arrays.meta["splits"][split]))
        name, ident = found["index"], found["ident"]
        local = self.folder.local
        try:
            path = local / name if local is not None else cache.cached_file(
                f"shards-{stored.digest(self.folder.path, ident)}-{name}", lambda beside: self.folder.copied(name, beside)
            )  # fmt: skip
            arrays = Arrays(path)
        except (OSError, ValueError) as error:
            raise UserError(f"{self.folder}/{name} cannot be read: {error} — {AGAIN}") from error
        if arrays.ident != ident:
            raise UserError(f"{self.folder}/{name} is not the index that {MANIFEST} was written with — {AGAIN}")
        return Items(self.folder, arrays, slice(0, found["items"]))


def _manifest(folder: Folder) -> dict:
    """The manifest, its names checked. Raises UserError if it is none, or leads out of its folder."""
    try:
        found = json.loads(folder.read(MANIFEST))
        names = [x["name"] for split in found["splits"].values() for x in split["shards"]]
        names += [split["index"] for split in found["splits"].values()]
        known = found["version"] == VERSION and found["modality"] in ("speech", "image", "text")
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{folder}/{MANIFEST} is not one of `sslzoo shard`'s, or damaged — {AGAIN}") from error
    if not known:
        raise UserError(f"{folder}/{MANIFEST} is of another version of sslzoo's shards — {AGAIN}")
    for name in names:
        if not isinstance(name, str) or Path(name).name != name or name in ("", ".", ".."):
            raise UserError(f"{folder}/{MANIFEST} names {name!r}, which leads out of its folder: it is not read")
    return found


def _check(folder: Folder, manifest: dict, there: dict[str, tuple[int, float]], check: Check | None) -> None:
    """Raise UserError, naming the shard, if the shards are not those of the manifest."""
    every = [shard for split in manifest["splits"].values() for shard in split["shards"]]
    listed = {shard["name"]: shard for shard in every}
    if len(listed) < len(every):
        twice = next(x["name"] for i, x in enumerate(every) if x["name"] in {y["name"] for y in every[:i]})
        raise UserError(f"{folder}/{MANIFEST} lists {twice} twice — {AGAIN}")
    local = folder.local
    for name in there.keys() - listed.keys():
        if name.endswith(tuple(SUFFIXES.values())) and "/" not in name:
            same = [x for x in every if x["bytes"] == there[name][0]]
            found = _sha256(local / name) if same and local is not None else None
            copied = [x["name"] for x in same if x["sha256"] == found]
            what = f"a copy of {copied[0]}" if copied else "of another set, or newer than the index"
            raise UserError(f"{folder}/{name} is {what}: the manifest does not list it — move it away")
    for name, shard in listed.items():
        if name not in there:
            raise UserError(f"{folder} lacks {name}, which its manifest lists — {AGAIN}")
        size = there[name][0]
        if size < shard["bytes"]:
            raise UserError(f"{folder}/{name} is cut short: {size:,} of {shard['bytes']:,} bytes are there — {AGAIN}")
        if size > shard["bytes"]:
            raise UserError(
                f"{folder}/{name} has {size:,} bytes, and {shard['bytes']:,} when the index was made: the index is older "
                f"than its shards — {AGAIN}"
            )
    total = sum(shard["bytes"] for shard in every)
    if local is None or not (check == "whole" or (check is None and total <= HASHED)):
        return
    state = json.dumps([str(local), [[name, *there[name], listed[name]["sha256"]] for name in sorted(listed)]])

    def compare(beside: Path) -> None:
        for name, shard in listed.items():
            found = _sha256(local / name)
            if found == shard["sha256"]:
                continue
            other = next((x["name"] for x in every if x["sha256"] == found), None)
            newer = there[name][1] > there[MANIFEST][1]
            what = f"a copy of {other}" if other else "of another set, or damaged"
            more = ": the index is older than it" if newer and not other else ""
            raise UserError(f"{folder}/{name} is {what} (its SHA-256 is not the manifest's){more} — {AGAIN}")
        beside.touch()

    cache.cached_file(f"shards-compared-{stored.digest(state)}", compare)


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
