"""Sets of permutations that differ in many places."""

from functools import lru_cache
from itertools import permutations
from math import factorial

import numpy as np
import torch
from torch import Tensor

from sslzoo.errors import ConfigError


@lru_cache(maxsize=4)
def distant_permutations(size: int, count: int) -> Tensor:
    """`count` permutations of 0 .. size - 1, int64 [count, size], far apart in Hamming distance (Noroozi and Favaro
    2016, 1603.09246, algorithm 1): beginning with one, each next is the permutation whose sum of distances to those
    chosen is the largest; among equals the one whose smallest distance is, then the first in lexicographic order. The
    paper begins with a random one; here it is the identity, which only renames the tiles."""
    if not 2 <= count <= factorial(size):
        raise ConfigError(
            f"there are {factorial(size)} orders of {size} tiles: choose between 2 and so many, got {count}"
        )
    every = np.array(list(permutations(range(size))), dtype=np.uint8)
    chosen = [0]
    total, least = np.zeros(len(every), np.int32), np.full(len(every), size, np.int32)
    for _ in range(count - 1):
        distance = np.not_equal(every, every[chosen[-1]]).sum(1, dtype=np.int32)
        total += distance
        np.minimum(least, distance, out=least)
        score = total * (size + 1) + least
        score[chosen] = -1
        chosen.append(int(score.argmax()))
    return torch.from_numpy(every[chosen].astype(np.int64))
