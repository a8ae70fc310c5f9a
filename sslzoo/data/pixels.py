"""A picture of any kind as a square of bytes."""

import math
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image, ImageOps

from sslzoo.errors import UserError


def opened(path: Path, least: int | None = None) -> Image.Image:
    """A picture file, read to its end and turned upright. Raises UserError naming it.

    least: pixels that its shorter side must keep. A JPEG is decoded to the half, quarter or eighth of its size that
    is the smallest to do so, which takes a fraction of the time.
    """
    try:
        with Image.open(path) as image:
            if least is not None and least < min(image.size):
                share = least / min(image.size)
                image.draft(None, (math.ceil(image.width * share), math.ceil(image.height * share)))
            image.load()
            return ImageOps.exif_transpose(image)
    except Exception as error:  # the formats' decoders raise errors of every kind for corrupt bytes
        raise _unread(path, error) from error


def _unread(path: Path, error: Exception) -> UserError:
    """What to say of a picture that cannot be read."""
    if isinstance(error, FileNotFoundError):
        return UserError(f"there is no file {path}")
    reason = "it is empty (0 bytes)" if path.stat().st_size == 0 else str(error) or type(error).__name__
    return UserError(f"{path} is not a whole picture: {reason}")


def _usable(image: Image.Image, name) -> None:
    if image.mode == "F":
        raise UserError(f"{name} has floats for pixels, of unknown range — convert it to 8 or 16 bits")


def inspect(path: Path, check: Literal["headers", "whole"] = "whole") -> tuple[int, int]:
    """(width, height) of a picture that `square` can use, read from end to end, or its header as it is stored."""
    if check == "whole":
        image = opened(path)
        _bytes(image, 3, path)
        return image.size
    try:
        with Image.open(path) as image:
            _usable(image, path)
            return image.size
    except UserError:
        raise
    except Exception as error:  # as in `opened`
        raise _unread(path, error) from error


def square(image: Image.Image, size: int, channels: int, name) -> np.ndarray:
    """uint8 [C, size, size]: the middle square, resized with antialiasing, as grey (1) or RGB (3)."""
    image = _bytes(image, channels, name)
    side = min(image.size)
    if image.size != (size, size):
        left, top = (image.width - side) / 2, (image.height - side) / 2
        image = image.resize((size, size), Image.Resampling.BICUBIC, box=(left, top, left + side, top + side))
    array = np.asarray(image)
    return array[None] if channels == 1 else np.ascontiguousarray(array.transpose(2, 0, 1))


def _bytes(image: Image.Image, channels: int, name) -> Image.Image:
    """Grey or RGB with 8 bits a channel; what is transparent becomes white."""
    if image.mode.startswith("I"):  # 16 bits, which convert() would clip at 255
        image = Image.fromarray((np.clip(np.asarray(image), 0, 0xFFFF) >> 8).astype(np.uint8))
    _usable(image, name)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image)
    return image.convert("L" if channels == 1 else "RGB")
