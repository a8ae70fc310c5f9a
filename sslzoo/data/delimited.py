"""Reads rows of TSV, CSV and similar text files, with fields of any size.

Rows end at \\n, \\r\\n or \\r only, in a CSV only outside quotes; blank rows are skipped.
"""

import csv
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from sslzoo.data import compressed, text_files
from sslzoo.errors import UserError, nearest

SUFFIXES = (".tsv", ".csv")
_LIMIT = 2**31 - 1  # maximum characters of a field; the csv module's default is 128 KiB

Row = tuple[int, list[str] | str]  # line number of the row's start, from 1; its fields, or an error message


def rows(path: Path, delimiter: str, quoted: bool) -> Iterator[Row]:
    """The non-blank rows of a UTF-8 file. quoted: whether fields may be in double quotes, as in CSV.

    Raises UserError if the file cannot be read or is not UTF-8.
    """
    ended = False

    def lines() -> Iterator[str]:
        nonlocal ended
        yield from text_files.rows(text_files.decoded(path))
        ended = True

    quoting = csv.QUOTE_MINIMAL if quoted else csv.QUOTE_NONE
    reader = csv.reader(lines(), delimiter=delimiter, quoting=quoting, skipinitialspace=quoted)
    while True:
        line = reader.line_num + 1
        try:
            with _long_fields():
                row = next(reader)
        except StopIteration:
            return
        if ended:  # a complete row reads no further line
            yield line, "a quote is opened in this row and never closed"
        elif any(field and not field.isspace() for field in row):
            yield line, row


def table(path: Path, columns: Sequence[str] | None = None) -> Iterator[tuple[int, dict[str, str] | str]]:
    """(line number, {column: field} or error message) of each row of a .csv, or of a .tsv or .txt (no quoting).

    columns: their names, for a table without a header. Names are stripped of whitespace, fields are not. Raises
    UserError if two columns have the same name.
    """
    tab = compressed.kind(path) != ".csv"
    header = None if columns is None else list(columns)
    for line, row in rows(path, "\t" if tab else ",", quoted=not tab):
        if isinstance(row, str):
            if header is None:
                raise UserError(f"{path}, line {line}: {row}")
            yield line, row
        elif header is None:
            header = _header(path, row)
        elif len(row) != len(header):
            yield line, f"{len(row)} fields, but there should be {len(header)}"
        else:
            yield line, dict(zip(header, row, strict=True))


def manifest(path: Path, roles: Sequence[str] = ("path", "split")) -> tuple[dict[str, list[str]], list[int]]:
    """The columns of a table with a header, names and fields stripped of whitespace, and the line number of each row.

    roles: columns with a meaning. Raises UserError if the first is missing, if another is missing and a column has a
    similar name, and for a row that does not fit the header.
    """
    lines, found = [], {}
    for line, row in table(path):
        if isinstance(row, str):
            raise UserError(f"{path}, line {line}: {row}")
        if not found:
            found = {name: [] for name in row}
            _check_roles(path, list(row), roles)
        lines.append(line)
        for name, values in found.items():
            values.append(row[name].strip())
    if not lines:
        raise UserError(f"{path} has no rows: it needs a header and a line for each file")
    found.pop("", None)
    return found, lines


def _header(path: Path, row: list[str]) -> list[str]:
    names = [name.strip() for name in row]
    twice = sorted({name for name in names if name and names.count(name) > 1})
    if twice:
        raise UserError(f"{path} has two columns named '{twice[0]}': rename or remove one of them")
    others = [(sign, name) for sign, name in ((";", "semicolons"), ("\t", "tabs"), (",", "commas")) if sign in names[0]]
    if len(names) == 1 and others:
        wanted = "commas" if compressed.kind(path) == ".csv" else "tabs"
        raise UserError(f"{path} has {others[0][1]} between its columns, and should have {wanted}: save it with those")
    return names


def _check_roles(path: Path, names: list[str], roles: Sequence[str]) -> None:
    for role in roles:
        near = None if role in names else next((name for name in names if _alike(name, role)), None)
        if near is not None:
            raise UserError(f"{path} has a column '{near}', but none named '{role}': name it '{role}', or otherwise")
    if roles[0] not in names:
        mend = nearest(roles[0], names) or f" — give the column of files the name '{roles[0]}'"
        raise UserError(f"{path} has no column '{roles[0]}', but {', '.join(names)}{mend}")


def _alike(name: str, role: str) -> bool:
    """Whether a name is a role up to case, a plural s, two swapped letters, or additional words."""
    words = re.findall(r"[^\W_]+", name.lower())
    swapped = {role[:i] + role[i + 1] + role[i] + role[i + 2 :] for i in range(len(role) - 1)}
    return not {role, f"{role}s", *swapped}.isdisjoint([*words, "".join(words)])


@contextmanager
def _long_fields():
    """Raise the csv field size limit; it is global to the process, so it is restored between rows."""
    before = csv.field_size_limit(_LIMIT)
    try:
        yield
    finally:
        csv.field_size_limit(before)
