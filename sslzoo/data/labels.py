"""Labels by value: what a table's cell or a JSON value is called as a class."""

import math
import re
from collections.abc import Iterable

import numpy as np

from sslzoo.errors import UserError

_NO_VALUE = ("", "nan", "NaN", "<NA>")  # what pandas and numpy write where there is no value
_INTEGER = re.compile(r"[+-]?\d+\.0+")  # an integer in a column that was float because of a gap


def name(value) -> str:
    """What a label is called, "" where there is none (None, NaN, blanks): 1, 1.0, "1" and "1.0" are all "1".

    Raises ValueError, saying what it is, for what is no single value (a list, an object).
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
    """A value's type in the words of JSON."""
    kinds = {dict: "an object", list: "a list", tuple: "a list", bool: "a boolean", type(None): "null"}
    kinds |= {int: "a number", float: "a number", str: "a string"}
    return next((words for known, words in kinds.items() if isinstance(value, known)), f"a {type(value).__name__}")


def column(names: Iterable[str]) -> np.ndarray:
    """Strings as an array [N] of references: a long one does not widen the others."""
    return np.array(list(names), dtype=object)


def check_alike(names: Iterable[str], where: str) -> None:
    """Refuse classes that are one value written in two ways: True and 1, or True and true."""
    seen: dict[str, str] = {}
    for label in sorted(names):
        value = {"true": "1", "false": "0"}.get(label.lower(), label)
        if value in seen:
            raise UserError(
                f"{where} has labels '{seen[value]}' and '{label}': booleans written in two ways — write them in one"
            )
        seen[value] = label
