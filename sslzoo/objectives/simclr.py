"""SimCLR: contrast two views of an item with all other views (Chen et al. 2020, 2002.05709)."""

import torch
from torch import Tensor, nn

from sslzoo import distributed
from sslzoo.augment.base import Drawn
from sslzoo.errors import ConfigError
from sslzoo.nn.contrastive import nt_xent
from sslzoo.nn.heads import projector
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class SimCLR(Objective):
    """Two views of each item, a projection head, and NT-Xent over all 2N views of the global batch (eq. 1):

    l(i, j) = -log( exp(sim(z_i, z_j) / t) / sum_{k != i} exp(sim(z_i, z_k) / t) )
    """

    modalities: tuple[str, ...] = ("image", "speech")
    min_batch = 2
    batch_terms = "negatives"

    def __init__(
        self,
        encoder,
        data,
        views: nn.Module,
        temperature: float = 0.5,
        hidden_dim: int = 2048,
        output_dim: int = 128,
    ):
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"objective.temperature must be above 0, got {temperature}")
        views.check(encoder, data)
        self.views, self.temperature = views, temperature
        self.projector = projector(encoder.dim, hidden_dim, output_dim)

    def project(self, encoder, batch) -> tuple[Drawn, list[Tensor], list[Tensor]]:
        """(both views, their representations [B, D] each, their projections [B, P] each)."""
        drawn = self.views.draw(encoder, batch)
        # one pass over both, so that batch norm sees one batch of 2N, as in the paper
        features = self.views.embed(encoder, drawn, joint=True)
        return drawn, features, self.projector(torch.cat(features)).chunk(2)

    def forward(self, encoder, batch, step: int) -> Loss:
        _, features, (a, b) = self.project(encoder, batch)
        losses, place = nt_xent(a, b, self.temperature, batch.rows())

        def logs() -> dict:
            views = distributed.all_reduce_sum(losses.new_tensor(float(len(losses))))
            return {"accuracy": (place == 0).float().mean(), "uniform_loss": torch.log(views - 1)}

        # not the projections, whose batch norm hides a collapse
        return Loss(losses.mean(), len(losses), logs, features=torch.cat(features))

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        drawn, _, (a, b) = self.project(encoder, batch)
        rank = nt_xent(a, b, self.temperature)[1][: len(a)]
        views = torch.stack(drawn.views, 1)[:MOST_ROWS]
        return {"kind": "view_pairs", "views": views, "rank": rank, "candidates": 2 * len(a) - 1}
