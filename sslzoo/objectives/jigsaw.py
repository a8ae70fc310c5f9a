"""Jigsaw: predict how the tiles of an image were shuffled (Noroozi and Favaro 2016, 1603.09246)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import rng
from sslzoo.augment.image_views import gray
from sslzoo.augment.tiles import check_tile
from sslzoo.errors import ConfigError
from sslzoo.nn.drop_path import rows_of
from sslzoo.nn.heads import mlp
from sslzoo.nn.images import to_float
from sslzoo.nn.metrics import choice_logs
from sslzoo.nn.permutations import distant_permutations
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective

SIDE, TILES = 3, 9


class Jigsaw(Objective):
    """An image's 3 x 3 tiles x_1 .. x_9, in the order of one of P permutations s_p, go through the same encoder f, and
    a network h names the permutation from all nine (section 3, the context-free network):

    loss = -1/N sum_i log h(f(x_{s_y(1)}), ..., f(x_{s_y(9)}))_y

    The permutations are far apart in Hamming distance (algorithm 1, `nn.permutations`). Against trivial solutions
    (section 3.3): each tile is at a random place within its cell of the grid; each channel of a tile is normalised by
    the tile's own mean and deviation; a share `gray` of the images is grey; and the channels of a tile are shifted
    against each other by up to `shift` pixels, because of chromatic aberration.

    permutations: P. tile: pixels a side, null for the paper's 64 of a cell's 75. shift: null for the paper's 2 pixels
    of 225, which is 0 for small images. size: side in pixels to which a tile is resized for the encoder, null for no
    resizing.
    """

    modalities = ("image",)
    min_batch = 2  # the head's batch norm
    mean: Tensor
    std: Tensor
    permutations: Tensor

    def __init__(
        self,
        encoder,
        data,
        permutations: int = 100,
        tile: int | None = None,
        shift: int | None = None,
        gray: float = 0.3,
        size: int | None = None,
        hidden_dim: int = 1024,
    ):
        super().__init__()
        self.cell = data.size // SIDE
        self.tile = max(self.cell * 64 // 75, 1) if tile is None else tile
        self.shift = round(2 * data.size / 225) if shift is None else shift
        if not 1 <= self.tile <= self.cell:
            raise ConfigError(
                f"a tile of {self.tile} pixels does not fit in a third of an image of {data.size}: "
                f"set objective.tile={self.cell} or less"
            )
        if self.shift < 0 or not 0 <= gray <= 1:
            raise ConfigError(f"jigsaw needs shift >= 0 and gray between 0 and 1, got {self.shift} and {gray}")
        self.size = size or self.tile
        check_tile(encoder, data, self.size)
        self.gray = gray if data.channels == 3 else 0.0
        self.register_buffer("mean", torch.tensor(data.mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(data.std).view(-1, 1, 1))
        self.register_buffer("permutations", distant_permutations(TILES, permutations).clone())
        self.head = mlp(TILES * encoder.dim, hidden_dim, permutations)

    def tiles(self, batch) -> Tensor:
        """The tiles in their own order, [B, 9, C, T, T] in 0..1."""
        images, seeds, device = to_float(batch.inputs), batch.row_seeds, batch.inputs.device
        if self.gray:
            grey = rng.uniform(seeds, "grey", 1, 1, 1, device=device) < self.gray
            images = torch.where(grey, gray(images).expand_as(images), images)
        channels, most = images.shape[1], images.shape[2] - self.tile
        moved = rng.integers(seeds, "place in the cell", self.cell - self.tile + 1, TILES, 1, 2, device=device)
        apart = rng.integers(seeds, "shift of channels", 2 * self.shift + 1, TILES, channels, 2, device=device)
        place = torch.arange(TILES, device=device)
        corner = torch.stack([place // SIDE, place % SIDE], dim=1)[:, None] * self.cell
        first = (corner + moved + apart - self.shift).clamp(0, most)  # [B, 9, C, 2]
        down, right = (first[..., None] + torch.arange(self.tile, device=device)).unbind(3)
        row = torch.arange(len(images), device=device).view(-1, 1, 1, 1, 1)
        channel = torch.arange(channels, device=device).view(-1, 1, 1)
        return images[row, channel, down[..., None], right[..., None, :]]

    def normalized(self, tiles: Tensor) -> Tensor:
        """Tiles [..., C, T, T] for the encoder: after its own normalisation, each channel of each tile has zero mean
        and unit deviation."""
        var, mean = torch.var_mean(tiles, dim=(-2, -1), correction=0, keepdim=True)
        return (tiles - mean) * torch.rsqrt(var + 1e-6) * self.std + self.mean

    def shuffled(self, batch) -> tuple[Tensor, Tensor]:
        """(tiles in the order of a permutation [B, 9, C, T, T] in 0..1, its number [B])."""
        tiles = self.tiles(batch)
        target = rng.integers(batch.row_seeds, "permutation", len(self.permutations), device=tiles.device)
        order = self.permutations[target]
        return tiles[torch.arange(len(tiles), device=tiles.device)[:, None], order], target

    def answer(self, encoder, batch, tiles: Tensor) -> tuple[Tensor, Tensor]:
        """(features [9B, D] of the tiles, an image's nine after each other; logits [B, P])."""
        tiles = self.normalized(tiles).flatten(0, 1)
        if self.size != self.tile:
            tiles = F.interpolate(tiles, self.size, mode="bilinear", align_corners=False)
        with rows_of(copies=TILES):
            pooled = encoder(tiles, batch.lengths.repeat_interleave(TILES)).pooled
        return pooled, self.head(pooled.reshape(len(batch.inputs), -1)).float()

    def forward(self, encoder, batch, step: int) -> Loss:
        tiles, target = self.shuffled(batch)
        pooled, logits = self.answer(encoder, batch, tiles)
        logs = partial(choice_logs, logits, target, chance=1 / len(self.permutations))
        return Loss(F.cross_entropy(logits, target), len(target), logs, features=pooled)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        tiles, target = self.shuffled(batch)
        prediction = self.answer(encoder, batch, tiles)[1].argmax(1)
        shown = {"kind": "jigsaws", "tiles": tiles[: MOST_ROWS // 2], "permutations": self.permutations}
        return shown | {"target": target, "prediction": prediction}
