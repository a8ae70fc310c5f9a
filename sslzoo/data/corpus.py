"""Running text, cut into blocks."""

import hashlib
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import files, index, splits, text_files, tree
from sslzoo.data.base import CLS, SEP, SPLITS, UNK
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts, check_files, file_stamps
from sslzoo.data.text_files import Repeatable
from sslzoo.data.text_splits import TextBlocks
from sslzoo.data.token_store import digest, open_array, stored, write_ids
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import ConfigError, InputError, UserError

_VERSION = 1  # of the cached tokens: another one makes them anew
_SHARE = 0.05  # of every file's end, for each split that has no file of its own
_MANY = 20  # files, from which on short ones are not divided
_log = logging.getLogger("sslzoo")


class PlainText(TextData):
    """A text file, or every .txt file under a folder, in blocks of `max_tokens`.

    files: the file of each split, relative to `path`, such as {train: a.txt, test: b.txt}; without it, all files are
    read, and folders (see `splits.layout`) or files (`splits.by_file`) may be splits. A split without files takes the
    last twentieth of each training file: text is divided by place, not at random, as neighbours say too much of each
    other. Of many short texts (`_MANY`, of which most have twentieths below `max_tokens` characters) it takes whole
    files, by a hash of their names. Pieces stand between [CLS] and
    [SEP], characters alone. shares: instead, the exact share of each training file that its end gives to
    valid and to test, cut between any characters; {valid: 0.1} is nanoGPT's split. on_error: "skip" leaves out a
    file that is not UTF-8.
    """

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
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents)
        if files is not None:
            check_files(files)
        if shares is not None:
            _check_shares(shares, files or {})
        self.path, self.files, self.on_error = path, dict(files) if files else None, on_error
        self.shares = dict(shares) if shares else None
        self._own: tuple[Path, dict[str, list[str]]] | None = None
        self._planned: dict[str, list[_Portion]] = {}
        self._found: dict[_Portion, tuple[int, int]] = {}

    def texts(self, split: str) -> Texts:
        """All of a split's text in memory, a file an item; `split` and the tokenizer read it by line."""
        portions = self._portions(split)
        return Texts(["".join(self._pieces(portion)) for portion in portions], [portion.name for portion in portions])

    def fingerprint(self, split: str) -> str:
        portions = self._portions(split)
        stamps = file_stamps(portion.root / portion.name for portion in portions)
        return digest(stamps, [(p.part, p.parts, p.shares) for p in portions])

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
        """int64 [N], the ids of the texts one after the other."""
        return self.tokenizer.encode_stream(line for text in texts for line in text.splitlines(keepends=True))

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

    def _portions(self, split: str) -> list["_Portion"]:
        """What a split takes of each file that it reads, found once."""
        if split not in self._planned:
            self._planned[split] = self._plan(split)
        return self._planned[split]

    def _plan(self, split: str) -> list["_Portion"]:
        if self._own is None:
            self._own = self._files()
        root, own = self._own
        lacking = [name for name in SPLITS if name not in own and (self.shares is None or name in self.shares)]
        if split not in own and split not in lacking:
            raise UserError(f"this text has no {split} split: data.shares gives it none — set data.shares.{split}=0.05")
        names = own.get(split, own["train"])
        sizes, faults = _characters(root, names)
        kept = files.drop_faulty(str(root), len(names), faults, self.on_error)
        short = len(kept) >= _MANY and np.median(sizes[kept]) * _SHARE < self.max_tokens
        if lacking and self.shares is None and short and (split in lacking or split == "train"):
            given = ["train"] * len(kept) + [name for name in own if name != "train"]
            filled = splits.fill(given, [*(names[i] for i in kept), *given[len(kept) :]], str(root))
            kept = kept[filled[: len(kept)] == split]
            return [_Portion(root, names[i], int(sizes[i])) for i in kept]
        if split in own and split != "train":
            return [_Portion(root, names[i], int(sizes[i])) for i in kept]
        part = 1 + lacking.index(split) if split in lacking else 0
        shares = tuple(self.shares[name] for name in lacking) if self.shares else None
        return [_Portion(root, names[i], int(sizes[i]), part, len(lacking), shares) for i in kept]

    def _bounds(self, portion: "_Portion") -> tuple[int, int]:
        """The characters that a portion begins and ends at, found once."""
        if portion not in self._found:
            self._found[portion] = portion.bounds()
        return self._found[portion]

    def _pieces(self, portion: "_Portion") -> Iterator[str]:
        return text_files.stretch(portion.root / portion.name, *self._bounds(portion))

    def _files(self) -> tuple[Path, dict[str, list[str]]]:
        """A folder, and the files in it of every split that has files of its own."""
        if self.files:
            return files.rooted(self.path), {name: [file] for name, file in self.files.items()}
        if Path(self.path).is_file():
            return Path(self.path).parent, {"train": [Path(self.path).name]}
        root = files.rooted(self.path)
        suffixes, unread = text_files.SUFFIXES, text_files.UNREAD
        names = tree.look(root, (*suffixes, *unread)).names()
        names, left_out = files.readable(root, names, suffixes, unread, text_files.MEND)
        found = splits.layout(names, str(root))
        given = found.split if set(found.split) != {"train"} else splits.by_file(names, str(root)) or found.split
        for note in [*left_out, *found.said()]:
            _log.warning("%s", note)
        pairs = list(zip(names, given, strict=True))
        return root, {part: [name for name, own in pairs if own == part] for part in SPLITS if part in given}


class WikiText(PlainText):
    """WikiText (1609.07843): wiki.{train,valid,test}.tokens, whose "<unk>" becomes [UNK]."""

    def stream(self, texts: list[str]) -> np.ndarray:
        lines = [line for text in texts for line in text.splitlines(keepends=True)]
        known = [line.split("<unk>") for line in lines]  # [UNK] stands between the parts of a line
        ids = iter(self.tokenizer.encode_apart([part for parts in known for part in parts]))
        found = [np.zeros(0, np.int64)]
        for parts in known:
            for number in range(len(parts)):
                found += [next(ids)] if number == 0 else [[UNK], next(ids)]
        return np.concatenate(found).astype(np.int64)

    def _files(self) -> tuple[Path, dict[str, list[str]]]:
        if self.files:
            return super()._files()
        root = files.rooted(self.path)
        own = {name: f"wiki.{name}.tokens" for name in SPLITS if (root / f"wiki.{name}.tokens").is_file()}
        if "train" not in own:
            first = next(iter(own.values()), None)
            mend = f" — set data.files={{train: {first}}} to train on what there is" if own else ""
            raise UserError(f"{root} has no wiki.train.tokens{mend}")
        return root, {name: [file] for name, file in own.items()}


def _characters(root: Path, names: list[str]) -> tuple[np.ndarray, dict[int, str]]:
    """The characters of each file [N], counted once and kept in an index; and what is wrong with the bad ones."""
    listing = index.Listing(root, names, ["train"] * len(names), {}, [])
    which = hashlib.sha256("\n".join([str(root.resolve()), *names]).encode(errors="surrogateescape")).hexdigest()[:20]
    found = index.opened(
        f"text-{which}", lambda: listing, ["characters"], lambda path, _: text_files.count_characters(path), "whole"
    )
    rows = found.rows("train")
    return found.arrays["characters"][rows], found.faults(rows)


def _check_shares(shares: dict[str, float], files: dict[str, str]) -> None:
    if not shares or set(shares) - {"valid", "test"} or min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        message = f"data.shares gives valid and test parts of the text above 0 and together below 1; got {shares}"
        raise ConfigError(message)
    if both := sorted(set(shares) & set(files)):
        raise ConfigError(f"{both[0]} is in data.files and in data.shares: leave out one of them")


@dataclass(frozen=True)
class _Portion:
    """Part 0 of a file is what its ends, the `parts` others, leave: each end has its share, or a twentieth."""

    root: Path
    name: str
    size: int  # characters of the file
    part: int = 0
    parts: int = 0
    shares: tuple[float, ...] | None = None

    @property
    def cuts(self) -> list[int]:
        """Where the parts end, in characters, but the last; twentieths end where the line does that they end in."""
        if self.shares is not None:
            return [int(self.size * (1 - sum(self.shares[i:]))) for i in range(self.parts)]
        return [round(self.size * (1 - _SHARE * (self.parts - i))) for i in range(self.parts)]

    @property
    def about(self) -> int:
        """Its characters, give or take a line."""
        ends = [0, *self.cuts, self.size]
        return ends[self.part + 1] - ends[self.part]

    def bounds(self) -> tuple[int, int]:
        """The characters at which this part begins and ends."""
        cuts = self.cuts
        if self.shares is None:  # a text without line ends is cut between characters
            cuts = text_files.after_line_ends(self.root / self.name, cuts)
        ends = [0, *cuts, self.size]
        return ends[self.part], ends[self.part + 1]
