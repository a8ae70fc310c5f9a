"""A corpus of documents; a document is one item, or several if it is long."""

import logging
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo import rng
from sslzoo.data import corpus_files, files, json_lines, splits, text_files
from sslzoo.data.base import SPLITS
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.sentences import Sentences, SentencesBy, cached_sentences
from sslzoo.data.text import TextData, Texts, check_files, file_stamps
from sslzoo.data.text_files import Repeatable
from sslzoo.data.text_splits import TextSplit
from sslzoo.data.token_store import (
    Strings,
    digest,
    open_array,
    open_arrays,
    row_starts,
    stored,
    token_dtype,
    write_arrays,
)
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import UserError
from sslzoo.progress import track

_VERSION = 1  # of the cached format: increasing it invalidates old caches
_log = logging.getLogger("sslzoo")


class Documents(TextData):
    """The documents of a corpus: each .txt file under a folder, and `field` of each object of .jsonl files; also
    with .gz or .zst. Documents longer than `max_tokens` are split into consecutive items.

    The corpus is read as a stream, document by document. Ids are cached in memory-mapped files, which one process
    writes while others wait; an interrupted write is resumed.

    files: the file of each split, relative to `path`; without it, folders (see `splits.layout`) or files
    (`splits.by_file`) may be splits. A split without files gets a tenth of the training documents, by a hash of file
    name and line. on_error: "skip" leaves out documents that are empty or lack the field, and the rest of a file after
    a read error. sentences_by: where sentences end; see `sentences.split_sentences`.
    """

    has_sentences = True

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        files: dict[str, str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        strip_accents: bool = False,
        field: str = "text",
        pack: bool = False,
        sentences_by: SentencesBy = "rule",
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents, pack)
        self.sentences_by = sentences_by
        if files is not None:
            check_files(files)
        self.path, self.files, self.on_error, self.field = path, dict(files) if files else None, on_error, field
        self._faults: list[str] = []  # error messages of documents left out; "" after the first few
        self._own: tuple[Path, dict[str, list[str]]] | None = None

    def texts(self, split: str) -> Texts:
        """All documents of a split in memory; `split` and the tokenizer stream them instead."""
        found = [
            (f"{name}:{line}", text) for name in self._sources(split) for line, text in self._documents(split, name)
        ]
        return Texts([text for _, text in found], [name for name, _ in found])

    def fingerprint(self, split: str) -> str:
        root, own = self._files()
        return digest(file_stamps(root / name for name in self._sources(split)), split, sorted(own), self._how)

    def lines(self, split: str) -> Iterable[str]:
        sources = self._sources(split)
        return Repeatable(lambda: (text for name in sources for _, text in self._documents(split, name)))

    def open(self, name: str) -> tuple[TextSplit, str]:
        kind = (_VERSION, type(self).__qualname__, self.tokenizer.digest, self.max_tokens)
        folder = stored(f"documents-{digest(*kind, self.fingerprint(name))}", partial(self.write, name))
        found = open_arrays(folder)
        if not len(found["source"]):
            raise UserError(f"{self.path} has no documents for its {name} split: name a file of it in data.files")
        names = DocumentNames(self._sources(name), found["source"], found["line"], found["part"])
        split = TextSplit(found["ids"], found["starts"], names)
        self._tell_parts(name, found["part"])
        return split, folder.name

    def open_sentences(self, name: str) -> Sentences:
        """The sentences and documents of a split, without truncation. Raises UserError if there is no text."""
        sources, what = self._sources(name), f"finding the sentences of {self.path} ({name})"

        def documents() -> Iterator[list[str]]:
            for source in track(sources, what, len(sources)):
                yield from (text_files.split_lines(text) for _, text in self._documents(name, source))

        found = cached_sentences(
            f"{self.path} ({name})", (type(self).__qualname__, self.tokenizer.digest, self.fingerprint(name)),
            documents, self.sentences_by, "file", self.tokenizer.encode_apart, len(self.tokenizer),
        )  # fmt: skip
        self.tell(name, found)
        return found

    def write(self, name: str, folder: Path) -> None:
        sources, room = self._sources(name), self.max_tokens

        def chunks(i: int) -> Iterator[tuple[int, list[tuple[int, str]]]]:
            found: list[tuple[int, str]] = []
            size = 0
            for line, text in self._documents(name, sources[i]):
                found.append((line, text))
                size += len(text)
                if size >= text_files.CHARACTERS:
                    yield i, found
                    found, size = [], 0
            if found:
                yield i, found

        def encode(chunk: tuple[int, list[tuple[int, str]]]) -> dict[str, np.ndarray]:
            source, documents = chunk
            parts = self.tokenizer.encode_parts([text for _, text in documents], room)
            items = [item for pieces in parts for item in pieces]
            return {
                "ids": np.concatenate([np.zeros(0, np.int64), *items]),
                "lengths": np.array([len(item) for item in items], np.int64),
                "source": np.full(len(items), source),
                "line": np.repeat([line for line, _ in documents], [len(pieces) for pieces in parts]),
                "part": np.array([n for pieces in parts for n in range(len(pieces))], np.int64),
            }

        dtypes = {
            "ids": token_dtype(len(self.tokenizer)),
            **dict.fromkeys(("lengths", "source", "line", "part"), np.uint32),
        }
        root, _ = self._files()
        total = sum((root / source).stat().st_size // text_files.CHARACTERS + 1 for source in sources)
        self._faults.clear()
        write_arrays(folder, len(sources), chunks, encode, dtypes, total, f"tokenising {self.path} ({name})")
        if self._faults:
            shown = "; ".join(self._faults[: files.SHOWN])
            _log.warning("%s: left out %s documents, such as %s", self.path, f"{len(self._faults):,}", shown)
        np.save(folder / "starts.npy", row_starts(open_array(folder / "lengths.npy")), allow_pickle=False)

    def _tell_parts(self, name: str, part: np.ndarray) -> None:
        divided, documents = int((part == 1).sum()), int((part == 0).sum())
        if divided and "parts" not in self._told:
            self._told.add("parts")
            _log.warning(
                "%.0f %% of the %s documents (%s of %s) are longer than data.max_tokens=%s and are read in pieces, %s items "
                "in all",
                *(100 * divided / documents, name, f"{divided:,}", f"{documents:,}", self.max_tokens, f"{len(part):,}"),
            )

    @property
    def _how(self) -> tuple[str, str]:
        return self.field, self.on_error

    def _files(self) -> tuple[Path, dict[str, list[str]]]:
        if self._own is None:
            self._own = corpus_files.listed(self.path, self.files)
        return self._own

    def _sources(self, split: str) -> list[str]:
        """The files with a split's documents."""
        _, own = self._files()
        return own.get(split, own["train"])

    def _documents(self, split: str, name: str) -> Iterator[tuple[int, str]]:
        """(line, text) of each document of a file that belongs to the split."""
        root, own = self._files()
        lacking = [part for part in SPLITS if part not in own]
        shared = bool(lacking) and (split == "train" or split in lacking)
        for line, text in self._read(root / name):
            if not shared or _place(f"{name}:{line}", lacking) == split:
                yield line, text

    def _read(self, path: Path) -> Iterator[tuple[int, str]]:
        try:
            if corpus_files.is_json_lines(path.name):
                yield from json_lines.texts(path, self.field, self._fault)
                return
            text = files.read_text(path)
            if text.strip():
                yield 1, text
            else:
                self._fault(f"{path} is empty")
        except UserError as error:
            self._fault(str(error))

    def _fault(self, fault: str) -> None:
        if self.on_error == "raise":
            mend = "" if "on_error" in fault else " — mend or remove it, or leave it out with data.on_error=skip"
            raise UserError(f"{fault}{mend}")
        self._faults.append(fault if len(self._faults) < files.SHOWN else "")


class DocumentNames(Sequence):
    """Names of items, "file:line" or "file:line, part n", made on access."""

    def __init__(self, sources: Sequence[str], source: np.ndarray, line: np.ndarray, part: np.ndarray):
        self.text, self.starts = Strings.pack(sources)
        self.source, self.line, self.part = source, line, part

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index):
        if isinstance(index, slice):
            return [self[i] for i in range(len(self))[index]]
        name = Strings(self.text, self.starts)[int(self.source[index])]
        part = int(self.part[index])
        return f"{name}:{int(self.line[index])}" + (f", part {part + 1}" if part else "")


def _place(name: str, lacking: Sequence[str]) -> str:
    """The split of a training document, by a hash of its name; lacking: splits without files."""
    for part in lacking:
        if rng.derive_seed(part, name) / 2**63 < splits.SHARE:
            return part
    return "train"
