"""MoCo v1 and v2: contrast with a queue of a momentum encoder's keys (He et al. 2020, 1911.05722; Chen et al. 2020,
2003.04297)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed
from sslzoo.augment.base import Drawn
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn.masked import indices
from sslzoo.nn.metrics import choice_logs, target_rank
from sslzoo.nn.teacher import Teacher
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class MoCo(Objective):
    """A query q from one view is classified as its key k+ from the other view, against keys k_i of earlier batches
    (eq. 1):

    loss = -log( exp(q k+ / t) / (exp(q k+ / t) + sum_i exp(q k_i / t)) )

    The key encoder is a moving average with `momentum` (eq. 2). splits: number of random parts of the global batch
    that the keys' batch norm normalises separately, so that query and key do not share statistics ("shuffling BN",
    section 3.3). queue: number of stored keys, a multiple of the global batch. hidden_dim: of the head, None for a
    linear one (v1).
    """

    modalities = ("image",)
    batch_terms = "queue"  # with accumulation, it is updated per part

    def __init__(
        self,
        encoder,
        data,
        views: nn.Module,
        queue: int = 4096,
        momentum: float = 0.99,
        temperature: float = 0.2,
        hidden_dim: int | None = 2048,
        output_dim: int = 128,
        splits: int = 4,
    ):
        super().__init__()
        if temperature <= 0 or splits < 1:
            raise ConfigError(f"moco needs temperature > 0 and splits >= 1; got {temperature} and {splits}")
        size = getattr(data.batch, "size", None)
        if size is None:
            raise ConfigError(
                "moco needs batches of one size, for its queue: set data.batch to one of ByCount (size: 64)"
            )
        if queue < size or queue % size:
            fits = max(1, round(queue / size)) * size
            raise ConfigError(
                f"objective.queue={queue} is not a multiple of the batch of {size}; the nearest is {fits}"
            )
        views.check(encoder, data)
        self.views, self.temperature, self.splits, self.batch_size = views, temperature, splits, size
        self.min_batch = 2 * splits  # batch norm needs two rows per part
        if hidden_dim is None:
            self.projector: nn.Module = nn.Linear(encoder.dim, output_dim)
        else:
            head = [nn.Linear(encoder.dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, output_dim)]
            self.projector = nn.Sequential(*head)
        self.teacher = Teacher(encoder, self.projector, momentum, momentum)
        self.register_buffer("queue", F.normalize(torch.randn(queue, output_dim), dim=1))
        self.register_buffer("queue_ptr", torch.zeros((), dtype=torch.int64))

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        if len(self.queue) > items:  # else an image's own older keys are always among its negatives
            fits = items // self.batch_size * self.batch_size
            raise UserError(
                f"objective.queue={len(self.queue)} holds more keys than the {items} images of the training split, so "
                f"that an image would be told apart from itself — set objective.queue={fits} or less"
            )

    @torch.no_grad()
    def encode_keys(self, images: Tensor, batch) -> Tensor:
        """Keys [B, D] of a view, with separate batch norm statistics for each random part of the global batch."""
        everyone = batch.gathered_row_seeds()
        start = sum((batch.rows() or [])[: distributed.rank()])
        part = everyone.argsort().argsort()[start : start + len(images)] * self.splits // len(everyone)
        keys = None
        for number in range(self.splits):
            mine = indices(part == number)
            here = mine.to(images.device, non_blocking=True)
            found = self.teacher.projector(self.teacher.encoder(images[here], batch.lengths[mine]).pooled)
            keys = found.new_empty(len(images), found.shape[1]) if keys is None else keys
            keys.index_copy_(0, here, found)
        return F.normalize(keys.float(), dim=1)

    @torch.no_grad()
    def enqueue(self, keys: Tensor, rows: list[int] | None) -> None:
        """Replace the oldest keys by the new ones of all ranks."""
        keys, _ = distributed.all_gather(keys, rows)
        at = (self.queue_ptr + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue.index_copy_(0, at, keys)
        self.queue_ptr.add_(len(keys)).remainder_(len(self.queue))

    def contrast(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor, Drawn]:
        """(logits [B, 1 + queue], the positive first; representations; keys; both views)."""
        drawn = self.views.draw(encoder, batch)
        features = self.views.encode(encoder, drawn.views[0], drawn.lengths).pooled
        query = F.normalize(self.projector(features).float(), dim=1)
        keys = self.encode_keys(drawn.views[1], batch)
        # a copy, as the queue is updated before the backward pass
        negative = query @ self.queue.clone().T
        positive = (query * keys).sum(1, keepdim=True)
        return torch.cat([positive, negative], dim=1) / self.temperature, features, keys, drawn

    def forward(self, encoder, batch, step: int) -> Loss:
        logits, features, keys, _ = self.contrast(encoder, batch)
        if self.training:
            self.enqueue(keys, batch.rows())
        losses = -logits.log_softmax(1)[:, 0]
        logs = partial(choice_logs, logits, None, chance=1 / logits.shape[1])
        return Loss(losses.mean(), len(losses), logs, features=features)

    def after_step(self, encoder, step: int, total_steps: int) -> None:
        self.teacher.update(encoder, self.projector, step, total_steps)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        logits, _, _, drawn = self.contrast(encoder, batch)
        views = torch.stack(drawn.views, 1)[:MOST_ROWS]
        return {"kind": "view_pairs", "views": views, "rank": target_rank(logits), "candidates": logits.shape[1]}
