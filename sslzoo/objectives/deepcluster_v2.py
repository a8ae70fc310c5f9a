"""DeepCluster-v2: predict clusters of a memory of projections (Caron et al. 2020, 2006.09882, appendix)."""

import faiss
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.augment.base import Drawn, Views
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn.heads import mlp
from sslzoo.nn.quantize import perplexity
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective

CHUNK = 4096  # images that are assigned at a time


class DeepClusterV2(Objective):
    """Every epoch, spherical k-means clusters a memory of the projections z that images had in their last step, once
    per head h; the centroids c_hk are the head's prototypes, which do not learn, and every view of an image is to be
    nearest to its cluster y_h (DeepCluster's eq. 1, with the comparisons of SwAV):

    loss = mean over h and views of -log softmax(z c_h / temperature)_{y_h}

    So no pass over the data is needed but the first, which fills the memory, and no head begins anew. Head h clusters
    the projections of the first or second large view, in turns, as in the authors' code. heads: number of clusterings,
    of `clusters` each, which differ in their initial centroids. iterations: of k-means. Every rank has all of the
    memory, two projections per image; in the authors' code each has a share.
    """

    modalities = ("image",)
    memory: Tensor
    labels: Tensor
    centroids: Tensor
    rounds: Tensor
    per_item = frozenset({"memory", "labels"})
    refreshes_with_features = False

    def __init__(
        self,
        encoder,
        data,
        views: Views,
        clusters: int = 256,
        heads: int = 3,
        temperature: float = 0.1,
        iterations: int = 10,
        hidden_dim: int = 2048,
        output_dim: int = 128,
    ):
        super().__init__()
        if clusters < 2 or heads < 1 or iterations < 1 or temperature <= 0:
            raise ConfigError(
                "deepcluster_v2 needs clusters >= 2, heads >= 1, iterations >= 1 and temperature > 0; "
                f"got {clusters}, {heads}, {iterations} and {temperature}"
            )
        views.check(encoder, data, most=None)
        self.views, self.clusters, self.heads = views, clusters, heads
        self.temperature, self.iterations = temperature, iterations
        self.projector = mlp(encoder.dim, hidden_dim, output_dim)
        self.register_buffer("memory", torch.zeros(2, 0, output_dim))  # of each image's large views; see `prepare`
        self.register_buffer("labels", torch.zeros(heads, 0, dtype=torch.int64))
        self.register_buffer("centroids", torch.zeros(heads, clusters, output_dim))
        self.register_buffer("rounds", torch.zeros((), dtype=torch.int64))

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        if items < self.clusters:
            raise UserError(
                f"{items} images cannot make {self.clusters} clusters: "
                f"set objective.clusters={max(items // 10, 2)} or less"
            )
        self.memory = torch.zeros(2, items, self.memory.shape[2])
        self.labels = torch.zeros(self.heads, items, dtype=torch.int64)
        self.refresh_every, self.seed = epoch_steps, seed

    @torch.no_grad()
    def refresh(self, features: Tensor, index: Tensor) -> list[nn.Parameter]:
        if not int(self.rounds):
            self.fill(features, index)
        for head in range(self.heads):
            memory = self.memory[head % 2]
            found = torch.zeros_like(self.centroids[head])
            if distributed.rank() == 0:  # broadcast, as rounding may differ between hosts
                seed = rng.derive_seed(self.seed, "deepcluster_v2", int(self.rounds), head) % 2**31
                found.copy_(spherical_kmeans(memory, self.clusters, self.iterations, seed))
            self.centroids[head] = distributed.broadcast(found)
            for begin in range(0, memory.shape[0], CHUNK):
                part = memory[begin : begin + CHUNK]
                self.labels[head, begin : begin + CHUNK] = (part @ self.centroids[head].T).argmax(1)
        self.labels.copy_(distributed.broadcast(self.labels))
        self.rounds.add_(1)
        return []

    def fill(self, features: Tensor, index: Tensor) -> None:
        """Fill the memory with the projections of all images' features, of which this rank has some."""
        device, mode = self.memory.device, self.projector.training
        self.projector.eval()
        self.memory.zero_()
        for rows, places in zip(features.split(CHUNK), index.to(device).split(CHUNK), strict=True):
            self.memory[:, places] = self.normalised(rows.to(device))
        self.projector.train(mode)
        self.memory.copy_(distributed.all_reduce_sum(self.memory))  # 0 for other ranks' images

    def normalised(self, features: Tensor) -> Tensor:
        return F.normalize(self.projector(features).float(), dim=1)

    def project(self, encoder, drawn: Drawn) -> tuple[list[Tensor], Tensor]:
        """(representations [B, D] of all views, their projections [V, B, P] of length 1)."""
        features = self.views.embed(encoder, drawn, joint=True)
        return features, self.normalised(torch.cat(features)).unflatten(0, (len(features), -1))

    @torch.no_grad()
    def targets(self, encoder, batch) -> Tensor:
        """Clusters [H, B]. In training mode these are the assigned ones, in eval mode the nearest ones to the whole
        image, as other splits have none."""
        if self.training:
            return self.labels[:, batch.index.to(self.labels.device, non_blocking=True)]
        whole = self.normalised(encoder(self.views.whole(batch.inputs), batch.lengths).pooled)
        return torch.einsum("bp,hkp->hbk", whole, self.centroids).argmax(2)

    @torch.no_grad()
    def remember(self, projections: Tensor, batch) -> None:
        """Store the projections of both large views [2, B, P] of all ranks."""
        index = batch.index.to(projections.device, non_blocking=True)
        index, _ = distributed.all_gather(index, batch.rows())
        new, _ = distributed.all_gather(projections.transpose(0, 1).contiguous(), batch.rows())
        self.memory.index_copy_(1, index, new.transpose(0, 1))

    def forward(self, encoder, batch, step: int) -> Loss:
        features, projections = self.project(encoder, self.views.draw(encoder, batch))
        targets = self.targets(encoder, batch)
        # [V, H, B, K]
        logits = torch.einsum("vbp,hkp->vhbk", projections, self.centroids.clone()) / self.temperature
        losses = -logits.log_softmax(3).gather(3, targets.expand(len(logits), -1, -1)[..., None])
        if self.training:
            self.remember(projections[:2].detach(), batch)

        def logs() -> dict:
            sizes = torch.stack([torch.bincount(y, minlength=self.clusters) for y in self.labels]).float()
            return {
                "accuracy": (logits.argmax(3) == targets).float().mean(),
                "chance": sizes.amax(1).mean() / sizes[0].sum(),  # of naming the largest cluster
                "code_perplexity": perplexity(sizes / sizes.sum(1, keepdim=True)) / self.heads,
            }

        return Loss(losses.mean(), len(batch), logs, features=torch.cat(features[:2]))

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        drawn = self.views.draw(encoder, batch)
        named = (self.project(encoder, drawn)[1][0] @ self.centroids[0].T).argmax(1)
        shown = {"kind": "clusters", "views": drawn.views[0][:MOST_ROWS, None], "clusters": self.clusters}
        return shown | {"target": self.targets(encoder, batch)[0], "prediction": named}


def spherical_kmeans(x: Tensor, clusters: int, iterations: int, seed: int) -> Tensor:
    """Centroids [K, P] of length 1 of the directions x [N, P], by faiss: initial ones are drawn from x, each step
    assigns by the largest cosine, and empty clusters take over a part of large ones."""
    kmeans = faiss.Kmeans(
        x.shape[1],
        clusters,
        niter=iterations,
        spherical=True,
        seed=seed,
        min_points_per_centroid=1,
        max_points_per_centroid=max(len(x), 1),
    )
    kmeans.train(x.cpu().contiguous().numpy())
    return torch.from_numpy(kmeans.centroids)
