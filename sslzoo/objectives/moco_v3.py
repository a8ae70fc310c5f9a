"""MoCo v3: contrast two views over a large batch, without a queue (Chen et al. 2021, 2104.02057)."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed
from sslzoo.augment.base import Drawn, Views
from sslzoo.errors import ConfigError
from sslzoo.nn.heads import projector
from sslzoo.nn.metrics import choice_logs, target_rank
from sslzoo.nn.teacher import Teacher
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class MoCoV3(Objective):
    """Each view's query q is classified as its key k+, the momentum encoder's projection of the other view, among those
    of the global batch, in both directions (eq. 1 and algorithm 1):

    loss = ctr(q_1, k_2) + ctr(q_2, k_1),   ctr = -2 t log( exp(q k+ / t) / sum_i exp(q k_i / t) )

    The query's projector, a perceptron of three layers (two for a residual network), is followed by a predictor of two.
    The momentum encoder has no predictor; its momentum goes from `momentum` to `momentum_end`. freeze_patches: whether
    a ViT's patch projection stays as it was at random, which makes training stable (section 4.2).
    """

    modalities = ("image",)
    min_batch = 2
    batch_terms = "negatives"

    def __init__(
        self,
        encoder,
        data,
        views: Views,
        temperature: float = 0.2,
        momentum: float = 0.99,
        momentum_end: float = 1.0,
        hidden_dim: int = 4096,
        output_dim: int = 256,
        freeze_patches: bool = True,
    ):
        super().__init__()
        if temperature <= 0:
            raise ConfigError(f"objective.temperature must be above 0, got {temperature}")
        views.check(encoder, data)
        self.views, self.temperature = views, temperature
        patches = "patches" in encoder.offers
        if patches and freeze_patches:
            encoder.frontend.linear.requires_grad_(False)
        self.projector = projector(encoder.dim, hidden_dim, output_dim, layers=3 if patches else 2, affine=False)
        self.predictor = projector(output_dim, hidden_dim, output_dim, layers=2, affine=False)
        self.teacher = Teacher(encoder, self.projector, momentum, momentum_end)

    def contrast(self, encoder, batch) -> tuple[list[Tensor], Tensor, list[Tensor], Drawn]:
        """(logits [B, N] of each view's queries with the other view's keys of all ranks; the index of each row's
        positive [B]; representations [B, D] of each view; both views)."""
        drawn = self.views.draw(encoder, batch)
        features = self.views.embed(encoder, drawn)
        queries = [F.normalize(self.predictor(self.projector(x)).float(), dim=1) for x in features]
        with torch.no_grad():
            found = [self.teacher.projector(x) for x in self.views.embed(self.teacher.encoder, drawn)]
            keys = [distributed.all_gather(F.normalize(k.float(), dim=1), batch.rows()) for k in found]
        start = keys[0][1]
        logits = [q @ k.T / self.temperature for q, (k, _) in zip(queries, reversed(keys), strict=True)]
        return logits, torch.arange(start, start + len(queries[0]), device=logits[0].device), features, drawn

    def forward(self, encoder, batch, step: int) -> Loss:
        logits, positive, features, _ = self.contrast(encoder, batch)
        losses = torch.stack([F.cross_entropy(x, positive, reduction="none") for x in logits]).sum(0)

        def logs() -> dict:
            # of both directions; uniform_loss: the loss of a uniform prediction, with its factors
            found = choice_logs(torch.cat(logits).detach(), positive.repeat(2), chance=1 / logits[0].shape[1])
            return found | {"uniform_loss": 4 * self.temperature * found["uniform_loss"]}

        return Loss(2 * self.temperature * losses.mean(), len(batch), logs, features=features[0])

    def after_step(self, encoder, step: int, total_steps: int) -> None:
        self.teacher.update(encoder, self.projector, step, total_steps)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        logits, positive, _, drawn = self.contrast(encoder, batch)
        views, rank = torch.stack(drawn.views, 1)[:MOST_ROWS], target_rank(logits[0], positive)
        return {"kind": "view_pairs", "views": views, "rank": rank, "candidates": logits[0].shape[1]}
