"""Labelled texts or text pairs from tables: TSV, CSV, JSON lines."""

import copy
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import compressed, delimited, files, json_lines, labels, splits, text_fields
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts, check_files, file_stamps
from sslzoo.data.text_fields import Fault
from sslzoo.data.token_store import digest
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import ConfigError, UserError, nearest

_KINDS = (".tsv", ".csv", ".jsonl", ".json", ".txt")


class TextTable(TextData):
    """A table with one item per line.

    files: the table of each split, relative to `path`: .tsv or .txt (tab-separated, no quoting), .csv, .jsonl or
    .json (one object per line), each also with .gz or .zst. valid and test default to parts of train, by a hash of the
    texts. text, pair, label: names of columns. columns: names of all columns, for tables without a header.
    labels: the allowed labels; scores: [lowest, highest], for labels that are numbers.
    on_error: "skip" leaves out lines with a missing field or a label that is not allowed.
    Label: label, a string (see `labels.name`), or a float if `scores` is given.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        files: dict[str, str],
        text: str,
        pair: str | None = None,
        label: str | None = None,
        labels: list[str | int | float | bool] | None = None,
        scores: list[float] | None = None,
        columns: list[str] | None = None,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        strip_accents: bool = False,
        pack: bool = False,
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents, pack)
        check_files(files)
        for file in files.values():
            if compressed.kind(file) not in _KINDS:
                raise ConfigError(f"data.files: {file} is none of {' '.join(_KINDS)}")
        if label is None and (labels is not None or scores is not None):
            raise ConfigError("data.labels and data.scores say what data.label may be, but data.label is not set")
        if labels is not None and scores is not None:
            raise ConfigError("a label is one of data.labels or within data.scores, not both")
        if scores is not None and (len(scores) != 2 or scores[0] >= scores[1]):
            raise ConfigError(f"data.scores is [lowest, highest], got {scores}")
        if columns is not None:
            for name in (text, pair, label):
                if name is not None and name not in columns:
                    raise ConfigError(f"data.columns has no '{name}'{nearest(name, columns)}")
        self.path, self.files, self.columns, self.on_error = path, dict(files), columns, on_error
        self.text, self.pair, self.label = text, pair, label
        self.labels, self.scores = _names(labels) if labels else None, scores
        self._tables: dict[Path, Texts] = {}  # cache of files already read

    @property
    def text_names(self) -> tuple[str, ...]:
        return (self.text,) if self.pair is None else (self.text, self.pair)

    def fingerprint(self, split: str) -> str:
        path = self._path(self.files.get(split, self.files["train"]))
        settings = (self.text, self.pair, self.label, self.labels, self.scores, self.columns, self.on_error)
        return digest(file_stamps([path]), split, sorted(self.files.items()), settings)

    def texts(self, split: str) -> Texts:
        lacking = [name for name in ("valid", "test") if name not in self.files]
        path = self._path(self.files.get(split, self.files["train"]))
        if path not in self._tables:
            self._tables[path] = self._read(path)
        found = self._tables[path]
        if split in self.files and (split != "train" or not lacking):
            return found
        # duplicate sentences stay in one split
        names = [f"{a}\t{b}" for a, b in zip(found.texts, found.pairs or found.texts, strict=True)]
        given = ["train"] * len(names) + [name for name in ("valid", "test") if name not in lacking]
        filled = splits.fill(given, names + [""] * (len(given) - len(names)), str(self._path(self.files["train"])))
        rows = np.flatnonzero(filled[: len(names)] == split)
        return Texts(
            [found.texts[i] for i in rows],
            [found.names[i] for i in rows],
            None if found.pairs is None else [found.pairs[i] for i in rows],
            {key: values[rows] for key, values in found.columns.items()},
        )

    def unlabelled(self, file: str, key: str) -> Texts:
        """The items of an unlabelled file with a header, relative to `path`, such as a test split that is scored by a
        server: one item per row, with the field `key` (default: the row's index) as column "id". Raises UserError for
        a row without text."""
        sheet, path = copy.copy(self), self._path(file)
        sheet.label = sheet.columns = None
        found: dict[str, list] = {"text": [], "pair": [], "name": [], "id": []}
        for line, row in sheet._rows(path):
            row = row if isinstance(row, str) else self.fields(row)
            lacking = (
                "" if isinstance(row, str) else next((n for n in (self.text, self.pair) if n and n not in row), "")
            )
            if isinstance(row, str) or lacking:
                raise UserError(
                    f"{path}, line {line}: {row if isinstance(row, str) else text_fields.missing(lacking, row)}"
                )
            found["id"].append(row.get(key, len(found["id"])))
            found["name"].append(f"{path.name}:{line}")
            found["text"].append(str(row[self.text]))
            found["pair"].append(None if self.pair is None else str(row[self.pair]))
        if not found["text"]:
            raise UserError(f"{path} has no lines")
        columns = {"id": np.array(found["id"], dtype=object)}
        return Texts(found["text"], found["name"], None if self.pair is None else found["pair"], columns)

    def labelled(self, file: str) -> Texts:
        """The items of another file, relative to `path`, in the format of the splits."""
        return self._read(self._path(file))

    def _path(self, file: str) -> Path:
        """The path of a file. Raises UserError, listing the files that exist, if it does not."""
        path = files.rooted(self.path) / file
        if not path.exists():
            others = sorted(other.name for other in path.parent.glob("*") if compressed.kind(other) in _KINDS)
            raise UserError(
                f"cannot read {path}: No such file"
                + (f"; there are {', '.join(others[:9])}" if others else files.elsewhere(path))
            )
        return path

    def fields(self, row: dict) -> dict:
        """A row with the fields that `text`, `pair` and `label` name; subclasses compute them from other fields. Raises
        Fault."""
        return row

    def _read(self, path: Path) -> Texts:
        lines, items, faults = [], [], {}
        for i, (line, row) in enumerate(self._rows(path)):
            try:
                if isinstance(row, str):
                    raise Fault(row)
                items.append(self._item(self.fields(row)))
            except Fault as error:
                items.append(None)
                faults[i] = f"{path}, line {line}: {error}"
            lines.append(line)
        if not lines:
            raise UserError(f"{path} has no lines")
        kept = files.drop_faulty(str(path), len(lines), faults, self.on_error)
        texts, pairs, found = zip(*(items[i] for i in kept), strict=True)
        columns = {}
        if self.label is not None:
            columns["label"] = np.array(found, float) if self.scores else labels.column(found)
        names = [f"{path.name}:{lines[i]}" for i in kept]
        return Texts(list(texts), names, None if self.pair is None else list(pairs), columns)

    def _item(self, row: dict) -> tuple[str, str | None, str | None]:
        """A row's text, second text and label. Raises Fault if the row is bad."""
        text, pair = (None if name is None else text_fields.text(name, row) for name in (self.text, self.pair))
        if self.label is None:
            return text, pair, None
        try:
            label = labels.name(row.get(self.label))
        except ValueError as error:
            raise Fault(f"label is {error}") from error
        if not label:
            raise Fault(text_fields.missing(self.label, row))
        if self.labels and label not in self.labels:
            raise Fault(f"label '{label}' is none of {', '.join(self.labels)}")
        if self.scores and not _within(label, *self.scores):
            raise Fault(f"label '{label}' is no number from {self.scores[0]:g} to {self.scores[1]:g}")
        return text, pair, label

    def _rows(self, path: Path):
        """(line number, {field: value} or an error message) of each line of a table."""
        if compressed.kind(path) in (".jsonl", ".json"):
            yield from json_lines.rows(path)
            return
        for line, row in delimited.table(path, self.columns):
            if isinstance(row, dict):
                for name in (self.text, self.pair, self.label):
                    if name is not None and name not in row:
                        if name == self.label and self.text in row:
                            raise UserError(
                                f"{path} has no column '{name}', but {', '.join(row)}: if its labels are not public, set "
                                "data.files to files that have labels; submit=FOLDER predicts the others"
                            )
                        near = nearest(name, row) or " — a table without a header needs data.columns=[…], their names"
                        raise UserError(f"{path} has no column '{name}', but {', '.join(row)}{near}")
            yield line, row


def _names(values: list) -> list[str]:
    return [labels.name(value) for value in values]


def _within(label: str, lowest: float, highest: float) -> bool:
    try:
        return lowest <= float(label) <= highest
    except ValueError:
        return False
