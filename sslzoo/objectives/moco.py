"""MoCo v2: contrast with a queue of a slow copy's keys (He et al. 2020, 1911.05722; Chen et al. 2020, 2003.04297)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.errors import ConfigError
from sslzoo.objectives.base import Loss, Objective
from sslzoo.parts import health, ranks
from sslzoo.parts.ema import follow, frozen_copy
from sslzoo.parts.shown import view_pairs


class MoCo(Objective):
    """A query q of one view must find the key k+ of the other among the keys of earlier batches (eq. 1):

    loss = -log( exp(q k+ / t) / (exp(q k+ / t) + sum_i exp(q k_i / t)) )

    The key encoder follows by `decay` (eq. 2). splits: into how many random parts of the global batch the
    keys' batch norm sees, so that a key cannot tell its query by their common statistics ("shuffling BN",
    section 3.3). queue: keys that are held, a multiple of the global batch.
    """

    modalities = ("image",)

    def __init__(
        self,
        encoder,
        data,
        views: nn.Module,
        queue: int = 4096,
        decay: float = 0.99,
        temperature: float = 0.2,
        hidden_dim: int = 2048,
        output_dim: int = 128,
        splits: int = 4,
    ):
        super().__init__()
        if not 0 <= decay < 1 or temperature <= 0 or splits < 1:
            raise ConfigError(
                f"moco needs 0 <= decay < 1, temperature > 0, splits >= 1; got {decay}, {temperature}, {splits}"
            )
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
        self.views, self.decay, self.temperature, self.splits = views, decay, temperature, splits
        self.min_batch = 2 * splits  # batch norm needs two rows of each
        self.projector = nn.Sequential(nn.Linear(encoder.dim, hidden_dim), nn.ReLU(), nn.Linear(hidden_dim, output_dim))
        self.key_encoder, self.key_projector = frozen_copy(encoder), frozen_copy(self.projector)
        self.register_buffer("queue", F.normalize(torch.randn(queue, output_dim), dim=1))
        self.register_buffer("place", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def keys_of(self, images: Tensor, batch) -> Tensor:
        """Keys [B, D] of a view, each random part of the global batch normalised by itself."""
        everyone, start = ranks.gather(batch.keys)
        part = everyone.argsort().argsort()[start : start + len(images)] * self.splits // len(everyone)
        keys = None
        for number in range(self.splits):
            mine = part == number
            found = self.key_projector(self.key_encoder(images[mine], batch.lengths[mine]).pooled)
            keys = found.new_empty(len(images), found.shape[1]) if keys is None else keys
            keys[mine] = found
        return F.normalize(keys.float(), dim=1)

    @torch.no_grad()
    def enqueue(self, keys: Tensor) -> None:
        """The newest keys of all ranks take the place of the oldest."""
        keys, _ = ranks.gather(keys)
        at = (self.place + torch.arange(len(keys), device=keys.device)) % len(self.queue)
        self.queue[at] = keys
        self.place.add_(len(keys)).remainder_(len(self.queue))

    def contrast(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor, tuple[Tensor, Tensor]]:
        """Logits [B, 1 + queue], the right one first; representations; keys; both views."""
        a, b, _ = self.views.pair(encoder, batch)
        seen = encoder(a, batch.lengths).pooled
        query = F.normalize(self.projector(seen).float(), dim=1)
        keys = self.keys_of(b, batch)
        # a copy: the queue moves on before the gradient is taken
        others = query @ self.queue.clone().T
        right = (query * keys).sum(1, keepdim=True)
        return torch.cat([right, others], dim=1) / self.temperature, seen, keys, (a, b)

    def forward(self, encoder, batch, step: int) -> Loss:
        logits, seen, keys, _ = self.contrast(encoder, batch)
        if self.training:
            self.enqueue(keys)
        losses = -logits.log_softmax(1)[:, 0]
        logs = {
            "accuracy": (logits.argmax(1) == 0).float().mean(),
            "chance": 1 / logits.shape[1],
            "uniform_loss": math.log(logits.shape[1]),
        }
        if step % health.EVERY == 0:
            logs |= health.spread(seen)
        return Loss(losses.mean(), len(losses), logs)

    def after_step(self, encoder, step: int, total_steps: int) -> None:
        follow(self.key_encoder, encoder, self.decay)
        follow(self.key_projector, self.projector, self.decay)

    @torch.no_grad()
    def show(self, encoder, batch, step: int) -> dict:
        logits, _, _, (a, b) = self.contrast(encoder, batch)
        place = (logits > logits[:, :1]).sum(1)
        title = f"Two views of each image; where the second came among {logits.shape[1]} keys"
        return view_pairs(title, a, b, [f"rank {p + 1}" for p in place.tolist()], place == 0)
