"""Context prediction: predict the relative position of two patches (Doersch et al. 2015, 1505.05192)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import rng
from sslzoo.augment.tiles import check_tile
from sslzoo.errors import ConfigError
from sslzoo.nn.heads import mlp
from sslzoo.nn.images import to_float
from sslzoo.nn.metrics import choice_logs
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective

PLACES = 8  # neighbours of the centre, in row-major order


class ContextPrediction(Objective):
    """In a grid of 3 x 3 patches, the centre patch x and one of its eight neighbours x' go through the same
    encoder f, and a network h predicts the neighbour's position y from both ("late fusion", section 3):

    loss = -1/N sum_i log h(f(x_i), f(x'_i))_{y_i}

    Against trivial solutions (section 3.1): a gap between patches, so that edges do not continue across them;
    each patch is shifted by up to `jitter` pixels in both directions; and two of three channels, chosen at
    random per patch, are replaced by normal noise with the data's mean and a hundredth of the third
    channel's standard deviation (`drop`, for colour images only), because chromatic aberration grows with
    the distance from the image's centre and would reveal a patch's position. The grid is at a random
    position within the image, so that the position in the image does not reveal y.

    patch, gap: in pixels; null for the largest patch with the paper's gap of half a patch. jitter: null for the paper's
    7 of 96, limited so that patches cannot overlap. size: side in pixels to which a patch is resized for the encoder,
    null for no resizing. The paper also downsamples some patches, which is not done here.
    """

    modalities = ("image",)
    min_batch = 2  # the head's batch norm

    def __init__(
        self,
        encoder,
        data,
        patch: int | None = None,
        gap: int | None = None,
        jitter: int | None = None,
        size: int | None = None,
        drop: bool = True,
        hidden_dim: int = 512,
    ):
        super().__init__()
        # 3 patches, 2 gaps of half a patch, and jitter on both sides
        self.patch = max(1, int((data.size - 1) / (4 + 14 / 96))) if patch is None else patch
        self.gap = self.patch // 2 if gap is None else gap
        self.jitter = min(max(1, round(self.patch * 7 / 96)), self.gap // 2) if jitter is None else jitter
        self.size, self.drop = size or self.patch, drop and data.channels == 3
        self.room = data.size - 3 * self.patch - 2 * self.gap - 2 * self.jitter
        self.check(encoder, data)
        self.register_buffer("mean", torch.tensor(data.mean).view(-1, 1, 1))
        self.head = mlp(2 * encoder.dim, hidden_dim, PLACES)

    def check(self, encoder, data) -> None:
        """Raise ConfigError for patches that do not fit the image, overlap, or do not suit the encoder."""
        patch, gap, jitter = self.patch, self.gap, self.jitter
        if patch < 1 or gap < 0 or jitter < 0 or self.size < 1:
            raise ConfigError(
                f"context needs patch >= 1, gap >= 0, jitter >= 0, size >= 1; got {patch}, {gap}, {jitter}, {self.size}"
            )
        if self.room < 0:
            fits = (data.size - 2 * gap - 2 * jitter) // 3
            mend = f"objective.patch={fits} or less" if fits > 0 else "a smaller objective.gap and objective.jitter"
            raise ConfigError(
                f"3 patches of {patch}, 2 gaps of {gap} and a jitter of {jitter} on either side are "
                f"{data.size - self.room} pixels, more than the image's {data.size}: set {mend}"
            )
        if 2 * jitter > gap:
            raise ConfigError(
                f"patches with objective.gap={gap} that move by objective.jitter={jitter} can overlap: "
                f"set objective.gap={2 * jitter} or objective.jitter={gap // 2}"
            )
        check_tile(encoder, data, self.size)

    def cut(self, images: Tensor, seeds: Tensor, corner: Tensor, cell: Tensor, name: str) -> Tensor:
        """The patches [B, C, size, size] in grid cells `cell` [B] (0 to 8) of grids with upper left `corner` [B, 2]."""
        moved = rng.integers(seeds, f"jitter of the {name}", 2 * self.jitter + 1, 2, device=images.device)
        first = corner + torch.stack([cell // 3, cell % 3], dim=1) * (self.patch + self.gap) + moved
        down, right = (first[:, :, None] + torch.arange(self.patch, device=images.device)).unbind(1)
        row = torch.arange(len(images), device=images.device)[:, None, None]
        patches = to_float(images[row, :, down[:, :, None], right[:, None, :]].permute(0, 3, 1, 2))
        if self.size != self.patch:
            patches = F.interpolate(patches, self.size, mode="bilinear", align_corners=False)
        return self.one_channel(patches, seeds, name) if self.drop else patches

    def one_channel(self, patches: Tensor, seeds: Tensor, name: str) -> Tensor:
        device = patches.device
        channel = rng.integers(seeds, f"channel of the {name}", 3, device=device)
        deviation = patches.std((2, 3), correction=0).gather(1, channel[:, None])[..., None, None]
        noise = rng.normal(seeds, f"noise of the {name}", *patches.shape[1:], device=device)
        kept = channel[:, None] == torch.arange(3, device=device)
        return torch.where(kept[:, :, None, None], patches, self.mean + 0.01 * deviation * noise)

    def pairs(self, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(centre patches, neighbours, [B, C, size, size] each; the neighbours' positions [B])."""
        seeds, device = batch.row_seeds, batch.inputs.device
        corner = rng.integers(seeds, "grid", self.room + 1, 2, device=device)
        place = rng.integers(seeds, "place", PLACES, device=device)
        centre = torch.full_like(place, 4)
        a = self.cut(batch.inputs, seeds, corner, centre, "centre")
        return a, self.cut(batch.inputs, seeds, corner, place + (place >= centre), "neighbour"), place

    def name(self, encoder, batch, a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
        """(features [2B, D] of the centres, then of their neighbours; logits [B, 8])."""
        # one pass over both, so that batch norm uses joint statistics
        pooled = encoder(torch.cat([a, b]), batch.lengths.repeat(2)).pooled
        return pooled, self.head(torch.cat(pooled.chunk(2), dim=1)).float()

    def forward(self, encoder, batch, step: int) -> Loss:
        a, b, place = self.pairs(batch)
        pooled, logits = self.name(encoder, batch, a, b)
        logs = partial(choice_logs, logits, place, chance=1 / PLACES)
        return Loss(F.cross_entropy(logits, place), len(place), logs, features=pooled)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        a, b, place = self.pairs(batch)
        prediction = self.name(encoder, batch, a, b)[1].argmax(1)
        views = torch.stack([a, b], 1)[:MOST_ROWS]
        return {"kind": "patch_pairs", "views": views, "target": place, "prediction": prediction}
