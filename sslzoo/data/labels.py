"""Converts cells of tables and JSON values to class labels."""

import math
import re
from collections.abc import Iterable

import numpy as np

from sslzoo.errors import UserError

_NO_VALUE = ("", "nan", "NaN", "<NA>")  # missing values as pandas and numpy write them
_INTEGER = re.compile(r"[+-]?\d+\.0+")  # an integer in a column that pandas made float because of missing values


def name(value) -> str:
    """A value as a label string; "" if missing (None, NaN, whitespace). 1, 1.0, "1" and "1.0" are all "1".

    Raises ValueError, naming the type, for a list or an object.
    """
    if isinstance(value, np.generic):
        value = value.item()
    if value is None:
        return ""
    if isinstance(value, str):
        value = value.strip()
        if value in _NO_VALUE:
            return ""
        return str(int(float(value))) if len(value) < 16 and _INTEGER.fullmatch(value) else value
    if isinstance(value, float):
        if math.isnan(value):
            return ""
        return str(int(value)) if value.is_integer() else str(value)
    if isinstance(value, bool | int):
        return str(value)
    raise ValueError(f"{kind(value)}, not a single value")


def kind(value) -> str:
    """A value's JSON type, for messages."""
    kinds = {dict: "an object", list: "a list", tuple: "a list", bool: "a boolean", type(None): "null"}
    kinds |= {int: "a number", float: "a number", str: "a string"}
    return next((words for known, words in kinds.items() if isinstance(value, known)), f"a {type(value).__name__}")


def column(names: Iterable[str]) -> np.ndarray:
    """Strings as an object array [N], so that one long string does not widen all items."""
    return np.array(list(names), dtype=object)


def check_alike(names: Iterable[str], where: str) -> None:
    """Raise UserError if two labels are the same boolean written differently: True and 1, or True and true."""
    seen: dict[str, str] = {}
    for label in sorted(names):
        value = {"true": "1", "false": "0"}.get(label.lower(), label)
        if value in seen:
            raise UserError(
                f"{where} has labels '{seen[value]}' and '{label}': booleans written in two ways — write them in one"
            )
        seen[value] = label
