"""Reads JSON lines (one object per line) or one array of objects (pandas' orient="records")."""

import json
import logging
import re
from collections.abc import Callable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

from sslzoo.data import labels, text_fields, text_files
from sslzoo.data.text_fields import Fault

_HALF = re.compile("[\ud800-\udfff]")
_log = logging.getLogger("sslzoo")


def rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    """(line number, object or error message) of each non-blank line; for an array, the number of the item."""
    halves = 0
    for number, row in _read(path):
        whole = row if isinstance(row, str) else {key: _whole(value) for key, value in row.items()}
        halves += whole != row
        yield number, whole
    if halves:
        _say_halves(path, halves)


def _whole(value: Any) -> Any:
    """Replace lone surrogates, which JSON escapes may contain, by U+FFFD."""
    return _HALF.sub("\ufffd", value) if isinstance(value, str) else value


@cache
def _say_halves(path: Path, halves: int) -> None:
    _log.warning("%s: half of a character's two escapes (\\ud83d alone) is read as U+FFFD, in rows: %d", path, halves)


def _read(path: Path) -> Iterator[tuple[int, dict | str]]:
    items = _array(path)
    for number, item in enumerate(items or (), start=1):
        yield number, item if isinstance(item, dict) else f"{labels.kind(item)}, not an object"
    if items is not None:
        return
    for number, line in enumerate(text_files.rows(text_files.decoded(path)), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line, object_pairs_hook=_object)
        except (ValueError, RecursionError) as error:
            yield number, f"not JSON: {error}"
            continue
        yield number, row if isinstance(row, dict) else f"{labels.kind(row)}, not an object"


def _array(path: Path) -> list | None:
    """The items of a file that is one JSON array; None for other files."""
    lines = text_files.rows(text_files.decoded(path))
    first = next((line for line in lines if line.strip()), "")
    if not first.lstrip().startswith("["):
        return None
    try:
        return json.loads("".join([first, *lines]), object_pairs_hook=_object)
    except (ValueError, RecursionError):  # such as one list per line
        return None


def texts(path: Path, field: str, fault: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """(line number, text) of each object that has one. fault: called with "FILE, line N: …" for the others."""
    for number, row in rows(path):
        try:
            if isinstance(row, str):
                raise Fault(row)
            found = text_fields.text(field, row)
        except Fault as error:
            fault(f"{path}, line {number}: {error}")
        else:
            yield number, found


def _object(pairs: list[tuple]) -> dict:
    found = dict(pairs)
    if len(found) < len(pairs):
        keys = [key for key, _ in pairs]
        raise ValueError(f"'{next(key for key in keys if keys.count(key) > 1)}' is there twice")
    return found
