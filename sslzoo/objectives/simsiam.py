"""SimSiam: predict the other view's projection, with stop-gradient (Chen and He 2021, 2011.10566)."""

from torch import Tensor, nn

from sslzoo.nn.heads import mlp, projector
from sslzoo.nn.siamese import negative_cosine
from sslzoo.objectives.siamese import Siamese


class SimSiam(Siamese):
    """A predictor h maps one view's projection z to the other's, which gets no gradient (eq. 4):

    loss = 1/2 D(h(z1), stopgrad(z2)) + 1/2 D(h(z2), stopgrad(z1)),  D(p, z) = -<p, z> / (|p| |z|)

    hidden_dim, output_dim: of the projector, three layers, each with batch norm. bottleneck: the predictor's hidden
    width, a quarter of the output in the paper.
    """

    def __init__(
        self,
        encoder,
        data,
        views: nn.Module,
        hidden_dim: int = 2048,
        output_dim: int = 2048,
        bottleneck: int = 512,
    ):
        super().__init__(encoder, data, views, projector(encoder.dim, hidden_dim, output_dim, layers=3, affine=False))
        self.predictor = mlp(output_dim, bottleneck, output_dim)

    def loss(self, a: Tensor, b: Tensor, batch) -> tuple[Tensor, dict[str, Tensor]]:
        valid = negative_cosine(self.predictor(a), b.detach())
        back = negative_cosine(self.predictor(b), a.detach())
        return (valid + back).mean() / 2, {}
