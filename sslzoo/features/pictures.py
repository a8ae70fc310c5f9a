"""Images passed in Python, cropped and resized as a data set does."""

import os
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageOps
from torch import Tensor

from sslzoo.data import pixels
from sslzoo.errors import InputError, InputTypeError
from sslzoo.features.inputs import array_of, is_path
from sslzoo.nn.images import LUMA

DEPTHS = (1, 3, 4)  # grey, RGB, RGBA


def split_images(inputs: Any, channels: int) -> list[Any]:
    """One image, a batch or a list as a list of images: paths, PIL images, or arrays [H, W], HWC or CHW.

    channels: of the encoder's images. [3, H, W] is one colour image. With channels=1, and for [4, H, W] always, it
    could also be a batch of grey images, and InputError is raised.
    """
    if is_path(inputs) or isinstance(inputs, Image.Image):
        return [inputs]
    if isinstance(inputs, list | tuple):
        return [x if is_path(x) or isinstance(x, Image.Image) else array_of(x, "image") for x in inputs]
    array = array_of(inputs, "image")
    if array.ndim == 2:
        return [array]
    if array.ndim == 3:
        first, last = array.shape[0] in DEPTHS, array.shape[2] in DEPTHS
        if first and not last and (array.shape[0] == 4 or (array.shape[0] == 3 and channels == 1)):
            raise InputError(
                f"an array of {list(array.shape)} may be one picture in colour or {len(array)} in grey: "
                f"give [{len(array)}, 1, H, W] for the latter, a list with it for the former"
            )
        return [array] if first or last else list(array)
    if array.ndim == 4:
        return list(array)
    raise InputError(f"pictures are [H, W], [H, W, C], [C, H, W] or a batch [B, …] of such, got {list(array.shape)}")


def picture(item: Any, place: int, size: int, channels: int) -> Tensor:
    """The centre square, resized: uint8 [C, size, size], or for floats float32 in 0..1."""
    if is_path(item):
        path = Path(os.fspath(item))
        if path.is_dir():
            raise InputError(f"{path} is a folder: `sslzoo extract run=… data=image_folder data.path={path}` reads it")
        return torch.from_numpy(pixels.square(pixels.opened(path, size), size, channels, path).copy())
    if isinstance(item, Image.Image):
        try:
            upright = ImageOps.exif_transpose(item)
            return torch.from_numpy(pixels.square(upright, size, channels, f"item {place}").copy())
        except OSError as error:
            raise InputError(f"item {place} is not a whole picture: {error}") from error
    array = _channels_last(item, place)
    if array.dtype.kind == "f":
        return torch.from_numpy(_square(array, place, size, channels))
    if array.min() < 0 or array.max() > 255:
        raise InputError(f"item {place} has values up to {array.max()}: give uint8, or floats in 0..1")
    array = array.astype(np.uint8)
    image = Image.fromarray(array[..., 0] if array.shape[2] == 1 else array)
    return torch.from_numpy(pixels.square(image, size, channels, f"item {place}").copy())


def _channels_last(array: np.ndarray, place: int) -> np.ndarray:
    """An image [H, W], [H, W, C] or [C, H, W] as [H, W, C]."""
    if not isinstance(array, np.ndarray):
        raise InputTypeError(f"item {place} is no picture")
    if array.ndim == 2:
        array = array[..., None]
    first, last = (array.ndim == 3 and array.shape[side] in DEPTHS for side in (0, 2))
    if not (first or last):
        raise InputError(f"item {place} has the shape {list(array.shape)}: a picture is [H, W], [H, W, C] or [C, H, W]")
    if first and last and array.shape[0] != array.shape[2] and 4 in (array.shape[0], array.shape[2]):
        first, last = array.shape[0] < 4, array.shape[2] < 4  # 4 pixels are likelier than RGBA
    if not last:
        array = array.transpose(1, 2, 0)
    if not array.size:
        raise InputError(f"item {place} is empty: its shape is {list(array.shape)}")
    return np.ascontiguousarray(array)


def _square(array: np.ndarray, place: int, size: int, channels: int) -> np.ndarray:
    """`pixels.square` for floats [H, W, C] in 0..1: float32 [channels, size, size]."""
    if not np.isfinite(array).all():
        raise InputError(f"item {place} has values that are not finite (NaN or infinite)")
    low, high = float(array.min()), float(array.max())
    if low < -1e-3 or high > 1 + 1e-3:
        raise InputError(
            f"item {place} has floats from {low:g} to {high:g}: give them in 0..1, not normalised (the encoder does "
            "that itself), or uint8"
        )
    planes = array.astype(np.float32).transpose(2, 0, 1)
    if len(planes) == 4:  # RGBA: composite on white
        planes = planes[:3] * planes[3:] + 1 - planes[3:]
    if len(planes) == 1 and channels == 3:
        planes = planes.repeat(3, 0)
    elif len(planes) == 3 and channels == 1:
        planes = np.tensordot(np.array(LUMA, np.float32), planes, 1)[None]
    height, width = planes.shape[1:]
    if (height, width) != (size, size):
        side = min(height, width)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
        shrunk = [Image.fromarray(p).resize((size, size), Image.Resampling.BICUBIC, box=box) for p in planes]
        planes = np.stack([np.asarray(p) for p in shrunk])
    return np.ascontiguousarray(planes.clip(0, 1))
