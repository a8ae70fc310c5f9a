"""BYOL: predict an EMA teacher's projection of another view (Grill et al. 2020, 2006.07733)."""

import torch
from torch import Tensor, nn

from sslzoo.augment.base import Drawn
from sslzoo.nn.heads import mlp
from sslzoo.nn.siamese import negative_cosine
from sslzoo.nn.teacher import Teacher
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class BYOL(Objective):
    """A teacher is an exponential moving average of encoder and projector; a predictor q predicts from the projection z
    of one view the teacher's projection z' of the other (eq. 2), in both directions:

    loss = 2 - 2 <q(z), z'> / (|q(z)| |z'|)        target <- tau target + (1 - tau) online (eq. 1)

    tau goes from `momentum` to `momentum_end` along half a cosine. With spectrogram views it is BYOL-A (Niizumi et al.
    2021, 2103.06695), where tau is always 0.99.
    """

    modalities = ("image", "speech")
    min_batch = 2

    def __init__(
        self,
        encoder,
        data,
        views: nn.Module,
        momentum: float = 0.996,
        momentum_end: float = 1.0,
        hidden_dim: int = 4096,
        output_dim: int = 256,
    ):
        super().__init__()
        views.check(encoder, data)
        self.views = views
        self.projector = mlp(encoder.dim, hidden_dim, output_dim)
        self.predictor = mlp(output_dim, hidden_dim, output_dim)
        self.teacher = Teacher(encoder, self.projector, momentum, momentum_end)

    def compare(self, encoder, batch) -> tuple[Tensor, list[Tensor], Drawn]:
        """(each row's loss, summed over both directions [B]; the online representations [B, D] of each view; the
        views)."""
        drawn = self.views.draw(encoder, batch)
        features = self.views.embed(encoder, drawn)
        predictions = [self.predictor(self.projector(x)) for x in features]
        with torch.no_grad():
            targets = [self.teacher.projector(x) for x in self.views.embed(self.teacher.encoder, drawn)]
        losses = regression_loss(predictions[0], targets[1]) + regression_loss(predictions[1], targets[0])
        return losses, features, drawn

    def forward(self, encoder, batch, step: int) -> Loss:
        losses, features, _ = self.compare(encoder, batch)
        return Loss(losses.mean(), len(losses), features=features[0])

    def after_step(self, encoder, step: int, total_steps: int) -> None:
        self.teacher.update(encoder, self.projector, step, total_steps)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        losses, _, drawn = self.compare(encoder, batch)
        return {"kind": "view_pairs", "views": torch.stack(drawn.views, 1)[:MOST_ROWS], "cosine": 1 - losses / 4}


def regression_loss(prediction: Tensor, target: Tensor) -> Tensor:
    """2 - 2 cos(prediction, target) [B] (eq. 2)."""
    return 2 + 2 * negative_cosine(prediction, target)
