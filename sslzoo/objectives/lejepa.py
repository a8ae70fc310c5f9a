"""LeJEPA: views near their centre, projections like an isotropic Gaussian (Balestriero and LeCun 2025, 2511.08544)."""

import torch
from torch import Tensor

from sslzoo.augment.base import Drawn, Views
from sslzoo.errors import ConfigError
from sslzoo.nn.heads import expander
from sslzoo.nn.siamese import negative_cosine
from sslzoo.nn.sketching import sigreg, slices
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class LeJEPA(Objective):
    """The projections z of V views of an item are near the centre c of its global ones, those of the first view's size;
    and those of a view, over the global batch, are like N(0, I) along random directions (section 5):

    loss = (1 - lambda) mean_v |z_v - c|^2 / D + lambda mean_v SIGReg(z_v)

    SIGReg: the mean of the Epps-Pulley statistic over `slices` directions, which are drawn for a step, the same on all
    ranks; see `nn.sketching`. There is no teacher, predictor or stop-gradient. weight: lambda. knots, t_max: of the
    integral.
    """

    modalities = ("image", "speech")
    min_batch = 2
    batch_terms = "tests of the projections' distribution"

    def __init__(
        self,
        encoder,
        data,
        views: Views,
        weight: float = 0.05,
        slices: int = 1024,
        knots: int = 17,
        t_max: float = 3.0,
        hidden_dim: int = 2048,
        output_dim: int = 128,
    ):
        super().__init__()
        if not 0 <= weight <= 1 or slices < 1 or knots < 2 or t_max <= 0:
            raise ConfigError(
                "objective.weight is between 0 and 1, and slices >= 1, knots >= 2, t_max > 0; "
                f"got {weight}, {slices}, {knots}, {t_max}"
            )
        views.check(encoder, data, most=None)
        self.views, self.weight, self.slices, self.knots, self.t_max = views, weight, slices, knots, t_max
        self.projector = expander(encoder.dim, hidden_dim, output_dim, bias=True)

    def regularizer(self, z: Tensor, directions: Tensor, batch) -> dict[str, Tensor]:
        """Terms whose sum keeps the projections [V, B, P] from collapse, each equal on all ranks."""
        return {"sigreg": sigreg(z, directions, self.knots, self.t_max)}

    def project(self, encoder, batch) -> tuple[Drawn, list[Tensor], Tensor]:
        """(the views, their representations [B, D] each, their projections [V, B, P])."""
        drawn = self.views.draw(encoder, batch)
        features = self.views.embed(encoder, drawn, joint=True)
        return drawn, features, torch.stack(self.projector(torch.cat(features)).float().chunk(len(features)))

    def forward(self, encoder, batch, step: int) -> Loss:
        drawn, features, z = self.project(encoder, batch)
        whole = sum(view.shape == drawn.views[0].shape for view in drawn.views)  # global views come first
        invariance = (z - z[:whole].mean(0)).square().mean()
        terms = self.regularizer(z, slices(batch.seed, z.shape[2], self.slices, z.device), batch)
        value = (1 - self.weight) * invariance + self.weight * torch.stack(list(terms.values())).sum()
        return Loss(value, z.shape[1], lambda: {"invariance": invariance, **terms}, features=features[0])

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        drawn, _, z = self.project(encoder, batch)
        views = torch.stack(drawn.views[:2], 1)[:MOST_ROWS]
        return {"kind": "view_pairs", "views": views, "cosine": -negative_cosine(z[0], z[1])}
