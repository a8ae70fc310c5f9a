"""Image GPT: predict the next pixel's colour (Chen et al. 2020, "Generative pretraining from pixels")."""

import math
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.nn.metrics import choice_logs
from sslzoo.objectives.base import Loss, Objective


class ImageGPT(Objective):
    """A causal trunk reads an image's pixels in raster order, each as the index x_t of its colour in a palette, after a
    start token, and a linear layer predicts each from those before it (section 2.1):

    loss = -1/T sum_t log p(x_t | x_1, ..., x_{t-1})

    The palette and the reduction of images are the encoder's (`encoders.colors`). Representations are best in the
    middle of the trunk (section 4.1): probe by layer. views: crops and flips, or None for the images as they are.
    """

    modalities = ("image",)
    needs = frozenset({"tokens", "causal", "colors"})

    def __init__(self, encoder, data, views: nn.Module | None = None):
        super().__init__()
        if views is not None:
            views.check(encoder, data)  # type: ignore[operator]
        self.views = views
        self.colors = len(encoder.frontend.palette)
        self.head = nn.Linear(encoder.dim, self.colors, bias=False)
        nn.init.normal_(self.head.weight, std=0.02)

    def predict(self, encoder, batch) -> tuple[Tensor, Tensor]:
        """(colours int64 [B, T], logits of each, from those before it [B, T, K])."""
        images = batch.inputs if self.views is None else self.views(batch.inputs, batch.row_seeds, "view")
        colors, lengths = encoder.features(images, batch.lengths)
        hidden = encoder.contextualize(*encoder.project(colors, lengths)).last
        return colors, self.head(hidden[:, encoder.prefix - 1 : -1]).float()

    def forward(self, encoder, batch, step: int) -> Loss:
        colors, logits = self.predict(encoder, batch)
        flat, target = logits.flatten(0, 1), colors.flatten()
        return Loss(F.cross_entropy(flat, target), target.numel(), partial(choice_logs, flat, target))

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        colors, logits = self.predict(encoder, batch)
        images = [encoder.frontend.images(x[:8]) for x in (colors, logits.argmax(2))]
        loss = F.cross_entropy(logits[:8].flatten(0, 1), colors[:8].flatten(), reduction="none")
        bits = loss.view(len(images[0]), -1).mean(1) / math.log(2)
        return {"kind": "next_colors", "images": images[0], "prediction": images[1], "bits": bits}
