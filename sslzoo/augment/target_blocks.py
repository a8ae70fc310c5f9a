"""I-JEPA's masks: blocks of patches to predict, and the context to predict them from."""

import math

import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.errors import ConfigError

TRIES = 8  # draws of a row's blocks, until enough patches are left
LEFT = 16  # at least one of so many patches is left as context


class TargetBlocks:
    """`targets` rectangles of patches per image, and a context: a square block without their patches (Assran et al.
    2023, 2301.08243, section 3, "targets" and "context").

    scale, ratio: ranges of a target's share of the patches and of its aspect ratio (height by width). context: the
    range of the square's share. Sizes are drawn once for a batch, so that every target of every row has equally many
    patches, and places per row. The number of context patches differs between rows, which are padded; the authors' code
    cuts them, and thereby the lower right, to the shortest of a batch.
    """

    def __init__(
        self,
        targets: int = 4,
        scale: list[float] = [0.15, 0.2],  # noqa: B006 (read, never written)
        ratio: list[float] = [0.75, 1.5],  # noqa: B006
        context: list[float] = [0.85, 1.0],  # noqa: B006
    ):
        if targets < 1 or not 0 < scale[0] <= scale[1] < 1 or not 0 < ratio[0] <= ratio[1]:
            raise ConfigError(
                "mask needs targets >= 1, 0 < scale[0] <= scale[1] < 1 and 0 < ratio[0] <= ratio[1]; "
                f"got {targets}, {scale}, {ratio}"
            )
        if not 0 < context[0] <= context[1] <= 1:
            raise ConfigError(f"mask.context must be two shares with 0 < low <= high <= 1, got {context}")
        self.targets, self.scale, self.ratio, self.context = targets, scale, ratio, context

    def check(self, side: int) -> None:
        """Raise ConfigError if a square of side x side patches is too small for these blocks."""
        most = max(math.prod(self.block(side, self.scale[1], ratio)) for ratio in self.ratio)
        if side < 2 or self.targets * most > side * side:
            raise ConfigError(
                f"{self.targets} targets of {most} patches may leave nothing of an image of {side} x {side}: "
                "set objective.mask.targets or objective.mask.scale lower, or smaller patches"
            )

    def block(self, side: int, scale: float, ratio: float) -> tuple[int, int]:
        """(height, width) in patches."""
        area = scale * side * side
        return tuple(min(max(round(math.sqrt(x)), 1), side - 1) for x in (area * ratio, area / ratio))  # type: ignore

    def __call__(self, seed: Tensor, seeds: Tensor, side: int) -> tuple[Tensor, Tensor, Tensor]:
        """seed [1] of the batch, seeds [B] of its rows -> (the targets' patches int64 [B, M, N], each row's patches
        [B, P] with those of the context first, in order, and their number [B]); all on the host."""
        u = rng.uniform(seed, "sizes of blocks", 3)[0].tolist()
        low, high = zip(self.scale, self.ratio, self.context, strict=True)
        scale, ratio, share = (a + (b - a) * x for a, b, x in zip(low, high, u, strict=True))
        height, width = self.block(side, scale, ratio)
        room = torch.tensor([side - height + 1, side - width + 1])
        corner = rng.integers(seeds, "places of targets", room, TRIES, self.targets, 2)
        inside = (torch.arange(height)[:, None] * side + torch.arange(width)).flatten()
        blocks = (corner[..., 0] * side + corner[..., 1])[..., None] + inside  # [B, tries, M, N]
        free = torch.ones(len(seeds), TRIES, side * side, dtype=torch.bool).scatter_(2, blocks.flatten(2), False)
        least = max(side * side // LEFT, 1)
        # the first draw that leaves enough, or the one that leaves the most
        left = free.sum(2).clamp(max=least)
        rows, best = torch.arange(len(seeds)), left.argmax(1)
        targets, free = blocks[rows, best], free[rows, best]
        square = min(max(round(math.sqrt(share) * side), 1), side)
        first = rng.integers(seeds, "place of the context", side - square + 1, 2)[..., None]
        within = (torch.arange(side) >= first) & (torch.arange(side) < first + square)  # [B, 2, side]
        kept = free & (within[:, 0, :, None] & within[:, 1, None]).flatten(1)
        kept = torch.where(kept.sum(1, keepdim=True) >= least, kept, free)
        return targets, (~kept).long().argsort(dim=1, stable=True), kept.sum(1)
