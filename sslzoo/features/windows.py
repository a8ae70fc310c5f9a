"""Encoding long audio in overlapping windows, so that memory does not grow with its length."""

import logging
from collections.abc import Callable, Iterator
from functools import cache

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from sslzoo.data.base import Batch

LONGEST, CORE, CONTEXT = 120.0, 30.0, 5.0  # seconds
_log = logging.getLogger("sslzoo")


def needed(batch: Batch, rate: float, exact: bool = False) -> bool:
    """Whether an item is longer than `LONGEST`. rate: samples per second. Warns once, unless windows give `exact`
    results."""
    found = batch.inputs.ndim == 2 and int(batch.lengths.max()) > LONGEST * rate
    if found and not exact:
        _say()
    return found


def windows(length: int, stride: int, rate: float) -> Iterator[tuple[int, int, slice]]:
    """Yield (start sample, stop sample, slice of the window's tokens to keep) of windows over `length` samples.

    A window keeps `CORE` seconds of tokens, `stride` samples apart, and has `CONTEXT` more seconds on either side. It
    starts at a token's first sample, so that tokens are aligned with those of the whole item.
    """
    core, context, first = max(1, round(CORE * rate / stride)), -(-round(CONTEXT * rate) // stride), 0
    while True:
        begin, stop = max(first - context, 0), (first + core + context) * stride + round(rate)
        last = stop >= length
        own = slice(first - begin, None if last else first - begin + core)
        yield begin * stride, length if last else stop, own
        if last:
            return
        first += core


def stitched(read: Callable[[Tensor, Tensor], Tensor], batch: Batch, stride: int, rate: float) -> tuple[Tensor, Tensor]:
    """(tokens [B, T, ...], the number of tokens in each row [B]) from windows, on the CPU. read: maps samples [1, N]
    and their number [1] to tokens [1, T, ...]."""
    rows = []
    for inputs, length in zip(batch.inputs, batch.lengths.tolist(), strict=True):
        parts = windows(length, stride, rate)
        rows.append(torch.cat([read(inputs[None, a:b], torch.tensor([b - a]))[0, own].cpu() for a, b, own in parts]))
    return pad_sequence(rows, batch_first=True), torch.tensor([len(row) for row in rows])


@cache
def _say() -> None:
    _log.warning(
        "audio of more than %g s is read in windows of %g s, with %g s to either side: an encoder sees no further",
        *(LONGEST, CORE, CONTEXT),
    )
