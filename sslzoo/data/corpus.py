"""Running text, in blocks of tokens."""

import hashlib
import logging
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import compressed, corpus_files, files, index, json_lines, splits, text_files
from sslzoo.data.base import CLS, SEP, SPLITS, UNK
from sslzoo.data.portions import SHARE, Portion, check_shares
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.sentences import DocumentsBy, Sentences, SentencesBy, cached_sentences
from sslzoo.data.text import TextData, Texts, check_files, file_stamps
from sslzoo.data.text_files import Repeatable
from sslzoo.data.text_splits import TextBlocks
from sslzoo.data.token_store import digest, open_array, stored, write_ids
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import InputError, UserError
from sslzoo.progress import track

_VERSION = 2  # of the cached format: increasing it invalidates old caches
_MANY = 20  # from this many files on, splits take whole files if these are short
_log = logging.getLogger("sslzoo")


class PlainText(TextData):
    """A text file, or all text files under a folder, in blocks of `max_tokens`: .txt, or .jsonl with one document per
    line in `field` (a blank line is put between documents); each also with .gz or .zst.

    files: the file of each split, relative to `path`, such as {train: a.txt, test: b.txt}; without it, all files are
    read, and folders (see `splits.layout`) or files (`splits.by_file`) may be splits. A split without files gets the
    last twentieth of each training file: not random parts, as adjacent text is too similar. With at least `_MANY`
    files, if a twentieth of the median file is shorter than `max_tokens` characters, it gets whole files instead, by a
    hash of their names. Blocks stand between [CLS] and [SEP], except with tokens=characters.

    shares: exact shares of each training file, taken from its end for valid and test and cut at any character;
    {valid: 0.1} is nanoGPT's split. on_error: "skip" leaves out files that are not UTF-8 or are truncated, and
    lines of JSON without the field.

    sentences_by, documents_by: where sentences and documents end, for objectives that read them; see
    `sentences.split_sentences`. By default a document is a file, or an object of JSON lines.
    """

    has_sentences = True
    documents: DocumentsBy = "file"  # default of documents_by

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
        shares: dict[str, float] | None = None,
        strip_accents: bool = False,
        field: str = "text",
        sentences_by: SentencesBy = "rule",
        documents_by: DocumentsBy | None = None,
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents)
        self.field, self.sentences_by, self.documents_by = field, sentences_by, documents_by
        if files is not None:
            check_files(files)
        if shares is not None:
            check_shares(shares, files or {})
        self.path, self.files, self.on_error = path, dict(files) if files else None, on_error
        self.shares = dict(shares) if shares else None
        self._own: tuple[Path, dict[str, list[str]]] | None = None
        self._planned: dict[str, list[Portion]] = {}
        self._found: dict[Portion, tuple[int, int]] = {}

    def texts(self, split: str) -> Texts:
        """All text of a split in memory, one item per file; `split` and the tokenizer stream it instead."""
        portions = self._portions(split)
        return Texts(["".join(self._pieces(portion)) for portion in portions], [portion.name for portion in portions])

    def fingerprint(self, split: str) -> str:
        portions = self._portions(split)
        stamps = file_stamps(portion.root / portion.name for portion in portions)
        field = (self.field, self.on_error) if any(map(corpus_files.is_json_lines, (p.name for p in portions))) else ()
        return digest(stamps, [(p.part, p.parts, p.shares) for p in portions], *field)

    def lines(self, split: str) -> Iterable[str]:
        portions = self._portions(split)
        return Repeatable(lambda: (line for portion in portions for line in text_files.lines(self._pieces(portion))))

    def split(self, name: str) -> TextBlocks:
        kind = (_VERSION, type(self).__qualname__, self.tokenizer.digest)
        folder = stored(f"corpus-{digest(*kind, self.fingerprint(name))}", partial(self.write, name))
        stream, moving = open_array(folder / "ids.npy"), name == "train"
        blocks = TextBlocks(stream, self.max_tokens, self._wraps, f"{self.path} ({name})", moving)
        self.tell(name, blocks)
        return blocks

    def write(self, name: str, folder: Path) -> None:
        portions = self._portions(name)

        def chunks(i: int) -> Iterator[list[str]]:
            return text_files.chunked(text_files.lines(self._pieces(portions[i])))

        total = sum(text_files.chunks_about(portion.about) for portion in portions)
        what = f"tokenising {self.path} ({name})"
        write_ids(folder, len(portions), chunks, self.stream, len(self.tokenizer), total, what)

    def stream(self, texts: list[str]) -> np.ndarray:
        """int64 [N]: the ids of the texts, concatenated."""
        lines = [line for text in texts for line in text_files.split_lines(text)]
        return np.concatenate([np.zeros(0, np.int64), *self.encode_apart(lines)])

    def encode_apart(self, texts: list[str]) -> list[np.ndarray]:
        """int64 [T] of each text, without special tokens."""
        return self.tokenizer.encode_apart(texts)

    def open_sentences(self, name: str) -> Sentences:
        """The sentences and documents of a split. Raises UserError if there is no text."""
        portions, what = self._portions(name), f"finding the sentences of {self.path} ({name})"
        found = cached_sentences(
            f"{self.path} ({name})",
            (_VERSION, type(self).__qualname__, self.tokenizer.digest, self.fingerprint(name)),
            lambda: (lines for portion in track(portions, what, len(portions)) for lines in self._documents(portion)),
            self.sentences_by, self.documents_by or self.documents, self.encode_apart, len(self.tokenizer),
        )  # fmt: skip
        self.tell(name, found)
        return found

    def _documents(self, portion: Portion) -> Iterator[Iterable[str]]:
        """The lines of a file, or of each object of its JSON lines."""
        pieces = self._pieces(portion)
        yield from (
            map(text_files.split_lines, pieces)
            if corpus_files.is_json_lines(portion.name)
            else [text_files.lines(pieces)]
        )

    @property
    def _wraps(self) -> bool:
        return self.tokenizer.kind != "characters" and self.tokenizer.wraps

    def encode(self, text: str, pair: str | None = None, max_tokens: int | None = None) -> np.ndarray:
        if pair is not None:
            raise InputError("this data is running text, and has no pairs: give one text")
        ids = self.stream([text])
        if max_tokens is not None:
            ids = ids[: max_tokens - 2 * self._wraps]
        return np.concatenate([[CLS], ids, [SEP]]).astype(np.int64) if self._wraps else ids

    def _portions(self, split: str) -> list[Portion]:
        """The portion of each file that belongs to a split, cached."""
        if split not in self._planned:
            self._planned[split] = self._plan(split)
        return self._planned[split]

    def _plan(self, split: str) -> list[Portion]:
        if self._own is None:
            self._own = self._files()
        root, own = self._own
        lacking = [name for name in SPLITS if name not in own and (self.shares is None or name in self.shares)]
        if split not in own and split not in lacking:
            raise UserError(f"this text has no {split} split: data.shares gives it none — set data.shares.{split}=0.05")
        names = own.get(split, own["train"])
        sizes, faults = self._characters(root, names)
        kept = files.drop_faulty(str(root), len(names), faults, self.on_error)
        short = len(kept) >= _MANY and np.median(sizes[kept]) * SHARE < self.max_tokens
        if lacking and self.shares is None and short and (split in lacking or split == "train"):
            given = ["train"] * len(kept) + [name for name in own if name != "train"]
            filled = splits.fill(given, [*(names[i] for i in kept), *given[len(kept) :]], str(root))
            kept = kept[filled[: len(kept)] == split]
            return [Portion(root, names[i], int(sizes[i])) for i in kept]
        if split in own and split != "train":
            return [Portion(root, names[i], int(sizes[i])) for i in kept]
        part = 1 + lacking.index(split) if split in lacking else 0
        shares = tuple(self.shares[name] for name in lacking) if self.shares else None
        return [Portion(root, names[i], int(sizes[i]), part, len(lacking), shares) for i in kept]

    def _bounds(self, portion: Portion) -> tuple[int, int]:
        """(start, stop) of a portion in characters, cached."""
        if portion not in self._found:
            self._found[portion] = portion.bounds(self._whole(portion.root / portion.name))
        return self._found[portion]

    def _pieces(self, portion: Portion) -> Iterator[str]:
        return text_files.stretch(self._whole(portion.root / portion.name), *self._bounds(portion))

    def _whole(self, path: Path, fault: Callable[[str], None] | None = None) -> Iterator[str]:
        """A file's text in pieces. fault: called for bad lines of JSON; default: raise or skip them, by `on_error`."""
        if not corpus_files.is_json_lines(path.name):
            return text_files.decoded(path)
        documents = json_lines.texts(path, self.field, fault or self._left_out)
        return (f"{text.rstrip()}\n\n" for _, text in documents)

    def _left_out(self, fault: str) -> None:
        if self.on_error == "raise":
            raise UserError(fault)

    def _characters(self, root: Path, names: list[str]) -> tuple[np.ndarray, dict[int, str]]:
        """Characters of each file [N], counted once and cached in an index; and error messages of bad files."""
        listing = index.Listing(root, names, ["train"] * len(names), {}, [])
        how = [self.field, self.on_error] if any(map(corpus_files.is_json_lines, names)) else []
        which = "\n".join([str(root.resolve()), *names, *how]).encode(errors="surrogateescape")

        def count(path: Path, _) -> list[int]:
            faults: list[str] = []
            found = sum(map(len, self._whole(path, faults.append)))
            if faults and self.on_error == "raise":
                more = f" (and {len(faults) - 1} more lines like it)" if len(faults) > 1 else ""
                raise UserError(f"{faults[0]}{more}")
            if not found:
                raise UserError(faults[0] if faults else f"{path} is empty")
            return [found, len(faults)]

        name = f"text-{hashlib.sha256(which).hexdigest()[:20]}"
        found = index.opened(name, lambda: listing, ["characters", "left_out"], count, "whole")
        rows = found.rows("train")
        left_out = found.arrays["left_out"][rows]
        for i in np.flatnonzero(left_out)[: files.SHOWN].tolist():
            _log.warning("%s: %d lines without a '%s' that can be read are left out", names[i], left_out[i], self.field)
        return found.arrays["characters"][rows], found.faults(rows)

    def _files(self) -> tuple[Path, dict[str, list[str]]]:
        """(folder, {split: files in it}), of splits that have their own files."""
        return corpus_files.listed(self.path, self.files)


class WikiText(PlainText):
    """WikiText (1609.07843): wiki.{train,valid,test}.tokens, whose "<unk>" becomes [UNK]."""

    documents = "heading"

    def encode_apart(self, texts: list[str]) -> list[np.ndarray]:
        known = [text.split("<unk>") for text in texts]  # [UNK] goes between the parts of a text
        ids = iter(self.tokenizer.encode_apart([part for parts in known for part in parts]))
        found = []
        for parts in known:
            first, *rest = (next(ids) for _ in parts)
            found.append(np.concatenate([first, *(x for part in rest for x in ([UNK], part))]).astype(np.int64))
        return found

    def _files(self) -> tuple[Path, dict[str, list[str]]]:
        if self.files:
            return super()._files()
        root = files.rooted(self.path)
        there = [(name, f"wiki.{name}{end}") for name in SPLITS for end in compressed.packed(".tokens")]
        own = {name: file for name, file in reversed(there) if (root / file).is_file()}
        own = {name: own[name] for name in SPLITS if name in own}
        if "train" not in own:
            first = next(iter(own.values()), None)
            mend = f" — set data.files={{train: {first}}} to train on what there is" if own else ""
            raise UserError(f"{root} has no wiki.train.tokens{mend}")
        return root, {name: [file] for name, file in own.items()}
