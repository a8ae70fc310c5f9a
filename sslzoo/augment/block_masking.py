"""Masks of blocks of patches or tokens, seeded per row: as many in every row of as many tokens."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import rng
from sslzoo.augment.masking import ranks_among, rounded_counts
from sslzoo.errors import ConfigError

BLOCKS = 32  # blocks drawn for each row; more than a row needs


class BlockMask:
    """Rectangles of patches of a square image, until a share `ratio` is masked (BEiT, 2106.08254, algorithm 1).

    smallest: patches of a rectangle, at least; the largest is what is left to mask. aspect: the lowest ratio of its
    sides. Of the last rectangle only as many patches are masked as are left, so that all rows have equally many.
    """

    modalities = ("image",)

    def __init__(self, ratio: float = 0.6, smallest: int = 16, aspect: float = 0.3):
        if not 0 < ratio < 1 or smallest < 1 or not 0 < aspect <= 1:
            raise ConfigError(
                f"mask needs 0 < ratio < 1, smallest >= 1, 0 < aspect <= 1; got {ratio}, {smallest}, {aspect}"
            )
        self.ratio, self.smallest, self.aspect = ratio, smallest, aspect

    def __call__(self, seeds: Tensor, allowed: Tensor) -> Tensor:
        """seeds [B], allowed bool [B, P], all True, P a square -> bool [B, P]; on the host."""
        side = math.isqrt(allowed.shape[1])
        return fill_with_blocks(seeds, rounded_counts(allowed, self.ratio), side, self.smallest, self.aspect)


class PartialBlockMask:
    """Rectangles of patches in a part of the images, a share of each that is drawn for it (iBOT, 2111.07832, section
    3.1 and its code).

    prob: chance that an image is masked at all. ratio: range of the share of its patches, of which there are at least
    one and exactly as many as drawn. smallest, aspect: as `BlockMask`'s.
    """

    def __init__(
        self,
        prob: float = 0.5,
        ratio: list[float] = [0.1, 0.5],  # noqa: B006 (read, never written)
        smallest: int = 4,
        aspect: float = 0.3,
    ):
        if not 0 < prob <= 1 or len(ratio) != 2 or not 0 < ratio[0] <= ratio[1] < 1:
            raise ConfigError(f"mask needs 0 < prob <= 1 and 0 < ratio[0] <= ratio[1] < 1, got {prob} and {ratio}")
        if smallest < 1 or not 0 < aspect <= 1:
            raise ConfigError(f"mask needs smallest >= 1 and 0 < aspect <= 1, got {smallest} and {aspect}")
        self.prob, self.ratio, self.smallest, self.aspect = prob, ratio, smallest, aspect

    def counts(self, seeds: Tensor, patches: int, name: str) -> Tensor:
        """The number of masked patches of each row, int64 [B]; 0 for an image that is not masked."""
        masked, share = rng.uniform(seeds, f"{name}, share", 2).double().unbind(1)
        share = self.ratio[0] + (self.ratio[1] - self.ratio[0]) * share
        return (share * patches).round().long().clamp(min=1) * (masked < self.prob)

    def __call__(self, seeds: Tensor, side: int, name: str) -> Tensor:
        """seeds [B] -> bool [B, side * side]; on the host. name: distinguishes the draws of a row's masks."""
        counts = self.counts(seeds, side * side, name)
        return fill_with_blocks(seeds, counts, side, self.smallest, self.aspect, name)


def fill_with_blocks(seeds: Tensor, count: Tensor, side: int, smallest: int, aspect: float, name: str = "") -> Tensor:
    """bool [B, side * side]: the union of rectangles with exactly `count` [B] patches; see `BlockMask`."""
    prefix, patches = f"{name}, " if name else "", side * side
    u = rng.uniform(seeds, f"{prefix}mask", BLOCKS, 4)
    place = torch.arange(side)
    mask = torch.zeros(len(seeds), patches, dtype=torch.bool)
    for number in range(BLOCKS):
        area, shape, down, right = u[:, number].double().unbind(1)
        left = (count - mask.sum(1)).double()
        area = smallest + area * (left - smallest).clamp(min=0)
        shape = torch.exp(math.log(aspect) * (1 - 2 * shape))
        high, wide = ((area * x).sqrt().round().clamp(1, side) for x in (shape, 1 / shape))
        top, start = (down * (side - high + 1)).floor(), (right * (side - wide + 1)).floor()
        inside = [
            (place >= first[:, None]) & (place < (first + size)[:, None])
            for first, size in ((top, high), (start, wide))
        ]
        new = (inside[0][:, :, None] & inside[1][:, None]).flatten(1) & ~mask
        mask |= new & (new.cumsum(1) <= left[:, None])
    # what blocks that fell on masked patches have left over
    rest = ranks_among(rng.uniform(seeds, f"{prefix}rest", patches), ~mask)
    return mask | (rest < (count - mask.sum(1))[:, None])


class InverseBlockMask:
    """Everything but blocks: what stays visible lies together, and what is masked is far from it (data2vec 2.0,
    2212.07525, section 3.3).

    ratio: share of tokens that are masked, rounded, of each row exactly. block: tokens a side of a visible block, of a
    square in a grid. adjust: further share of tokens of visible blocks, as blocks overlap; what is then too many or
    too few is masked or not at random.
    """

    shortest = 2

    def __init__(self, ratio: float = 0.5, block: int = 5, adjust: float = 0.05):
        if not 0 < ratio < 1 or block < 1 or not 0 <= adjust < 1:
            raise ConfigError(f"mask needs 0 < ratio < 1, block >= 1, 0 <= adjust < 1; got {ratio}, {block}, {adjust}")
        self.ratio, self.block, self.adjust = ratio, block, adjust

    def __call__(self, seeds: Tensor, allowed: Tensor, columns: int = 1) -> Tensor:
        """seeds [B], allowed bool [B, T] -> bool [B, T], what is masked; on the host. columns: the width of the grid
        that the tokens form, row by row; 1 for a sequence."""
        size, wide = allowed.shape[1], min(self.block, columns)
        visible = allowed.sum(1) - torch.minimum(rounded_counts(allowed, self.ratio), (allowed.sum(1) - 1).clamp(min=0))
        share = 1 - self.ratio + self.adjust
        centres = (allowed.sum(1).double() * share / (self.block * wide)).round().long().clamp(min=1)
        chosen = ranks_among(rng.uniform(seeds, "mask", size), allowed) < centres[:, None]
        grid = chosen.float().view(len(seeds), 1, -1, columns)
        before = ((wide - 1) // 2, wide // 2, (self.block - 1) // 2, self.block // 2)
        blocks = F.max_pool2d(F.pad(grid, before), (self.block, wide), 1).flatten(1) > 0
        kept = ranks_among(rng.uniform(seeds, "rest", size) + ~blocks, allowed) < visible[:, None]
        return allowed & ~kept
