"""Stateless random numbers: every draw is a function of (seed, step, index in the global batch).

Each row of a batch has a 64-bit seed. A draw hashes the seed, the draw's name and a counter, so a row gets
the same numbers on any rank, worker or device and whatever the lengths of other rows, and element `i` of a
row does not depend on the number of elements drawn.
The hash is splitmix64 (Steele, Lea and Flood, OOPSLA 2014).
"""

import math
from zlib import crc32

import numpy as np
import torch
from torch import Tensor

_GOLDEN = 0x9E3779B97F4A7C15
_M1, _M2 = 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_WORD = (1 << 64) - 1


def _mix(x: int) -> int:
    x = ((x ^ (x >> 30)) * _M1) & _WORD
    x = ((x ^ (x >> 27)) * _M2) & _WORD
    return x ^ (x >> 31)


def _hash(words: tuple[int | str, ...]) -> int:
    """A 64-bit hash of a sequence of integers and strings."""
    h = _GOLDEN
    for word in words:
        value = crc32(word.encode(errors="surrogateescape")) if isinstance(word, str) else int(word)
        h = _mix((h + _GOLDEN + (value & _WORD)) & _WORD)
    return h


def derive_seed(*words: int | str) -> int:
    """A non-negative 63-bit integer from integers and strings."""
    return _hash(words) >> 1


def derive_row_seeds(*words: int | str, rows: np.ndarray) -> np.ndarray:
    """`derive_seed(*words, row)` for each of `rows`, int64 [N], vectorised."""
    x = np.asarray(rows, np.int64).astype(np.uint64) + np.uint64((_hash(words) + _GOLDEN) & _WORD)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(_M1)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(_M2)
    return ((x ^ (x >> np.uint64(31))) >> np.uint64(1)).astype(np.int64)


def _signed(x: int) -> int:
    return x - (1 << 64) if x >= 1 << 63 else x


def _shift(x: Tensor, bits: int) -> Tensor:
    """Logical right shift of int64, which torch lacks."""
    return (x >> bits) & ((1 << (64 - bits)) - 1)


def _mixed(x: Tensor) -> Tensor:
    """`_mix` of int64 [...]; works in place."""
    shifted = torch.empty_like(x)
    for bits, multiplier in ((30, _M1), (27, _M2)):
        torch.bitwise_right_shift(x, bits, out=shifted)
        x.bitwise_xor_(shifted.bitwise_and_((1 << (64 - bits)) - 1)).mul_(_signed(multiplier))
    torch.bitwise_right_shift(x, 31, out=shifted)
    return x.bitwise_xor_(shifted.bitwise_and_((1 << 33) - 1))


def uniform(seeds: Tensor, name: str, *shape: int, device: torch.device | str | None = None) -> Tensor:
    """Uniform draws in (0, 1), float32 [B, *shape], for the seeds [B] (int64); the same numbers on any device.

    device: where they are drawn, None for where the seeds are.
    """
    if device is not None:
        seeds = seeds.to(device, non_blocking=True)
    count = math.prod(shape)
    stream = _signed(_mix(crc32(name.encode()) + _GOLDEN))
    base = seeds[:, None] + stream
    x = _mixed(base + torch.arange(1, count + 1, device=seeds.device) * _signed(_GOLDEN))
    # 23 bits and a half: exact in float32, never 0 and never 1, so that logarithms stay finite
    return _shift(x, 41).float().add_(0.5).mul_(2.0**-23).view(len(seeds), *shape)


def fold_in(seeds: Tensor, places: Tensor) -> Tensor:
    """A new seed for each (seed, place) [B], for example one per frame."""
    return _mixed(seeds + (places + 1) * _signed(_M1))


def integers(
    seeds: Tensor, name: str, high: Tensor | int, *shape: int, device: torch.device | str | None = None
) -> Tensor:
    """Integers in [0, high), int64 [B, *shape]; `high` broadcasts against the result."""
    # float64: float32 cannot index past 2^23, and rounds up to `high` itself
    return (uniform(seeds, name, *shape, device=device).double() * high).long()


def normal(seeds: Tensor, name: str, *shape: int, device: torch.device | str | None = None) -> Tensor:
    """Standard normal draws, float32 [B, *shape] (Box and Muller)."""
    # pairs in the last dimension, so that element i depends on i only
    radius, angle = uniform(seeds, name, *shape, 2, device=device).unbind(-1)
    return torch.sqrt(-2 * torch.log(radius)) * torch.cos(2 * math.pi * angle)


def permutation(*words: int | str, n: int) -> np.ndarray:
    """A permutation of range(n) that depends only on n and `words`, a seed and names of the draw."""
    return np.random.Generator(np.random.PCG64(derive_seed(*words))).permutation(n)


def shuffle(array: np.ndarray, *words: int | str) -> None:
    """`array[permutation(*words, n=len(array))]`, in place."""
    np.random.Generator(np.random.PCG64(derive_seed(*words))).shuffle(array)
