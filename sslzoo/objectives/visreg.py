"""VISReg: LeJEPA's views, with variance and a sliced Wasserstein distance (Wu et al. 2026, 2606.02572)."""

from torch import Tensor

from sslzoo.augment.base import Views
from sslzoo.nn.sketching import visreg
from sslzoo.objectives.lejepa import LeJEPA


class VISReg(LeJEPA):
    """As LeJEPA (eq. 8), with three other terms in the place of SIGReg (section 3), whose gradients do not vanish at
    collapse:

    loss = (1 - lambda) mean_v |z_v - c|^2 / D + lambda (scale + shape + centre)

    scale: each feature's deviation is 1. shape: along random directions, standardised projections have a Gaussian's
    quantiles, a sliced 2-Wasserstein distance. centre: each feature's mean is 0. See `nn.sketching.visreg`. weight:
    lambda, 0.9 for ImageNet-1k and 0.6 for Imagenette in the authors' code. In the paper each rank has directions of
    its own; here they are the same, so that the loss does not depend on the number of ranks.
    """

    batch_terms = "distribution of the projections"

    def __init__(
        self,
        encoder,
        data,
        views: Views,
        weight: float = 0.9,
        slices: int = 4096,
        hidden_dim: int = 2048,
        output_dim: int = 256,
    ):
        super().__init__(encoder, data, views, weight, slices, hidden_dim=hidden_dim, output_dim=output_dim)

    def regularizer(self, z: Tensor, directions: Tensor, batch) -> dict[str, Tensor]:
        return dict(zip(("scale", "shape", "centre"), visreg(z, directions, batch.rows()), strict=True))
