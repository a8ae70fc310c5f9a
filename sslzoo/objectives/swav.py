"""SwAV: predict the prototypes of an image from another view (Caron et al. 2020, 2006.09882)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed
from sslzoo.augment.base import Drawn, Views
from sslzoo.errors import ConfigError
from sslzoo.nn.heads import mlp
from sslzoo.nn.prototypes import Prototypes, sinkhorn
from sslzoo.nn.self_distillation import assignment_logs, cross_view
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class SwAV(Objective):
    """The codes q_t of a large view are assignments of the global batch to prototypes c_k that all get an equal share
    (eq. 3 to 5, see `nn.prototypes.sinkhorn`); every other view s is to predict them (eq. 2, 6):

    loss = mean over t, s != t of -sum_k q_tk log p_sk,   p_s = softmax(z_s c / temperature)

    epsilon, iterations: of Sinkhorn-Knopp's algorithm. The prototypes do not learn during the first `frozen_epochs`.
    queue: number of projections of earlier batches that are assigned together with the batch, where that is not much
    larger than the number of prototypes (section 4.1); a multiple of the global batch, or None. It is filled from the
    epoch `queue_epoch` on, and used once it is full. Every rank has all of it.
    """

    modalities = ("image",)
    batch_terms = "assignments and queue"
    queue: Tensor
    queue_ptr: Tensor

    def __init__(
        self,
        encoder,
        data,
        views: Views,
        prototypes: int = 256,
        temperature: float = 0.1,
        epsilon: float = 0.05,
        iterations: int = 3,
        queue: int | None = 1024,
        queue_epoch: int = 15,
        frozen_epochs: int = 1,
        hidden_dim: int = 2048,
        output_dim: int = 128,
    ):
        super().__init__()
        if min(temperature, epsilon) <= 0 or prototypes < 2 or iterations < 1:
            raise ConfigError(
                "swav needs temperature and epsilon above 0, prototypes >= 2 and iterations >= 1; "
                f"got {temperature}, {epsilon}, {prototypes} and {iterations}"
            )
        size = getattr(data.batch, "size", None)
        if queue and (size is None or queue % size):
            fits = "null" if size is None else f"null or {max(1, round(queue / size)) * size}"
            raise ConfigError(f"objective.queue={queue} is not a multiple of the batch of {size}: set it to {fits}")
        views.check(encoder, data, most=None)
        self.views, self.temperature, self.epsilon, self.iterations = views, temperature, epsilon, iterations
        self.frozen_epochs, self.queue_epoch, self.epoch_steps = frozen_epochs, queue_epoch, 1
        self.queue_steps = queue // size if queue and size else 0  # batches that fill it
        self.projector = mlp(encoder.dim, hidden_dim, output_dim)
        self.prototypes = Prototypes(output_dim, prototypes)
        self.register_buffer("queue", torch.zeros(2, queue or 0, output_dim))  # of the two large views
        self.register_buffer("queue_ptr", torch.zeros((), dtype=torch.int64))

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        self.epoch_steps = epoch_steps

    def project(self, encoder, drawn: Drawn) -> tuple[list[Tensor], Tensor]:
        """(representations [B, D] of all views, their projections z [V, B, P] of length 1)."""
        features = self.views.embed(encoder, drawn, joint=True)
        projections = F.normalize(self.projector(torch.cat(features)).float(), dim=1)
        return features, projections.unflatten(0, (len(features), -1))

    @torch.no_grad()
    def assign(self, scores: Tensor, view: int, step: int) -> Tensor:
        """Assignments [B, K] of this rank's rows of a large view, from their cosines with the prototypes [B, K]."""
        rows = len(scores)
        if self.queue_steps and step >= self.queue_epoch * self.epoch_steps + self.queue_steps:
            # a share of the queue, so that it counts once in the sums over ranks
            mine = self.queue[view, distributed.rank() :: distributed.world_size()]
            scores = torch.cat([scores, self.prototypes(mine)])
        return sinkhorn(scores, self.epsilon, self.iterations)[:rows]

    @torch.no_grad()
    def enqueue(self, projections: Tensor, rows: list[int] | None) -> None:
        """Replace the oldest projections by those of both large views [2, B, P] of all ranks."""
        new, _ = distributed.all_gather(projections.transpose(0, 1).contiguous(), rows)
        at = (self.queue_ptr + torch.arange(len(new), device=new.device)) % self.queue.shape[1]
        self.queue.index_copy_(1, at, new.transpose(0, 1))
        self.queue_ptr.add_(len(new)).remainder_(self.queue.shape[1])

    def forward(self, encoder, batch, step: int) -> Loss:
        features, projections = self.project(encoder, self.views.draw(encoder, batch))
        scores = self.prototypes(projections, step < self.frozen_epochs * self.epoch_steps)
        codes = [self.assign(scores[view].detach(), view, step) for view in range(2)]
        if self.training and self.queue_steps and step >= self.queue_epoch * self.epoch_steps:
            self.enqueue(projections[:2].detach(), batch.rows())
        losses = cross_view(codes, list(scores / self.temperature))
        return Loss(
            losses.mean(), len(losses), partial(assignment_logs, torch.cat(codes)), features=torch.cat(features[:2])
        )

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        drawn = self.views.draw(encoder, batch)
        scores = self.prototypes(self.project(encoder, drawn)[1])
        codes, views = self.assign(scores[0], 0, step), torch.stack(drawn.large.views, 1)[:MOST_ROWS]
        shown = {"kind": "clusters", "views": views, "clusters": codes.shape[1]}
        return shown | {"target": codes.argmax(1), "prediction": scores[1].argmax(1)}
