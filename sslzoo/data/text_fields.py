"""Reads text fields from rows of tables and JSON objects."""

import math

from sslzoo.data import labels
from sslzoo.errors import nearest


class Fault(Exception):
    """An error in a row."""


def text(name: str, row: dict) -> str:
    """The text in field `name` of a row. Raises Fault if it is missing, empty or not a text."""
    value = row.get(name)
    if isinstance(value, bool | list | dict):
        raise Fault(f"'{name}' is {labels.kind(value)}, not a text")
    if value is None or str(value).strip() == "" or (isinstance(value, float) and math.isnan(value)):
        raise Fault(missing(name, row))
    return str(value)


def missing(name: str, row: dict) -> str:
    return f"'{name}' is missing or empty; there is {', '.join(row)}{'' if name in row else nearest(name, row)}"
