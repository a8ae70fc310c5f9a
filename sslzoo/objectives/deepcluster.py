"""DeepCluster: predict the k-means cluster of an image's features (Caron et al. 2018, 1807.05520)."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn import cluster
from sslzoo.nn.quantize import perplexity
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective

CHUNK = 4096  # rows of features that are processed at a time


class DeepCluster(Objective):
    """Every `epochs` epochs the features of all images are clustered into `clusters` by k-means (eq. 2), and a linear
    head, reset each time, predicts an image's cluster from a view of it (eq. 1):

    loss = sum_n w_n l(head(f(view of x_n)), y_n) / sum_n w_n        w_n = 1 / (images in cluster y_n)

    Features are reduced to `pca_dim` dimensions, whitened and normalised to length 1 (section 3.4). The paper samples
    images uniformly over clusters, "equivalent to weight the contribution of an input to the loss function by the
    inverse of the size of its assigned cluster" (section 3.3): here the loss is weighted. The k-means refills empty
    clusters from large ones. The paper's fixed Sobel filters, which remove colours from the input, are not used: views
    with colour jitter replace them.
    """

    modalities = ("image",)
    per_item = frozenset({"labels"})

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

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        if items < self.clusters:
            raise UserError(
                f"{items} images cannot make {self.clusters} clusters: "
                f"set objective.clusters={max(items // 10, 2)} or less"
            )
        self.labels = torch.zeros(items, dtype=torch.int64)
        self.refresh_every, self.seed = self.epochs * epoch_steps, seed

    @torch.no_grad()
    def refresh(self, features: Tensor, index: Tensor) -> list[nn.Parameter]:
        seed = rng.derive_seed(self.seed, "deepcluster", int(self.rounds))
        device = self.mean.device
        mean, whitening = pca(features, self.whitening.shape[1], device)
        # broadcast from the first rank here and below, as rounding may differ between hosts
        self.mean.copy_(distributed.broadcast(mean))
        self.whitening.copy_(distributed.broadcast(whitening))
        self.centroids.copy_(self.fit(features, index, seed))
        self.labels.zero_()
        for rows, places in zip(features.split(CHUNK), index.to(device).split(CHUNK), strict=True):
            self.labels[places] = self.assign(rows.to(device))
        self.labels.copy_(distributed.all_reduce_sum(self.labels))  # 0 for other ranks' images
        self.sizes.copy_(torch.bincount(self.labels, minlength=self.clusters))
        generator = torch.Generator().manual_seed(seed)
        weight = torch.empty(self.head.weight.shape).normal_(std=0.01, generator=generator)
        self.head.weight.copy_(distributed.shard_like(weight, self.head.weight))
        self.head.bias.zero_()
        self.rounds.add_(1)
        return [self.head.weight, self.head.bias]

    def fit(self, features: Tensor, index: Tensor, seed: int) -> Tensor:
        """Centroids [K, pca_dim] of the reduced features of a sample of images, which does not depend on the number of
        ranks. The sample is gathered on the first rank, which runs k-means."""
        items = len(self.labels)
        chosen = torch.from_numpy(rng.permutation(seed, "sample", n=items)[: cluster.ROWS * self.clusters])
        row = torch.full((items,), -1)  # each image's row in `features`, or -1
        row[index] = torch.arange(len(index))
        sample = []
        for part in row[chosen.sort().values].split(CHUNK):
            here = (part >= 0).nonzero()[:, 0]
            reduced = self.centroids.new_zeros(len(part), self.centroids.shape[1])
            reduced[here.to(reduced.device)] = self.reduce(features[part[here]].to(reduced.device))
            reduced = distributed.all_reduce_sum(reduced)  # 0 where the row is another rank's
            if distributed.rank() == 0:
                sample.append(reduced.cpu())
        found, problem = torch.zeros_like(self.centroids), None
        if distributed.rank() == 0:
            try:
                found.copy_(cluster.fit(torch.cat(sample), self.clusters, seed).centroids)
            except UserError as error:  # signalled by NaN to the other ranks
                found, problem = found.fill_(math.nan), error
        found = distributed.broadcast(found)
        if found.isnan().any():
            raise problem or UserError("the first rank could not cluster the features: it says why")
        return found

    def reduce(self, features: Tensor) -> Tensor:
        """Features [N, D] -> [N, pca_dim], whitened and normalised to length 1."""
        return F.normalize((features.float() - self.mean) @ self.whitening, dim=1)

    def assign(self, features: Tensor) -> Tensor:
        """The nearest cluster of each row of features [N, D], int64 [N]."""
        return torch.cdist(self.reduce(features), self.centroids).argmin(1)

    def answer(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(views [B, C, S, S], logits [B, K], clusters [B]). In training mode these are the assigned clusters, in eval
        mode the nearest ones, as other splits have none."""
        view = self.views(batch.inputs, batch.row_seeds, "view")
        logits = self.head(encoder(view, batch.lengths).pooled).float()
        if self.training:
            return view, logits, self.labels[batch.index.to(logits.device, non_blocking=True)]
        with torch.no_grad():
            return view, logits, self.assign(encoder(self.views.whole(batch.inputs), batch.lengths).pooled)

    def forward(self, encoder, batch, step: int) -> Loss:
        _, logits, labels = self.answer(encoder, batch)
        # with mean 1 over the training set, so that `count` is near the number of images
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
    def visualize(self, encoder, batch, step: int) -> dict:
        view, logits, labels = self.answer(encoder, batch)
        shown = {"kind": "clusters", "views": view[:MOST_ROWS, None], "clusters": self.clusters}
        return shown | {"target": labels, "prediction": logits.argmax(1)}


def pca(features: Tensor, dim: int, device="cpu") -> tuple[Tensor, Tensor]:
    """(mean [D], whitening matrix [D, dim]), float32, of the features [n, D] of all ranks: principal directions divided
    by the standard deviations along them; zero for directions without variance. Sums are in float64, over CHUNK rows
    at a time on `device`."""

    def parts():
        return (part.to(device).double() for part in features.split(CHUNK))

    zero = torch.zeros(features.shape[1], dtype=torch.float64, device=device)
    count = distributed.all_reduce_sum(torch.tensor(len(features), dtype=torch.float64, device=device))
    mean = distributed.all_reduce_sum(sum((part.sum(0) for part in parts()), zero)) / count
    covariance = sum(((part - mean).T @ (part - mean) for part in parts()), zero.outer(zero))
    values, vectors = torch.linalg.eigh(distributed.all_reduce_sum(covariance) / count)
    values, vectors = values.flip(0)[:dim], vectors.flip(1)[:, :dim]
    # the sign of a direction is arbitrary: make its largest entry positive
    vectors = vectors * vectors.gather(0, vectors.abs().argmax(0, keepdim=True)).sign()
    nonzero = values > 1e-9 * values[0].clamp(min=1e-30)
    return mean.float(), (vectors * torch.where(nonzero, values.clamp(min=1e-30).rsqrt(), 0.0)).float()
