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
        rows, patches = allowed.shape
        side = math.isqrt(patches)
        count = rounded_counts(allowed, self.ratio)
        u = rng.uniform(seeds, "mask", BLOCKS, 4)
        place = torch.arange(side)
        mask = torch.zeros(rows, patches, dtype=torch.bool)
        for number in range(BLOCKS):
            area, shape, down, right = u[:, number].double().unbind(1)
            left = (count - mask.sum(1)).double()
            area = self.smallest + area * (left - self.smallest).clamp(min=0)
            shape = torch.exp(math.log(self.aspect) * (1 - 2 * shape))
            high, wide = ((area * x).sqrt().round().clamp(1, side) for x in (shape, 1 / shape))
            top, start = (down * (side - high + 1)).floor(), (right * (side - wide + 1)).floor()
            inside = [
                (place >= first[:, None]) & (place < (first + size)[:, None])
                for first, size in ((top, high), (start, wide))
            ]
            new = (inside[0][:, :, None] & inside[1][:, None]).flatten(1) & ~mask
            mask |= new & (new.cumsum(1) <= left[:, None])
        # what blocks that fell on masked patches have left over
        rest = ranks_among(rng.uniform(seeds, "rest", patches), ~mask)
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
