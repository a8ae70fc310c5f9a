"""Decodes image files of any mode to squares of uint8 pixels. A file is a path or an item of a shard."""

import math
from pathlib import Path
from threading import Lock
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from sslzoo.data.pointers import unfetched
from sslzoo.data.remote import Member
from sslzoo.errors import UserError

MOST_PIXELS = 1 << 28  # of an image file: 16,384 x 16,384
_DEPTHS = (8, 10, 12, 14, 16, 20, 24, 32)  # possible bit depths of integer pixels
_lock = Lock()


def opened(path: Path | Member, least: int | None = None, most: int = MOST_PIXELS) -> Image.Image:
    """Decode an image file fully and apply its EXIF orientation. Raises UserError, naming the file.

    least: minimum pixels of the shorter side; a JPEG is decoded at the smallest scale (1, 1/2, 1/4 or 1/8) that keeps
    them, in a fraction of the time. most: maximum number of pixels in the file.
    """
    try:
        with _header(path, most) as image:
            if least is not None and least < min(image.size):
                share = least / min(image.size)
                image.draft(None, (math.ceil(image.width * share), math.ceil(image.height * share)))
            image.load()
            return ImageOps.exif_transpose(image)
    except UserError:
        raise
    except Exception as error:  # decoders raise any exception for corrupt bytes
        raise _unread(path, error) from error


def _header(path: Path | Member, most: int) -> Image.Image:
    """Open an image, reading only its header. Raises UserError if it has more than `most` pixels."""
    with _lock:  # Pillow's own limit (179 million pixels) is global to the process
        limit, Image.MAX_IMAGE_PIXELS = Image.MAX_IMAGE_PIXELS, None
        try:
            image = Image.open(path)
        finally:
            Image.MAX_IMAGE_PIXELS = limit
    if image.width * image.height > most:
        size = f"{image.width} x {image.height}"
        image.close()
        raise UserError(
            f"{path} has {size} pixels, more than data.max_pixels={most} — make it smaller, or raise data.max_pixels"
        )
    return image


def _unread(path: Path | Member, error: Exception) -> UserError:
    """The UserError for an unreadable image."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"there is no file {path}")
    content = path.read_bytes()
    if said := unfetched(content[:100]):
        return UserError(f"{path} {said}")
    reason = str(error) or type(error).__name__ if content else "it is empty (0 bytes)"
    return UserError(f"{path} is not a whole picture: {reason}")


def inspect(path: Path, check: Literal["headers", "whole"] = "whole", most: int = MOST_PIXELS) -> tuple[int, int]:
    """(width, height) from the header. check="whole" also decodes the file and its mode, as `square` needs."""
    if check == "whole":
        image = opened(path, 1, most)  # a JPEG is read fully at any scale
        _bytes(image, 3, path)
    try:
        with _header(path, most) as image:
            return image.size
    except UserError:
        raise
    except Exception as error:  # as in `opened`
        raise _unread(path, error) from error


def square(image: Image.Image, size: int, channels: int, name) -> np.ndarray:
    """uint8 [C, size, size]: the center square, resized with antialiasing, as grey (C = 1) or RGB (C = 3)."""
    image = _bytes(image, channels, name)
    side = min(image.size)
    if image.size != (size, size):
        left, top = (image.width - side) / 2, (image.height - side) / 2
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    array = np.asarray(image)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _bytes(image: Image.Image, channels: int, name) -> Image.Image:
    """Convert to grey or RGB, 8 bits a channel; transparent areas become white."""
    if image.mode.startswith(("I", "F")):  # which convert() would clip at 255
        image = Image.fromarray(_by_range(np.asarray(image), name))
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    mode = "L" if channels == 1 else "RGB"
    try:
        return image if image.mode == mode else image.convert(mode)
    except ValueError as error:
        raise UserError(f"{name} is a picture of mode {image.mode}, which cannot be made {mode}: convert it") from error


def _by_range(values: np.ndarray, name) -> np.ndarray:
    """Scale integers or floats [H, W] to uint8 [H, W].

    The input range is 0 to 1 for floats of at most 1; otherwise that of the smallest bit depth in `_DEPTHS` that holds
    the maximum. With negative values it is from minimum to maximum.
    """
    floats = values.dtype.kind == "f"
    if floats and not np.isfinite(values).all():
        raise UserError(f"{name} has pixels that are not finite: mend or remove it")
    low, high = float(values.min()), float(values.max())
    if low < 0:
        return ((values.astype(np.float64) - low) * (255 / max(high - low, 1e-12)) + 0.5).astype(np.uint8)
    if floats and high <= 1:
        return (values * 255 + 0.5).astype(np.uint8)
    depth = next((bits for bits in _DEPTHS if high < 1 << bits), None)
    if depth is None:
        return (values.astype(np.float64) * (255 / high) + 0.5).astype(np.uint8)
    if floats:
        return (values / (1 << (depth - 8))).astype(np.uint8)
    return (values.astype(np.int64) >> (depth - 8)).astype(np.uint8)
