"""JSON lines: an object a line, read line by line; or one array of objects, as pandas writes records."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

from sslzoo.data import labels, text_fields, text_files
from sslzoo.data.text_fields import Fault


def rows(path: Path) -> Iterator[tuple[int, dict | str]]:
    """(line number, the object, or what is wrong) of each line that is not blank; of an array the number is its item's."""
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
    """The items of a file that is one array; None of another."""
    lines = text_files.rows(text_files.decoded(path))
    first = next((line for line in lines if line.strip()), "")
    if not first.lstrip().startswith("["):
        return None
    try:
        return json.loads("".join([first, *lines]), object_pairs_hook=_object)
    except (ValueError, RecursionError):  # such as a list a line
        return None


def texts(path: Path, field: str, fault: Callable[[str], None]) -> Iterator[tuple[int, str]]:
    """(line number, text) of each object that has one. fault: is told of the others, "FILE, line N: …"."""
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
