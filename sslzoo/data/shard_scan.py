"""Scanning tar files of others in webdataset's layout: which items they hold, and where.

Members of one key (the path up to the first dot of the file's name) are an item: an audio file or an image, and
beside it .cls (its class), .txt (its transcript) or .json (labels by name). Nothing is unpacked. A member whose name
leads out of the folder (absolute, or with ..), and links, are refused.
"""

import json
import tarfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np

from sslzoo.data import audio, cache, image, labels, sound, splits, stored
from sslzoo.data.remote import Folder, Member
from sslzoo.data.shards import labels_of
from sslzoo.data.stored import Arrays
from sslzoo.errors import UserError
from sslzoo.progress import track

_VERSION = 1  # increase when what is found in the same files changes
_LABELS = {".cls": "label", ".txt": "transcript"}
_BLOCK = tarfile.BLOCKSIZE


def scanned(folder: Folder, there: dict[str, tuple[int, float]], modality: str) -> tuple[dict, Arrays]:
    """(what a manifest would say, the index), from the cache if the files are as they were when it was made. Raises
    UserError for damaged, doubled or dangerous archives."""
    shards = {name: about for name, about in there.items() if name.endswith(".tar")}
    if not shards:
        packed = next((name for name in there if name.endswith((".tar.gz", ".tgz", ".tar.zst"))), None)
        more = f" ({packed} is compressed: unpack it with gunzip or zstd -d, to a .tar)" if packed else ""
        raise UserError(f"{folder} has no manifest.json and no .tar files{more} — `sslzoo shard` writes shards")
    if modality == "text":
        raise UserError(f"{folder} has no manifest.json: shards of text are read from those that `sslzoo shard` wrote")
    state = stored.digest(json.dumps([_VERSION, folder.path, modality, sorted(shards.items())]))
    path = cache.cached_file(f"index-shards-{state}", lambda beside: _write(beside, folder, shards, modality))
    arrays = Arrays(path)
    parts = {name: {"items": stop - start} for name, (start, stop) in arrays.meta["splits"].items()}
    return {"modality": modality, "splits": parts}, arrays


def _write(path: Path, folder: Folder, shards: dict[str, tuple[int, float]], modality: str) -> None:
    found: list[dict] = []
    prints: dict[tuple, str] = {}
    for number, name in enumerate(track(shards, f"reading {folder}", len(shards))):
        items = list(_items(folder, name, shards[name][0], modality))
        key = tuple((item["name"], item["size"], item["crc"]) for item in items)
        if key and key in prints:
            raise UserError(f"{folder}/{name} is a copy of {prints[key]}: every item would count twice — move it away")
        prints[key] = name
        found += [item | {"shard": number, "of": name} for item in items]
    if not found:
        kinds = "audio files" if modality == "speech" else "images"
        raise UserError(f"{folder}: its .tar files hold no {kinds}")
    known = splits.named(word for name in shards for word in _words(name))
    split = [next((known[word] for word in _words(item["of"]) if word in known), "train") for item in found]
    filled = splits.fill(split, [item["name"] for item in found], str(folder))
    order = np.argsort(filled, kind="stable")
    found, filled = [found[i] for i in order], filled[order]
    names = list(dict.fromkeys(label for item in found for label in item["labels"]))
    columns = {name: labels.column([item["labels"].get(name, "") for item in found]) for name in names}
    arrays, about = labels_of(columns, {})
    fields = ("shard", "offset", "size", "crc", "frames", "rates")
    arrays |= {field: np.array([item[field] for item in found], np.int64) for field in fields}
    endings = sorted({item["ending"] for item in found})
    arrays["suffix"] = np.array([endings.index(item["ending"]) for item in found], np.uint8)
    arrays |= stored.encode("names", [item["name"] for item in found])
    ends = {
        x: [int(np.searchsorted(filled, x, side)) for side in ("left", "right")] for x in ("train", "valid", "test")
    }
    meta = {"format": "tar", "shards": list(shards), "suffixes": endings, "splits": ends, **about}
    stored.write(path, arrays, meta, stored.digest(json.dumps(meta)))


def _words(name: str) -> list[str]:
    """The words of a shard's path that may name its split: imagenet-train-000001.tar, val/000.tar."""
    return [word for part in PurePosixPath(name).with_suffix("").parts for word in part.replace("_", "-").split("-")]


def _items(folder: Folder, shard: str, size: int, modality: str) -> Iterator[dict]:
    """The items of a shard, in its order."""
    suffixes = audio.SUFFIXES if modality == "speech" else image.SUFFIXES
    where = f"{folder}/{shard}"
    groups: dict[str, dict] = {}
    with folder.opened(shard) as file:
        for member in _members(file, where, size):
            place = PurePosixPath(member.name)
            key, _, ending = place.name.partition(".")
            group = groups.setdefault(str(place.parent / key), {"labels": {}})
            kind = f".{ending.lower()}"
            if kind.endswith(suffixes):
                if "size" in group:
                    raise UserError(f"{where} has two items of the key {key}: {member.name} is the second")
                content = _read(file, member, where)
                group |= {"offset": member.offset_data, "size": member.size, "crc": zlib.crc32(content)}
                group["ending"] = next(suffix for suffix in suffixes if kind.endswith(suffix))
                frames, rate = sound.inspect(Member(content, f"{where}, {member.name}"), "headers") if (
                    modality == "speech"
                ) else (1, 1)  # fmt: skip
                group |= {"name": member.name, "frames": frames, "rates": rate}
            elif kind in _LABELS:
                group["labels"][_LABELS[kind]] = _read(file, member, where).decode("utf-8", "replace").strip()
            elif kind == ".json":
                group["labels"] |= _flat(_read(file, member, where), f"{where}, {member.name}")
    for group in groups.values():
        if "size" in group:
            yield group


def _members(file: Any, where: str, size: int) -> Iterator[tarfile.TarInfo]:
    """The plain files of an archive. Raises UserError if it is cut short or leads out of its folder."""
    try:
        with tarfile.open(None, "r:", file) as archive:
            for member in archive:
                path = PurePosixPath(member.name.replace("\\", "/"))
                if path.is_absolute() or ".." in path.parts:
                    raise UserError(
                        f"{where} has a member {member.name!r}, which leads out of its folder: it is not read"
                    )
                if member.isdir():
                    continue
                if not member.isreg():
                    raise UserError(f"{where} has a member {member.name!r} that is no plain file but a link or a device: "
                                    "it is not read")  # fmt: skip
                if member.offset_data + member.size > size:
                    raise UserError(f"{where} is cut short within {member.name} — get it again")
                yield member
    except tarfile.TarError as error:
        raise UserError(f"{where} is no tar file, or is cut short or damaged: {error} — get it again") from error
    file.seek(max(size - _BLOCK, 0))
    if any(file.read(_BLOCK)):
        raise UserError(f"{where} is cut short: the end of an archive is not there — get it again")


def _read(file: Any, member: tarfile.TarInfo, where: str) -> bytes:
    at = file.tell()
    file.seek(member.offset_data)
    found = file.read(member.size)
    file.seek(at)
    if len(found) < member.size:
        raise UserError(f"{where} is cut short within {member.name} — get it again")
    return found


def _flat(content: bytes, where: str) -> dict[str, str]:
    """The labels in an item's .json: its plain values by name."""
    try:
        found = json.loads(content)
    except ValueError as error:
        raise UserError(f"{where} is no JSON: {error}") from error
    if not isinstance(found, dict):
        return {}
    plain = {key: value for key, value in found.items() if value is None or isinstance(value, str | int | float)}
    return {str(key): labels.name(value) for key, value in plain.items() if key not in ("name", "key")}
