"""Running text, cut into blocks."""

from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import files
from sslzoo.data.base import SPLITS, UNK
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextBlocks, TextData, Texts, check_files
from sslzoo.errors import ConfigError, UserError

_SHARE = 0.05  # of every file's end, for each split that has no file of its own


class PlainText(TextData):
    """A text file, or every .txt file under a folder, in blocks of `max_tokens`.

    files: the file of each split, relative to `path`, such as {train: a.txt, test: b.txt}; without it,
    all files are read. A split without a file takes the last twentieth of each training file: text is
    divided by place, not at random, as neighbours say too much of each other. Word pieces stand between
    [CLS] and [SEP], characters alone. shares: instead, the exact share of each training file that its end gives to
    valid and to test, cut between any characters; {valid: 0.1} is nanoGPT's split. on_error: "skip" leaves out a
    file that is not UTF-8.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Literal["wordpiece", "characters"] = "wordpiece",
        lowercase: bool = True,
        files: dict[str, str] | None = None,
        on_error: Literal["raise", "skip"] = "raise",
        shares: dict[str, float] | None = None,
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase)
        if files is not None:
            check_files(files)
        if shares is not None:
            _check_shares(shares, files or {})
        self.path, self.files, self.on_error = path, dict(files) if files else None, on_error
        self.shares = dict(shares) if shares else None

    def texts(self, split: str) -> Texts:
        root, own = self._files()
        lacking = [name for name in SPLITS if name not in own and (self.shares is None or name in self.shares)]
        if split not in own and split not in lacking:
            raise UserError(f"this text has no {split} split: data.shares gives it none — set data.shares.{split}=0.05")
        found = self._read(root, own.get(split, own["train"]))
        if split in own and split != "train":
            return found
        part = 1 + lacking.index(split) if split in lacking else 0
        shares = self.shares and [self.shares[name] for name in lacking]
        return Texts([_divide(text, len(lacking), shares)[part] for text in found.texts], found.names)

    def split(self, name: str) -> TextBlocks:
        stream = self.stream(self.opened(name).texts)
        wrap, moving = self.tokens == "wordpiece", name == "train"
        return TextBlocks(stream, self.max_tokens, wrap, f"{self.path} ({name})", moving)

    def stream(self, texts: list[str]) -> np.ndarray:
        """int64 [N], the ids of the texts one after the other."""
        return self.tokenizer.encode_stream(line for text in texts for line in text.splitlines(keepends=True))

    def _files(self) -> tuple[Path, dict[str, list[str]]]:
        """A folder, and the files in it of every split that has files of its own."""
        if self.files:
            return files.rooted(self.path), {name: [file] for name, file in self.files.items()}
        if Path(self.path).is_file():
            return Path(self.path).parent, {"train": [Path(self.path).name]}
        root = files.rooted(self.path)
        return root, {"train": files.walk(root, (".txt",))}

    def _read(self, root: Path, names: list[str]) -> Texts:
        texts, faults = [], {}
        for i, name in enumerate(names):
            try:
                texts.append(files.read_utf8(root / name))
            except UserError as error:
                faults[i] = str(error)
        kept = files.sift(str(root), len(names), faults, self.on_error)
        return Texts(texts, [names[i] for i in kept])


class WikiText(PlainText):
    """WikiText (1609.07843): wiki.{train,valid,test}.tokens, whose "<unk>" becomes [UNK]."""

    def stream(self, texts: list[str]) -> np.ndarray:
        ids = super().stream(texts)
        unknown = self.tokenizer.encode_stream(["<unk>"])
        if len(ids) < len(unknown):
            return ids
        windows = np.lib.stride_tricks.sliding_window_view(ids, len(unknown))
        starts = np.flatnonzero((windows == unknown).all(axis=1))
        kept = np.ones(len(ids), bool)
        kept[(starts[:, None] + np.arange(1, len(unknown))).ravel()] = False
        ids[starts] = UNK
        return ids[kept]

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


def _check_shares(shares: dict[str, float], files: dict[str, str]) -> None:
    if not shares or set(shares) - {"valid", "test"} or min(shares.values()) <= 0 or sum(shares.values()) >= 1:
        said = f"data.shares gives valid and test parts of the text above 0 and together below 1; got {shares}"
        raise ConfigError(said)
    if both := sorted(set(shares) & set(files)):
        raise ConfigError(f"{both[0]} is in data.files and in data.shares: leave out one of them")


def _divide(text: str, pieces: int, shares: list[float] | None) -> list[str]:
    """The text without its end, and the end in `pieces` parts: of `shares`, or a twentieth each, cut where lines end."""
    if shares is not None:
        ends = [int(len(text) * (1 - sum(shares[i:]))) for i in range(pieces)]
        return [text[a:b] for a, b in zip([0, *ends], [*ends, len(text)], strict=True)]
    cuts = [round(len(text) * (1 - _SHARE * (pieces - i))) for i in range(pieces)]
    # a text without line ends is cut between characters
    cuts = [text.find("\n", cut) + 1 or cut for cut in cuts]
    return [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
