"""Base classes of image sets, and folders of image files."""

import copy
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from PIL import Image, features
from torch import Tensor

from sslzoo.data import file_labels, files, index, pixels, splits, stored, tree
from sslzoo.data.base import Data, Split
from sslzoo.data.index import Check, Index, Listing
from sslzoo.data.pixel_cache import PixelCache
from sslzoo.data.sampler import ByCount
from sslzoo.errors import ConfigError

SUFFIXES = (
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".gif", ".webp", ".tif", ".tiff", ".ppm", ".pgm", ".pbm",
    ".pnm", ".jp2", ".j2k",
)  # fmt: skip
# Pillow cannot read these
UNREAD = (
    ".heic", ".heif", ".jxl", ".cr2", ".cr3", ".nef", ".arw", ".dng", ".raf", ".orf", ".rw2", ".svg", ".psd",
    ".exr", ".hdr", ".tga", ".dds", ".dcm",
)  # fmt: skip
if features.check("avif"):
    SUFFIXES += (".avif",)
else:
    UNREAD += (".avif",)


class ImageSplit(Split):
    """Images as uint8 [C, size, size]. A subclass implements `picture`."""

    # pixels a side for cropping views; None: `size`; see `for_views`
    resolution: int | None = None

    def __init__(self, names: Sequence[str], columns: Mapping[str, np.ndarray], size: int, channels: int):
        self.names, self.columns, self.intervals = names, columns, {}
        self.size, self.channels = size, channels
        self.lengths = np.broadcast_to(np.int64(1), len(names))
        self._kept = PixelCache((len(names), channels, size, size))

    def picture(self, index: int) -> Image.Image:
        """Image `index`; may be decoded at a reduced size of at least `size` pixels a side."""
        raise NotImplementedError

    def read(self, index: int, seed: int | None = None) -> Tensor:
        found = self._kept.get(index)
        if found is None:
            found = pixels.square(self.picture(index), self.size, self.channels, self.names[index]).copy()
            self._kept.put(index, found)
        return torch.from_numpy(found)

    def at(self, size: int) -> "ImageSplit":
        """The same images at another size."""
        if size == self.size:
            return self
        other = copy.copy(self)
        other.size, other._kept = size, PixelCache((len(self), self.channels, size, size))
        return other

    def for_views(self) -> "ImageSplit":
        return self.at(self.resolution or self.size)


class _FileSplit(ImageSplit):
    def __init__(self, root: Path, names, columns, size: int, channels: int, most: int):
        super().__init__(names, columns, size, channels)
        self.root, self.most = root, most

    def file(self, index: int) -> Path:
        return self.root / self.names[index]

    def picture(self, index: int) -> Image.Image:
        return pixels.opened(self.file(index), self.size, self.most)

    def stamp(self) -> str | None:
        return files.stamp(self.root, self.names, "image", f"{self.size} {self.channels}")


class ImageData(Data):
    """A set of images. size: pixels a side after resizing the center square. channels: 1 or 3.
    mean, std: per channel, of the training pixels in 0..1. resolution: pixels a side of the images that cropping
    views get; None: `size`."""

    modality = "image"
    resolution: int | None = None

    def __init__(self, path: str, batch: ByCount, size: int, channels: int, mean: list[float], std: list[float]):
        if size < 1 or channels not in (1, 3):
            raise ConfigError(
                f"images need data.size of at least 1 and data.channels of 1 or 3, got {size} and {channels}"
            )
        if len(mean) != channels or len(std) != channels or min(std) <= 0:
            raise ConfigError(f"data.mean and data.std need {channels} numbers each, std above 0; got {mean} and {std}")
        self.path, self.batch, self.size, self.channels = path, batch, size, channels
        self.mean, self.std = list(mean), list(std)


class ImageFolder(ImageData):
    """Image files in <class>/, or in train/<class>/, test/<class>/ and optionally valid/<class>/ (see `splits.layout`).

    Missing splits are taken from the training files by a hash of their names. Labels: label, the class folder, if any
    ("" for files without one), and those parsed from file names by labels_from, a pattern (see `file_labels`).
    on_error: "raise" stops at a bad file, "skip" leaves it out.

    check: how files are checked before the first run. "whole" decodes each file fully, and detects at every start
    files modified in place. "headers" reads only the image sizes; later damage is found during the run.
    "none" opens no file. null: "whole" up to 5000 files, "headers" above (`index.MANY`).

    resolution: pixels a side of the center square that cropping views get, so that a small crop keeps the detail of
    the original; the views themselves are of `size`. null: `size`. Everything else sees images at `size`.
    At most about twice `size`: crops are sampled without antialiasing.

    max_pixels: an image with more pixels is bad; decoding holds one image in memory, a JPEG at down to 1/8 scale.
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
        labels_from: str | None = None,
        max_pixels: int = pixels.MOST_PIXELS,
    ):
        super().__init__(path, batch, size, channels, mean, std)
        check_images(size, resolution, max_pixels)
        self.max_pixels = max_pixels
        self._labels = file_labels.read(labels_from)
        self.labels_from = labels_from
        self.on_error, self.check, self.resolution = on_error, check, resolution
        self._index: Index | None = None
        self._opened: dict[str, ImageSplit] = {}

    def split(self, name: str) -> ImageSplit:
        if name not in self._opened:
            self._opened[name] = self._open(name)
        return self._opened[name]

    def _listing(self) -> Listing:
        root = files.rooted(self.path)
        walk = (root, (*SUFFIXES, *UNREAD))
        mend = "convert them to .png or .jpg, as `magick a.heic a.png` does"
        names, left = files.readable(root, tree.look(*walk).names(), SUFFIXES, UNREAD, mend)
        found = splits.layout(names, str(root))
        labels = found.first_folders()
        split = splits.fill(found.split, names, str(root))
        columns, misfits = {"label": labels} if any(labels) else {}, ""
        if self._labels is not None:
            fields, misfits = self._labels.columns(names, str(root))
            columns |= fields
        return Listing(root, names, split, columns, [walk], notes=[*left, *found.said()], misfits=misfits)

    def _open(self, wanted: str) -> ImageSplit:
        if self._index is None:
            free = ("batch", "size", "channels", "mean", "std", "on_error", "check", "resolution", "seed")
            fields = () if self.check == "none" else ("width", "height")
            known = f"image-{index.identity(self, *free)}"
            self._index = index.opened(
                known, self._listing, fields, partial(pixels.inspect, most=self.max_pixels), self.check, self.on_error
            )
        found = self._index
        rows = found.rows(wanted)
        if faults := found.faults(rows):
            kept = files.drop_faulty(f"{found.root} ({wanted})", rows.stop - rows.start, faults, self.on_error)
            rows = stored.narrowed(rows, kept)
        split = _FileSplit(
            found.root, found.names(rows), found.columns(rows), self.size, self.channels, self.max_pixels
        )
        split.on_error, split.resolution = self.on_error, self.resolution
        return split


def check_images(size: int, resolution: int | None, max_pixels: int) -> None:
    """Raise ConfigError for settings out of range."""
    if max_pixels < 1:
        raise ConfigError(f"data.max_pixels must be at least 1, got {max_pixels}")
    if resolution is not None and resolution < size:
        raise ConfigError(f"data.resolution={resolution} is less than data.size={size}: set it to {size} or more")
