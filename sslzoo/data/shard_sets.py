"""Data sets read from shards (see `data.shards`): audio, images, token ids."""

from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from sslzoo.data import cache, files, pixels, stored
from sslzoo.data.audio import AudioSplit, check_audio
from sslzoo.data.base import Data, Split
from sslzoo.data.image import ImageData, ImageSplit, check_images
from sslzoo.data.index import Check
from sslzoo.data.remote import Member
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.shards import Items, Shards
from sslzoo.data.text import TextData, Texts, unigram_entropy
from sslzoo.data.tokenizer import Tokenizer
from sslzoo.errors import ConfigError, UserError

TOKENIZER = "tokenizer.json"


class _AudioShardSplit(AudioSplit):
    def __init__(self, items: Items, sample_rate: int, cut: int | None):
        frames, rates = items.array("frames"), items.array("rates")
        super().__init__(Path(str(items.folder)), items.names, frames, rates, items.columns, sample_rate, cut)
        self.items, self.intervals = items, items.intervals

    def file(self, index: int) -> Member:
        return self.items.content(index)


class _ImageShardSplit(ImageSplit):
    def __init__(self, items: Items, size: int, channels: int, most: int):
        super().__init__(items.names, items.columns, size, channels)
        self.items, self.intervals, self.most = items, items.intervals, most

    def file(self, index: int) -> Member:
        return self.items.content(index)

    def picture(self, index: int) -> Image.Image:
        return pixels.opened(self.file(index), self.size, self.most)


class _TextShardSplit(Split):
    def __init__(self, items: Items):
        self.items, self.names, self.columns, self.intervals = items, items.names, items.columns, items.intervals
        self.lengths = items.array("lengths")

    def read(self, index: int, seed: int | None = None) -> Tensor:
        found = self.items.content(index)
        try:
            ids = np.load(found, allow_pickle=False)
        except (ValueError, EOFError) as error:
            raise UserError(f"{found} is no array of token ids: {error}") from error
        return torch.from_numpy(ids.astype(np.int64))


class AudioShards(Data):
    """Audio in shards; settings as of an audio folder (`data.audio.AudioData`). path: a folder or a URL.

    check: see `data.shards.Shards`.
    """

    modality = "speech"

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        sample_rate: int = 16000,
        max_seconds: float | None = None,
        min_seconds: float = 0.1,
        on_error: Literal["raise", "skip"] = "raise",
        check: Check | None = None,
    ):
        check_audio(sample_rate, max_seconds, min_seconds)
        if isinstance(batch, BySeconds):
            batch.rate = sample_rate
        self.path, self.batch, self.sample_rate = path, batch, sample_rate
        self.max_seconds, self.min_seconds, self.on_error, self.check = max_seconds, min_seconds, on_error, check
        self._opened: dict[str, AudioSplit] = {}

    @cached_property
    def shards(self) -> Shards:
        return Shards(self.path, self.modality, self.check)

    def split(self, name: str) -> AudioSplit:
        if name not in self._opened:
            items = self.shards.items(name)
            frames, rates = items.array("frames"), items.array("rates")
            short = np.flatnonzero(frames < self.min_seconds * rates)
            if len(short):
                why = f"shorter than data.min_seconds={self.min_seconds:g}"
                faults = {
                    int(i): f"{items.names[i]} is {frames[i] / rates[i]:.3g} s ({frames[i]} samples), {why}"
                    for i in short
                }
                kept = files.drop_faulty(f"{self.path} ({name})", len(items), faults, self.on_error)
                items = Items(items.folder, items.arrays, stored.narrowed(items.rows, kept))
            cut = None if self.max_seconds is None else round(self.max_seconds * self.sample_rate)
            split = _AudioShardSplit(items, self.sample_rate, cut)
            split.on_error = self.on_error
            self._opened[name] = split
        return self._opened[name]


class ImageShards(ImageData):
    """Images in shards; settings as of an image folder (`data.image.ImageFolder`). path: a folder or a URL.

    check: see `data.shards.Shards`.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount,
        size: int,
        channels: int,
        mean: list[float],
        std: list[float],
        on_error: Literal["raise", "skip"] = "raise",
        check: Check | None = None,
        resolution: int | None = None,
        max_pixels: int = pixels.MOST_PIXELS,
    ):
        super().__init__(path, batch, size, channels, mean, std)
        check_images(size, resolution, max_pixels)
        self.on_error, self.check, self.resolution, self.max_pixels = on_error, check, resolution, max_pixels
        self._opened: dict[str, ImageSplit] = {}

    @cached_property
    def shards(self) -> Shards:
        return Shards(self.path, self.modality, self.check)

    def split(self, name: str) -> ImageSplit:
        if name not in self._opened:
            split = _ImageShardSplit(self.shards.items(name), self.size, self.channels, self.max_pixels)
            split.on_error, split.resolution = self.on_error, self.resolution
            self._opened[name] = split
        return self._opened[name]


class TextShards(TextData):
    """Texts in shards, as ids of the tokenizer that lies beside them. path: a folder or a URL.

    max_tokens: at least the longest item's. check: see `data.shards.Shards`.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        on_error: Literal["raise", "skip"] = "raise",
        check: Check | None = None,
    ):
        super().__init__(batch, vocab_size, max_tokens)
        self.path, self.on_error, self.check = path, on_error, check

    @cached_property
    def shards(self) -> Shards:
        return Shards(self.path, self.modality, self.check)

    @cached_property
    def own(self) -> Tokenizer:
        """The tokenizer of the ids in the shards."""
        shards = self.shards
        content = shards.folder.read(TOKENIZER)
        name = f"shards-tokenizer-{stored.digest(content.decode(errors='replace'))}.json"

        def keep(path: Path) -> None:
            path.write_bytes(content)

        return Tokenizer.load(cache.cached_file(name, keep))

    @property
    def tokenizer(self) -> Tokenizer:
        if self._tokenizer is None:
            if len(self.own) > self.vocab_size:
                raise ConfigError(
                    f"the shards in {self.path} have {len(self.own)} ids: set data.vocab_size={len(self.own)}"
                )
            self._tokenizer = self.own
        return self._tokenizer

    def split(self, name: str) -> Split:
        if self.tokenizer.saved_digest != self.own.saved_digest:
            raise UserError(
                f"the shards in {self.path} hold ids of another tokenizer than the run's: give it the texts themselves, or "
                "shards that were written with its own"
            )
        split = _TextShardSplit(self.shards.items(name))
        if (most := int(split.lengths.max())) > self.max_tokens:
            raise UserError(f"the items in {self.path} have up to {most} tokens: set data.max_tokens={most}")
        split.on_error = self.on_error
        return split

    def train_counts(self) -> np.ndarray:
        return self.shards.items("train").arrays["counts"]

    @cached_property
    def unigram_entropy(self) -> float:
        return unigram_entropy(self.train_counts())

    def texts(self, split: str) -> Texts:
        raise UserError(f"the shards in {self.path} hold token ids and no texts: name the set that they were made from")


SETTINGS: dict[str, tuple[str, ...]] = {  # of a set's data, by modality, that its shards' manifest says
    "speech": ("sample_rate",),
    "image": ("size", "channels", "mean", "std"),
    "text": ("vocab_size", "max_tokens"),
}


def settings_of(data: Any) -> dict:
    """The settings with which shards of a set are read as the set is."""
    found = {name: getattr(data, name) for name in SETTINGS[data.modality]}
    for name in {"mean", "std"} & found.keys():
        found[name] = found[name] * (data.channels if len(found[name]) == 1 else 1)
    if data.modality == "text":
        found["vocab_size"] = max(data.vocab_size, data.real_vocab_size)
    return found
