"""The fields of a row of a table, or of an object of JSON lines, that are texts."""

import math

from sslzoo.data import labels
from sslzoo.errors import nearest


class Fault(Exception):
    """What is wrong with a row."""


def text(name: str, row: dict) -> str:
    """A text of a row. Raises Fault where there is none."""
    value = row.get(name)
    if isinstance(value, bool | list | dict):
        raise Fault(f"'{name}' is {labels.kind(value)}, not a text")
    if value is None or str(value).strip() == "" or (isinstance(value, float) and math.isnan(value)):
        raise Fault(missing(name, row))
    return str(value)


def missing(name: str, row: dict) -> str:
    return f"'{name}' is missing or empty; there is {', '.join(row)}{'' if name in row else nearest(name, row)}"
