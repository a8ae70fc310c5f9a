"""SimMIM: predict the pixels of masked patches by a linear layer (Xie et al. 2022, 2111.09886)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import rng
from sslzoo.augment.base import Views
from sslzoo.errors import ConfigError
from sslzoo.nn.linear import Linear
from sslzoo.nn.masked import indices, take
from sslzoo.objectives.base import Loss, Objective
from sslzoo.objectives.mask_token import with_mask_token


class SimMIM(Objective):
    """Masked patches are replaced by a mask token before the trunk, which sees all patches; a linear layer predicts the
    pixels of the masked ones M from its output (section 3):

    loss = 1/|M| sum_{i in M} |y_i - x_i|_1 / C,  x_i an image's patch, standardised by the data's mean and deviation

    ratio: the share of the image that is masked. unit: the side of the squares that are masked, in the encoder's
    patches; the paper masks squares of 32 pixels, two patches of a ViT. views: crops and flips of the images, or None.
    """

    modalities = ("image",)
    needs = frozenset({"tokens", "patches"})

    def __init__(self, encoder, data, ratio: float = 0.6, unit: int = 2, views: Views | None = None):
        super().__init__()
        if views is not None:
            views.check(encoder, data)
        side = data.size // encoder.stride
        if unit < 1 or side % unit:
            fits = [n for n in range(1, side + 1) if side % n == 0]
            raise ConfigError(
                f"objective.unit={unit} does not divide the {side} patches of an image's side: choose one of {fits}"
            )
        self.views, self.unit, self.side = views, unit, side
        self.squares = (side // unit) ** 2
        self.masked = math.ceil(ratio * self.squares)
        if not 0 < ratio < 1 or self.masked >= self.squares:
            raise ConfigError(
                f"objective.ratio={ratio} masks {self.masked} of {self.squares} squares: choose it between 0 and 1, "
                "or a smaller objective.unit"
            )
        self.mask_token = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        self.head = Linear(encoder.dim, encoder.feature_dim)

    def mask(self, seeds: Tensor) -> Tensor:
        """Seeds [B] -> the masked patches, bool [B, P], as many in each row; on the host, where the seeds are."""
        order = rng.uniform(seeds, "mask", self.squares).argsort(dim=1, stable=True)
        squares = torch.zeros_like(order, dtype=torch.bool).scatter_(1, order[:, : self.masked], True)
        grid = squares.view(-1, self.side // self.unit, self.side // self.unit)
        return grid.repeat_interleave(self.unit, 1).repeat_interleave(self.unit, 2).flatten(1)

    def predict(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(patches [B, P, C], the trunk's output at patches [B, P, D], the mask bool [B, P] on the host)."""
        images = batch.inputs if self.views is None else self.views(batch.inputs, batch.row_seeds, "view")
        features, lengths = encoder.features(images, batch.lengths)
        mask = self.mask(batch.row_seeds)
        tokens, lengths = encoder.project(features, lengths)
        encoded = encoder.contextualize(with_mask_token(encoder, tokens, mask, self.mask_token), lengths)
        return features, encoded.last[:, encoder.prefix :], mask

    def forward(self, encoder, batch, step: int) -> Loss:
        features, hidden, mask = self.predict(encoder, batch)
        at = indices(mask)
        return Loss(F.l1_loss(self.head(take(hidden, at)).float(), take(features, at)), len(at))

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        features, hidden, mask = self.predict(encoder, batch)
        rebuilt = self.head(hidden).float()
        images = [encoder.frontend.images(x[:8].float()) for x in (features, rebuilt)]
        shown = {"kind": "masked_patches", "images": images[0], "prediction": images[1]}
        return shown | {"mask": mask[:8], "mean": encoder.frontend.mean}
