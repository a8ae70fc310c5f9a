"""Texts, or pairs of texts, with labels, from tables: TSV, CSV, JSON lines."""

import json
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import delimited, files, splits, text_files
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts, check_files, file_stamps
from sslzoo.data.token_store import digest
from sslzoo.errors import ConfigError, UserError, nearest

_KINDS = (".tsv", ".csv", ".jsonl", ".json")


class TextTable(TextData):
    """A table with a line an item.

    files: the table of each split, relative to `path`: .tsv (no quoting), .csv, .jsonl or .json (an object
    a line). valid and test, where they are not named, are taken from train by a hash of the texts.
    text, pair, label: columns. columns: their names, for tables without a header.
    labels: the labels there may be; scores: [lowest, highest], for labels that are numbers.
    on_error: "skip" leaves out lines with a missing field or with a label that may not be.
    Label: label, a string, or a float where `scores` is given.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        files: dict[str, str],
        text: str,
        pair: str | None = None,
        label: str | None = None,
        labels: list[str] | None = None,
        scores: list[float] | None = None,
        columns: list[str] | None = None,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Literal["wordpiece", "characters"] = "wordpiece",
        lowercase: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase)
        check_files(files)
        for file in files.values():
            if not file.endswith(_KINDS):
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
        self.labels, self.scores = list(labels) if labels else None, scores

    def fingerprint(self, split: str) -> str:
        path = files.rooted(self.path) / self.files.get(split, self.files["train"])
        settings = (self.text, self.pair, self.label, self.labels, self.scores, self.columns, self.on_error)
        return digest(file_stamps([path]), split, sorted(self.files.items()), settings)

    def texts(self, split: str) -> Texts:
        root = files.rooted(self.path)
        lacking = [name for name in ("valid", "test") if name not in self.files]
        found = self._read(root / self.files.get(split, self.files["train"]))
        if split in self.files and (split != "train" or not lacking):
            return found
        # the same sentence twice stays on one side
        names = [f"{a}\t{b}" for a, b in zip(found.texts, found.pairs or found.texts, strict=True)]
        given = ["train"] * len(names) + [name for name in ("valid", "test") if name not in lacking]
        filled = splits.fill(given, names + [""] * (len(given) - len(names)), str(root / self.files["train"]))
        rows = np.flatnonzero(filled[: len(names)] == split)
        return Texts(
            [found.texts[i] for i in rows],
            [found.names[i] for i in rows],
            None if found.pairs is None else [found.pairs[i] for i in rows],
            {key: values[rows] for key, values in found.columns.items()},
        )

    def _read(self, path: Path) -> Texts:
        rows, faults = [], {}
        wanted = [name for name in (self.text, self.pair, self.label) if name is not None]
        for i, (line, row) in enumerate(self._rows(path)):
            rows.append((line, row))
            if isinstance(row, str):
                faults[i] = f"{path}, line {line}: {row}"
            elif missing := [name for name in wanted if not str(row.get(name) or "").strip() and row.get(name) != 0]:
                there = ", ".join(row)
                faults[i] = (
                    f"{path}, line {line}: '{missing[0]}' is missing or empty; there is {there}"
                    f"{nearest(missing[0], row)}"
                )
            elif (wrong := self._wrong(row)) is not None:
                faults[i] = f"{path}, line {line}: label {wrong}"
        if not rows:
            raise UserError(f"{path} has no lines")
        kept = [rows[i] for i in files.drop_faulty(str(path), len(rows), faults, self.on_error)]
        columns = {}
        if self.label is not None:
            found = [row[self.label] for _, row in kept]
            columns["label"] = np.array(found, float) if self.scores else np.array([str(x).strip() for x in found])
        return Texts(
            [str(row[self.text]) for _, row in kept],
            [f"{path.name}:{line}" for line, _ in kept],
            None if self.pair is None else [str(row[self.pair]) for _, row in kept],
            columns,
        )

    def _wrong(self, row: dict) -> str | None:
        """What is wrong with a row's label, if anything."""
        label = None if self.label is None else str(row[self.label]).strip()
        if self.labels and label not in self.labels:
            return f"'{label}' is none of {', '.join(self.labels)}"
        if self.scores:
            try:
                if self.scores[0] <= float(label) <= self.scores[1]:
                    return None
            except ValueError:
                pass
            return f"'{label}' is no number from {self.scores[0]:g} to {self.scores[1]:g}"
        return None

    def _rows(self, path: Path):
        """(line number, fields by name, or what is wrong) of each line of a table."""
        if path.suffix.lower() not in delimited.SUFFIXES:
            yield from _json_lines(path)
            return
        for line, row in delimited.table(path, self.columns):
            if isinstance(row, dict):
                for name in (self.text, self.pair, self.label):
                    if name is not None and name not in row:
                        raise UserError(f"{path} has no column '{name}', but {', '.join(row)}{nearest(name, row)}")
            yield line, row


def _json_lines(path: Path):
    """(line number, the object, or what is wrong) of each line."""
    for number, line in enumerate(text_files.rows(text_files.decoded(path)), start=1):
        if not line.strip():
            continue
        try:
            row = json.loads(line)
        except ValueError as error:
            yield number, f"not JSON: {error}"
            continue
        yield number, row if isinstance(row, dict) else f"a {type(row).__name__}, not an object"
