"""BYOL: predict a slow copy of oneself on another view (Grill et al. 2020, 2006.07733)."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.errors import ConfigError
from sslzoo.objectives.base import Loss, Objective
from sslzoo.parts import health
from sslzoo.parts.ema import cosine_decay, follow, frozen_copy
from sslzoo.parts.heads import mlp
from sslzoo.parts.shown import upright, view_pairs


class BYOL(Objective):
    """Encoder and projector g are followed by a slow copy; a predictor q guesses what the copy makes of the
    other view (eq. 2), in both directions:

    loss = 2 - 2 <q(z), z'> / (|q(z)| |z'|)        target <- tau target + (1 - tau) online (eq. 1)

    tau rises from `decay` to 1 by half a cosine. On spectrograms, with their views, it is BYOL-A (Niizumi et al.
    2021, 2103.06695).
    """

    modalities = ("image", "speech")
    min_batch = 2

    def __init__(
        self,
        encoder,
        data,
        views: nn.Module,
        decay: float = 0.996,
        hidden_dim: int = 4096,
        output_dim: int = 256,
    ):
        super().__init__()
        if not 0 <= decay <= 1:
            raise ConfigError(f"objective.decay must be between 0 and 1, got {decay}")
        views.check(encoder, data)
        self.views, self.decay = views, decay
        self.projector = mlp(encoder.dim, hidden_dim, output_dim)
        self.predictor = mlp(output_dim, hidden_dim, output_dim)
        self.target_encoder, self.target_projector = frozen_copy(encoder), frozen_copy(self.projector)

    def compare(self, encoder, batch) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor]]:
        """The loss of each row, summed over both directions [B], the online representations [B, D], the views."""
        a, b, lengths = self.views.pair(encoder, batch)
        seen_a, seen_b = (self.views.encode(encoder, view, lengths).pooled for view in (a, b))
        guess_a, guess_b = (self.predictor(self.projector(seen)) for seen in (seen_a, seen_b))
        with torch.no_grad():
            goal_a, goal_b = (
                self.target_projector(self.views.encode(self.target_encoder, view, lengths).pooled) for view in (a, b)
            )
        return regression(guess_a, goal_b) + regression(guess_b, goal_a), seen_a, (a, b)

    def forward(self, encoder, batch, step: int) -> Loss:
        losses, seen, _ = self.compare(encoder, batch)
        logs = health.spread(seen) if step % health.EVERY == 0 else {}
        return Loss(losses.mean(), len(losses), logs)

    def after_step(self, encoder, step: int, total_steps: int) -> None:
        decay = cosine_decay(self.decay, step, total_steps)
        follow(self.target_encoder, encoder, decay)
        follow(self.target_projector, self.projector, decay)

    @torch.no_grad()
    def show(self, encoder, batch, step: int) -> dict:
        losses, _, (a, b) = self.compare(encoder, batch)
        if a.ndim == 3:  # spectrograms
            a, b = upright(a), upright(b)
        title = "Two views of each item, and how well each predicts the other"
        return view_pairs(title, a, b, [f"cosine {1 - loss / 4:.2f}" for loss in losses.tolist()])


def regression(guess: Tensor, goal: Tensor) -> Tensor:
    """2 - 2 cos(guess, goal) [B] (eq. 2)."""
    return 2 - 2 * F.cosine_similarity(guess.float(), goal.float(), dim=1)
