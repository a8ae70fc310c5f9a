"""Base class of two-view methods without negatives: an encoder and a projector shared by both views."""

import torch
from torch import Tensor, nn

from sslzoo.augment.base import Drawn
from sslzoo.nn.siamese import negative_cosine
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class Siamese(Objective):
    """Two views of each item, their representations and projections. A subclass adds its projector and the loss of the
    projections. Each view goes through the networks as a separate batch, with its own batch norm statistics.
    """

    modalities = ("image", "speech")
    min_batch = 2

    def __init__(self, encoder, data, views: nn.Module, projector: nn.Module):
        super().__init__()
        views.check(encoder, data)
        self.views, self.projector = views, projector

    def loss(self, a: Tensor, b: Tensor, batch) -> tuple[Tensor, dict[str, Tensor]]:
        """(loss, its terms for the logs) of both views' projections [B, P]. The loss is the mean over this rank's rows,
        or a number that is equal on all ranks."""
        raise NotImplementedError

    def project(self, encoder, batch) -> tuple[Drawn, list[Tensor], list[Tensor]]:
        """(both views, their representations [B, D] each, their projections [B, P] each)."""
        drawn = self.views.draw(encoder, batch)
        features = self.views.embed(encoder, drawn)
        return drawn, features, [self.projector(x) for x in features]

    def forward(self, encoder, batch, step: int) -> Loss:
        _, features, (a, b) = self.project(encoder, batch)
        value, terms = self.loss(a, b, batch)
        # monitor the representations: batch norm in the projector hides a collapse
        return Loss(value, len(a), lambda: terms, features=features[0])

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        drawn, _, (a, b) = self.project(encoder, batch)
        cosine = -negative_cosine(a, b)
        return {"kind": "view_pairs", "views": torch.stack(drawn.views, 1)[:MOST_ROWS], "cosine": cosine}
