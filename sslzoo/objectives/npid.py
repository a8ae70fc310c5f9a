"""Non-parametric instance discrimination: tell images apart by a memory bank (Wu et al. 2018, 1805.01978)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed, rng
from sslzoo.augment.base import Views
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn.linear import Linear
from sslzoo.nn.metrics import target_rank
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class NPID(Objective):
    """A memory bank holds a vector f_i of each training image. A view's embedding v is to be that of its image i
    and not of m others j, drawn uniformly, by noise-contrastive estimation (eq. 3 to 7):

    P(i|v) = exp(v f_i / t) / Z        h(i, v) = P(i|v) / (P(i|v) + m P_n)        P_n = 1 / (n - 1)

    loss = -log h(i, v) - sum_j log(1 - h(j, v)) + proximal |v - f_i|^2

    Z is a constant, estimated from the first batch (eq. 8): n times the mean of exp(v f_j / t). After a step f_i
    becomes `momentum` f_i + (1 - momentum) v, normalised (authors' code: 0.5). proximal: weight of the proximal
    regularisation, which slows v down (eq. 10). Noise is drawn among the other n - 1 images, so that no negative is the
    positive. Images of other splits have no vector: their positive is the embedding of the whole image. Their noise is
    the memory's, so a finished run stores it.
    """

    modalities = ("image",)
    memory: Tensor
    log_z: Tensor
    batch_terms = "normalisation constant"  # with accumulation, it is estimated from the first part

    def __init__(
        self,
        encoder,
        data,
        views: Views,
        negatives: int = 4096,
        temperature: float = 0.07,
        momentum: float = 0.5,
        proximal: float = 0.0,
        output_dim: int = 128,
    ):
        super().__init__()
        if negatives < 1 or temperature <= 0 or not 0 <= momentum < 1 or proximal < 0:
            raise ConfigError(
                "npid needs negatives >= 1, temperature > 0, 0 <= momentum < 1 and proximal >= 0; "
                f"got {negatives}, {temperature}, {momentum} and {proximal}"
            )
        views.check(encoder, data)
        self.views, self.negatives, self.temperature = views, negatives, temperature
        self.momentum, self.proximal = momentum, proximal
        self.projector = Linear(encoder.dim, output_dim)
        self.register_buffer("memory", torch.zeros(0, output_dim))  # a vector per image; see `prepare`
        self.register_buffer("log_z", torch.full((), math.inf))  # infinite: not estimated yet

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        if items < 2:
            raise UserError(f"npid tells images apart, and the training split has {items}: give it two or more")
        generator = torch.Generator().manual_seed(rng.derive_seed(seed, "memory bank"))
        self.memory = F.normalize(torch.randn(items, self.memory.shape[1], generator=generator), dim=1)

    def embed(self, encoder, images: Tensor, batch) -> tuple[Tensor, Tensor]:
        """(representations [B, D], embeddings v [B, P] of length 1)."""
        features = self.views.encode(encoder, images, batch.lengths).pooled
        return features, F.normalize(self.projector(features).float(), dim=1)

    @torch.no_grad()
    def positive(self, encoder, batch) -> Tensor:
        """f_i [B, P] of the batch's images."""
        if self.training:
            return self.memory[batch.index.to(self.memory.device, non_blocking=True)]
        return self.embed(encoder, self.views.whole(batch.inputs), batch)[1]

    def noise(self, batch) -> Tensor:
        """Indices of `negatives` other images for each of the batch's [B, m], with replacement."""
        index = batch.index.to(self.memory.device, non_blocking=True)[:, None]
        others = len(self.memory) - 1
        place = rng.integers(batch.row_seeds, "noise", others, self.negatives, device=self.memory.device)
        # an image of another split is none of these: it may draw any but one
        return place + (place >= index.clamp(max=others))

    def contrast(self, embeddings: Tensor, positive: Tensor, noise: Tensor) -> Tensor:
        """Logarithms of exp(v f / t) [B, 1 + m], the positive first."""
        own = (embeddings * positive).sum(1, keepdim=True)
        others = torch.einsum("bp,bmp->bm", embeddings, self.memory[noise])
        return torch.cat([own, others], 1) / self.temperature

    @torch.no_grad()
    def estimate(self, scores: Tensor, rows: int) -> Tensor:
        """log Z: the stored one, or the estimate from this batch's noise [B, m] of all ranks."""
        mean = distributed.all_reduce_mean(scores.exp().mean(1).sum(), rows)
        return torch.where(self.log_z.isinf(), torch.log(len(self.memory) * mean), self.log_z)

    def forward(self, encoder, batch, step: int) -> Loss:
        features, embeddings = self.embed(encoder, self.views(batch.inputs, batch.row_seeds, "view"), batch)
        positive = self.positive(encoder, batch)
        scores = self.contrast(embeddings, positive, self.noise(batch))
        log_z = self.estimate(scores[:, 1:].detach(), len(batch))
        # log of P / (m P_n), whose sigmoid is h
        odds = scores - log_z - math.log(self.negatives / (len(self.memory) - 1))
        losses = -F.logsigmoid(odds[:, 0]) - F.logsigmoid(-odds[:, 1:]).sum(1)
        losses = losses + self.proximal * (embeddings - positive).square().sum(1)
        if self.training:
            self.log_z.copy_(log_z)
            self.remember(embeddings.detach(), positive, batch)

        def logs() -> dict:
            found = target_rank(scores.detach()) == 0
            return {"accuracy": found.float().mean(), "chance": 1 / (1 + self.negatives), "log_z": log_z}

        return Loss(losses.mean(), len(losses), logs, features=features)

    @torch.no_grad()
    def remember(self, embeddings: Tensor, positive: Tensor, batch) -> None:
        """Move the vectors of all ranks' images towards their new embeddings."""
        new = F.normalize(torch.lerp(embeddings, positive, self.momentum), dim=1)
        index, _ = distributed.all_gather(batch.index.to(new.device, non_blocking=True), batch.rows())
        self.memory.index_copy_(0, index, distributed.all_gather(new, batch.rows())[0])

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        view, whole = self.views(batch.inputs, batch.row_seeds, "view"), self.views.whole(batch.inputs)
        scores = self.contrast(self.embed(encoder, view, batch)[1], self.positive(encoder, batch), self.noise(batch))
        views = torch.stack([view, whole.to(view) / (255 if whole.dtype == torch.uint8 else 1)], 1)[:MOST_ROWS]
        return {"kind": "view_pairs", "views": views, "rank": target_rank(scores), "candidates": scores.shape[1]}
