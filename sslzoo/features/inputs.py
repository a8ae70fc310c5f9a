"""Inputs of an encoder in Python (arrays, lists, tensors, images, files, texts) as items like those that a data set
reads: uint8 or float32 [C, S, S], float32 [N], int64 [T].

An input is first split into items, without reading any; each is read when its batch is made.
"""

import numbers
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import soxr
import torch
from torch import Tensor

from sslzoo.data import sound
from sslzoo.data.base import Data
from sslzoo.errors import InputError, InputTypeError

CHANNELS = 8  # of a recording, at most; tells [C, N] and [N, C] from a batch [B, N]
LOUDEST = 100.0  # floats above it are taken for unscaled integers and refused
INTEGERS = {np.dtype("int16"): (0, 2**15), np.dtype("int32"): (0, 2**31), np.dtype("uint8"): (128, 2**7)}
WANTED = {
    "weights": "numbers, one a layer",
    "image": "an array, a tensor, a PIL image, the path of a file, or a list of such",
    "speech": "an array, a tensor, the path of a file, or a list of such",
    "text": "a string, a list of strings (or pairs of them), or token ids",
}


def named(item: Any) -> str:
    """The type, and for an array the dtype and shape, for an error message."""
    kind = f"{type(item).__module__}.{type(item).__name__}".removeprefix("builtins.")
    return f"{kind} of {item.dtype} {list(item.shape)}" if isinstance(item, np.ndarray | Tensor) else kind


def is_path(item: Any) -> bool:
    return isinstance(item, str | os.PathLike)


def array_of(item: Any, modality: str) -> np.ndarray:
    """Numbers as a NumPy array. Raises InputTypeError for anything else, InputError for lists of unequal lengths."""
    if isinstance(item, Tensor):
        item = item.detach().cpu()
        item = (item.float() if item.dtype == torch.bfloat16 else item).numpy()
    if not isinstance(item, np.ndarray):
        if isinstance(item, str | bytes | dict | set) or not hasattr(item, "__len__"):
            raise InputTypeError(f"this encoder takes {modality}: {WANTED[modality]}; got {named(item)}")
        try:
            item = np.asarray(item)
        except ValueError as error:  # rows of different lengths
            raise InputError(f"a list of {named(item[0])} has no one shape: give a list of arrays") from error
    if item.dtype.kind not in "iuf":
        raise InputTypeError(f"this encoder takes {modality}: {WANTED[modality]}; got {named(item)}")
    return item if item.dtype.isnative else item.astype(item.dtype.newbyteorder("="))


def checked_lengths(lengths: Any, items: Sequence[np.ndarray]) -> list[int]:
    """The number of valid samples or tokens in each row. Raises if `lengths` does not fit the items."""
    found = np.asarray(lengths.cpu() if isinstance(lengths, Tensor) else lengths)
    if found.dtype.kind not in "iu":
        raise InputTypeError(f"lengths must be whole numbers of samples or tokens, got {found.dtype}")
    if found.shape != (len(items),):
        raise InputError(f"there are {len(items)} items, but lengths of shape {list(found.shape)}: give one an item")
    for place, (length, item) in enumerate(zip(found.tolist(), items, strict=True)):
        if not 1 <= length <= len(item):
            raise InputError(f"item {place} has {len(item)} values, but lengths says {length}")
    return found.tolist()


def split_waves(inputs: Any, lengths: Any) -> list[Any]:
    """One recording, a batch or a list as a list of recordings: paths, or arrays [N], [C, N] or [N, C]."""
    if is_path(inputs):
        items: list[Any] = [inputs]
    elif isinstance(inputs, list | tuple) and not _numbers(inputs, numbers.Real):
        items = [x if is_path(x) else array_of(x, "speech") for x in inputs]
    else:
        array = array_of(inputs, "speech")
        if array.ndim not in (1, 2, 3):
            raise InputError(f"waves are [N] or [B, N], got {list(array.shape)}")
        if array.ndim == 2 and array.shape[1] <= CHANNELS < array.shape[0]:
            raise InputError(
                f"an array of {list(array.shape)} looks like samples by channels, and a batch is [B, N]: "
                "give x.mean(1), or [x] for its channels to be averaged"
            )
        items = [array] if array.ndim == 1 else list(array)
    if lengths is None:
        return items
    if any(is_path(x) or x.ndim != 1 for x in items):
        raise InputError("lengths are of padded waves [B, N]: a file and a recording of many channels say their own")
    return [x[:n] for x, n in zip(items, checked_lengths(lengths, items), strict=True)]


def wave(item: Any, place: int, sample_rate: int, rate: int | None) -> Tensor:
    """A file, or an array at `rate`, as float32 [N] at `sample_rate`, averaged over channels."""
    if is_path(item):
        path = Path(os.fspath(item))
        frames, theirs = sound.inspect(path)
        stop = int(sound.resampled(frames, theirs, sample_rate))
        return torch.from_numpy(sound.decode_at(path, theirs, sample_rate, 0, stop))
    array = item
    if array.dtype in INTEGERS:  # scaled as samples of a file
        middle, scale = INTEGERS[array.dtype]
        array = (array.astype(np.float32) - middle) / scale
    elif array.dtype.kind != "f":
        raise InputTypeError(f"item {place} has samples of {array.dtype}: give floats in -1..1, int16, int32 or uint8")
    if array.ndim == 2 and min(array.shape) <= CHANNELS:
        array = array.mean(axis=int(np.argmin(array.shape)))
    if array.ndim != 1:
        raise InputError(f"item {place} has the shape {list(array.shape)}: a wave is [N], or [C, N] with its channels")
    _check_values(array, place, "samples")
    if np.abs(array).max() > LOUDEST:
        top = np.abs(array).max()
        raise InputError(f"item {place} has samples up to {top:g}: floats are in -1..1 (those of 16 bits over 32768)")
    array = array.astype(np.float32)
    if rate is not None and rate != sample_rate:
        array = soxr.resample(array, rate, sample_rate)[: int(sound.resampled(len(array), rate, sample_rate))]
        _check_values(array, place, "samples at this rate")
    return torch.from_numpy(np.ascontiguousarray(array))


def checked_rate(rate: Any) -> int | None:
    """Samples per second as an int, or None for the encoder's own rate."""
    if rate is None:
        return None
    if isinstance(rate, bool) or not isinstance(rate, numbers.Real) or float(rate) % 1:
        raise InputTypeError(f"rate must be a whole number of samples a second, got {rate!r}")
    if float(rate) <= 0:
        raise InputError(f"rate must be above 0, got {rate}")
    return int(float(rate))


def split_texts(inputs: Any, lengths: Any) -> list[Any]:
    """Strings, pairs of strings or rows of ids as a list of str, (str, str) or [T]."""
    if isinstance(inputs, str):
        items: list[Any] = [inputs]
    elif isinstance(inputs, list | tuple) and not _numbers(inputs, numbers.Integral):
        items = [_text_or_ids(x) for x in inputs]
    else:
        ids = array_of(inputs, "text")
        if ids.ndim not in (1, 2):
            raise InputError(f"ids are [T] or [B, T], got {list(ids.shape)}")
        items = [ids] if ids.ndim == 1 else list(ids)
    if lengths is None:
        return items
    if not all(isinstance(x, np.ndarray) for x in items):
        raise InputError("lengths are of token ids: texts have none")
    return [x[:n] for x, n in zip(items, checked_lengths(lengths, items), strict=True)]


def _numbers(items: Sequence[Any], kind: type) -> bool:
    return bool(items) and all(isinstance(x, kind) for x in items)


def _text_or_ids(item: Any) -> Any:
    if isinstance(item, str):
        return item
    if isinstance(item, list | tuple) and len(item) == 2 and all(isinstance(x, str) for x in item):
        return tuple(item)
    return array_of(item, "text")


def checked_ids(item: np.ndarray, place: int, vocab_size: int, most: int) -> Tensor:
    """Ids as int64 [T]. Raises if they are not `most` or fewer ids below `vocab_size`."""
    if item.dtype.kind not in "iu":
        raise InputTypeError(f"item {place} has ids of {item.dtype}: give whole numbers, or the text itself")
    if item.ndim != 1:
        raise InputError(f"item {place} has the shape {list(item.shape)}: ids are [T]")
    if not 1 <= len(item) <= most:
        raise InputError(f"item {place} has {len(item)} ids: this encoder takes 1 to {most}")
    if item.min() < 0 or item.max() >= vocab_size:
        wrong = item.min() if item.min() < 0 else item.max()
        raise InputError(f"item {place} has the id {wrong}: those of this encoder are 0 to {vocab_size - 1}")
    return torch.from_numpy(item.astype(np.int64))


def texts(items: list[Any], first: int, data: Data, most: int) -> tuple[list[Tensor], int]:
    """(the ids int64 [T] of each item, tokenized as the run's data; how many texts were cut to `data.max_tokens`).
    first: the index of items[0] in the whole input. most: the number of tokens that the encoder takes."""
    encode: Any = getattr(data, "encode", None)
    written = [x for x in items if not isinstance(x, np.ndarray)]
    if written and encode is None:
        raise InputTypeError(f"{type(data).__name__} has no tokenizer: give token ids")
    made: list[np.ndarray] = []
    cut = 0
    for text in written:
        parts = (text,) if isinstance(text, str) else text
        whole = encode(*parts, max_tokens=None)
        if len(whole) > data.max_tokens:
            cut, whole = cut + 1, encode(*parts, max_tokens=data.max_tokens)
        made.append(whole)
    rest, found = iter(made), []
    for place, item in enumerate(items, first):
        if not isinstance(item, np.ndarray):
            parts, item = ((item,) if isinstance(item, str) else item), next(rest)
            if not any(part.strip() for part in parts) or not len(item):
                raise InputError(f"item {place} is an empty text")
        found.append(checked_ids(item, place, data.vocab_size, most))
    return found, cut


def _check_values(array: np.ndarray, place: int, what: str) -> None:
    if not array.size:
        raise InputError(f"item {place} is empty: it has no {what}")
    if not np.isfinite(array).all():
        raise InputError(f"item {place} has {what} that are not finite (NaN or infinite)")
