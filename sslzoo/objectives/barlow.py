"""Barlow Twins: features of two views agree and are decorrelated (Zbontar et al. 2021, 2103.03230)."""

from torch import Tensor, nn

from sslzoo.nn.heads import expander
from sslzoo.nn.siamese import barlow_twins
from sslzoo.objectives.siamese import Siamese


class BarlowTwins(Siamese):
    """The cross-correlation matrix C of two views' projections, over the global batch, should be the identity (eq. 1):

    loss = sum_i (1 - C_ii)^2 + lambda sum_i sum_{j != i} C_ij^2

    redundancy: lambda. layers: of the projector. With spectrogram views it is DeLoRes (Ghosh et al. 2022, 2203.13628).
    """

    batch_terms = "correlation of features"

    def __init__(
        self,
        encoder,
        data,
        views: nn.Module,
        redundancy: float = 0.0051,
        hidden_dim: int = 8192,
        output_dim: int = 8192,
        layers: int = 3,
    ):
        super().__init__(encoder, data, views, expander(encoder.dim, hidden_dim, output_dim, layers))
        self.redundancy = redundancy

    def loss(self, a: Tensor, b: Tensor, batch) -> tuple[Tensor, dict[str, Tensor]]:
        invariance, redundancy = barlow_twins(a, b)
        terms = {"invariance": invariance, "redundancy": redundancy}
        return invariance + self.redundancy * redundancy, terms
