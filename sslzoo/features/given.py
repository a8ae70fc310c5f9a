"""Inputs of an encoder in Python: split into items, and read as a data set reads them."""

import warnings
from typing import Any

import numpy as np
from torch import Tensor

from sslzoo.errors import InputError, InputTypeError
from sslzoo.features import inputs as kinds
from sslzoo.features.pictures import picture, split_images
from sslzoo.nn.images import to_float


def taken_apart(data: Any, inputs: Any, lengths: Any, rate: Any) -> list[Any]:
    """The items of an input for an encoder of this data, not read yet."""
    if hasattr(inputs, "to_numpy"):  # pandas or polars
        if len(inputs.shape) != 1:
            raise InputTypeError(f"a table of {len(inputs.shape)} dimensions was given: give one of its columns")
        inputs = list(inputs)
    if isinstance(inputs, np.ndarray) and inputs.ndim == 1 and inputs.dtype.kind in "OU":
        inputs = inputs.tolist()
    if data.modality != "speech" and rate is not None:
        raise InputTypeError(f"rate is of audio, and this encoder takes {data.modality}: leave it out")
    if data.modality == "image" and lengths is not None:
        raise InputTypeError("lengths are of audio and text, and this encoder takes images: leave them out")
    kinds.checked_rate(rate)
    if data.modality == "image":
        items = split_images(inputs, data.channels)
    else:
        items = (kinds.split_waves if data.modality == "speech" else kinds.split_texts)(inputs, lengths)
    if not items:
        raise InputError("there are no items: the input is empty")
    return items


def read(data: Any, items: list[Any], first: int, rate: Any, most: int | None) -> list[Tensor]:
    """Items as a data set reads them. first: the index of items[0] in the whole input. most: the number of token ids
    that the encoder takes. Warns of truncated texts."""
    if data.modality == "image":
        found = [picture(x, place, data.size, data.channels) for place, x in enumerate(items, first)]
        return [to_float(x) for x in found] if len({x.dtype for x in found}) > 1 else found
    if data.modality == "speech":
        theirs = kinds.checked_rate(rate)
        return [kinds.wave(x, place, data.sample_rate, theirs) for place, x in enumerate(items, first)]
    found, cut = kinds.texts(items, first, data, most or data.max_tokens)
    if cut:
        line = f"{cut} of {len(items)} texts are longer than the run's {data.max_tokens} tokens and lost their end"
        warnings.warn(line, stacklevel=5)
    return found
