"""VICReg: invariance of views, variance and decorrelation of features (Bardes et al. 2022, 2105.04906)."""

from torch import Tensor, nn

from sslzoo.nn.heads import expander
from sslzoo.nn.siamese import vicreg
from sslzoo.objectives.siamese import Siamese


class VICReg(Siamese):
    """Three terms on both views' projections Z and Z', the last two over the global batch (eq. 6):

    loss = lambda s(Z, Z') + mu (v(Z) + v(Z')) / 2 + nu (c(Z) + c(Z'))

    s: the mean squared difference. v: how far a feature's standard deviation is below 1. c: the squared covariances
    of different features; see `nn.siamese.vicreg`. invariance, variance, covariance: lambda, mu and nu.
    """

    batch_terms = "variances and covariances"

    def __init__(
        self,
        encoder,
        data,
        views: nn.Module,
        invariance: float = 25.0,
        variance: float = 25.0,
        covariance: float = 1.0,
        hidden_dim: int = 8192,
        output_dim: int = 8192,
    ):
        super().__init__(encoder, data, views, expander(encoder.dim, hidden_dim, output_dim))
        self.weights = {"invariance": invariance, "variance": variance, "covariance": covariance}

    def loss(self, a: Tensor, b: Tensor, batch) -> tuple[Tensor, dict[str, Tensor]]:
        terms = dict(zip(self.weights, vicreg(a, b, batch.rows()), strict=True))
        return sum(self.weights[name] * term for name, term in terms.items()), terms
