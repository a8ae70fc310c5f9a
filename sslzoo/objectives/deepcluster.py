"""DeepCluster: name the cluster that an image's own features put it into (Caron et al. 2018, 1807.05520)."""

import math
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import draws
from sslzoo.errors import ConfigError, UserError
from sslzoo.objectives.base import Loss, Objective
from sslzoo.parts import cluster, ranks
from sslzoo.parts.quantize import perplexity

CHUNK = 4096  # images whose features are worked on at a time


class DeepCluster(Objective):
    """Every `epochs` epochs k-means puts the features of all images into `clusters` (eq. 2); between, a linear
    head that is new each time names an image's cluster from a view of it (eq. 1):

    loss = sum_n w_n l(head(f(view of x_n)), y_n) / sum_n w_n        w_n = 1 / (images in cluster y_n)

    Features are reduced to `pca_dim` dimensions, whitened and set to length 1 (section 3.4). The paper draws images
    uniformly over clusters, "equivalent to weight the contribution of an input to the loss function by the inverse
    of the size of its assigned cluster" (section 3.3): the weights are what is done here. Empty clusters are split
    off full ones by the k-means. The paper's fixed Sobel filters, which take colours away before the network, are
    not here: views that change colours do that.
    """

    modalities = ("image",)

    def __init__(self, encoder, data, views: nn.Module, clusters: int = 100, epochs: int = 1, pca_dim: int = 256):
        super().__init__()
        if clusters < 2 or epochs < 1 or pca_dim < 1:
            raise ConfigError(
                f"deepcluster needs clusters >= 2, epochs >= 1, pca_dim >= 1; got {clusters}, {epochs}, {pca_dim}"
            )
        views.check(encoder, data)
        self.views, self.clusters, self.epochs = views, clusters, epochs
        self.head = nn.Linear(encoder.dim, clusters)
        reduced = min(pca_dim, encoder.dim)
        self.register_buffer("labels", torch.zeros(0, dtype=torch.int64))  # of every image; sized by `prepare`
        self.register_buffer("sizes", torch.ones(clusters))
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))
        self.register_buffer("mean", torch.zeros(encoder.dim))
        self.register_buffer("whitening", torch.eye(encoder.dim, reduced))
        self.register_buffer("centroids", torch.zeros(clusters, reduced))

    def prepare(self, items: int, epoch_steps: int) -> None:
        if items < self.clusters:
            raise UserError(
                f"{items} images cannot make {self.clusters} clusters: "
                f"set objective.clusters={max(items // 10, 2)} or less"
            )
        self.labels = torch.zeros(items, dtype=torch.int64)
        self.refresh_every = self.epochs * epoch_steps

    @torch.no_grad()
    def refresh(self, features: Tensor) -> list[nn.Parameter]:
        seed = draws.key("deepcluster", int(self.rounds))
        parts = features.split(CHUNK)
        # here and below the first rank's, lest rounding differ from host to host
        mean, whitening = pca(parts, self.whitening.shape[1])
        self.mean.copy_(ranks.first(mean.to(self.mean)))
        self.whitening.copy_(ranks.first(whitening.to(self.mean)))
        reduced = torch.cat([self.reduce(part.to(self.mean)).cpu() for part in parts])
        self.centroids.copy_(ranks.first(cluster.fit(reduced, self.clusters, seed).centroids.to(self.mean)))
        self.labels.copy_(torch.cat([self.assign(part.to(self.mean)) for part in parts]))
        self.sizes.copy_(torch.bincount(self.labels, minlength=self.clusters))
        generator = torch.Generator().manual_seed(seed)
        self.head.weight.copy_(torch.empty(self.head.weight.shape).normal_(std=0.01, generator=generator))
        self.head.bias.zero_()
        self.rounds.add_(1)
        return [self.head.weight, self.head.bias]

    def reduce(self, features: Tensor) -> Tensor:
        """Features [N, D] -> [N, pca_dim], whitened, of length 1."""
        return F.normalize((features.float() - self.mean) @ self.whitening, dim=1)

    def assign(self, features: Tensor) -> Tensor:
        """The nearest cluster of each of [N, D], int64 [N]."""
        return torch.cdist(self.reduce(features), self.centroids).argmin(1)

    def answer(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        """Views [B, C, S, S], logits [B, K] and clusters [B]. In training an image's cluster is the one it was
        put into; one of another split gets the nearest."""
        view = self.views(batch.inputs, batch.keys, "view")
        logits = self.head(encoder(view, batch.lengths).pooled).float()
        if self.training:
            return view, logits, self.labels[batch.index.to(logits.device, non_blocking=True)]
        with torch.no_grad():
            return view, logits, self.assign(encoder(batch.inputs, batch.lengths).pooled)

    def forward(self, encoder, batch, step: int) -> Loss:
        _, logits, labels = self.answer(encoder, batch)
        # of mean 1 over the training set, so that `count` is near the number of images
        used = (self.sizes > 0).sum()
        weights = self.sizes.sum() / used / self.sizes[labels].clamp(min=1)
        losses = F.cross_entropy(logits, labels, reduction="none")

        def logs() -> dict:
            return {
                "accuracy": (weights * (logits.argmax(1) == labels)).sum() / weights.sum(),
                "chance": 1 / used,
                "uniform_loss": math.log(self.clusters),
                "code_perplexity": perplexity(self.sizes / self.sizes.sum()),
            }

        return Loss((weights * losses).sum() / weights.sum(), weights.sum(), logs)

    @torch.no_grad()
    def show(self, encoder, batch, step: int) -> dict:
        view, logits, labels = self.answer(encoder, batch)
        said = logits.argmax(1)
        return {
            "kind": "images",
            "title": f"Views of images, their clusters of {self.clusters}, and what the head said",
            "images": view[:16].cpu(),
            "captions": [f"{y}: said {s}" for y, s in zip(labels.tolist(), said.tolist(), strict=True)][:16],
            "right": (said == labels)[:16].cpu(),
            "columns": 8,
        }


def pca(parts: Sequence[Tensor], dim: int) -> tuple[Tensor, Tensor]:
    """The mean [D] and the whitening matrix [D, dim] of features [n, D], part by part: principal directions over
    the deviations along them. Directions in which nothing varies are left out (zero)."""
    count = sum(map(len, parts))
    mean = sum(part.double().sum(0) for part in parts) / count
    centred = ((part - mean) for part in parts)
    values, vectors = torch.linalg.eigh(sum(x.T @ x for x in centred) / count)
    values, vectors = values.flip(0)[:dim], vectors.flip(1)[:, :dim]
    there = values > 1e-9 * values[0].clamp(min=1e-30)
    return mean.float(), (vectors * torch.where(there, values.clamp(min=1e-30).rsqrt(), 0.0)).float()
