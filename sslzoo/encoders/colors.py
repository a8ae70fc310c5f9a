"""Image GPT's front end: pixels as tokens of a palette (Chen et al. 2020, "Generative pretraining from pixels")."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Split
from sslzoo.encoders.base import Frontend
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn import cluster
from sslzoo.nn.images import to_float

PIXELS = 2**17  # whose colours are clustered


class Colors(Frontend):
    """Images [B, C, S, S] in 0..1 or uint8, reduced to `side` pixels a side -> the index of each pixel's nearest colour
    of a palette, int64 [B, T], row by row -> tokens [B, 1 + T, D]: a learned start token, then the colours' embeddings,
    with learned positions (section 2.3). A causal trunk's output at a place has seen the pixels up to it.

    colors: of the palette, the k-means clusters of the training set's colours (512 in the paper), which `fit` computes.
    """

    modality = "image"
    feature_dim = 0
    prefix = 1
    offers = frozenset({"colors"})
    palette: Tensor
    fitted: Tensor

    def __init__(
        self, dim: int, size: int, side: int = 16, colors: int = 512, channels: int = 3, init_std: float = 0.02
    ):
        super().__init__()
        if not 1 <= side <= size or size % side or colors < 2:
            fits = [n for n in range(1, size + 1) if size % n == 0]
            raise ConfigError(
                f"side={side} must divide the image size {size} (one of {fits}), and colors be 2 or more, got {colors}"
            )
        self.dim, self.side, self.stride = dim, side, size // side
        self.reads = {"size": size, "channels": channels}
        self.register_buffer("palette", torch.rand(colors, channels))
        self.register_buffer("fitted", torch.tensor(False))
        self.color_embedding = nn.Embedding(colors, dim)
        self.start_token = nn.Parameter(torch.randn(dim) * init_std)
        self.position_embedding = nn.Parameter(torch.randn(side * side, dim) * init_std)
        nn.init.normal_(self.color_embedding.weight, std=init_std)

    def pixels(self, inputs: Tensor) -> Tensor:
        """[B, C, S, S] -> [B, T, C] in 0..1, reduced."""
        images = to_float(inputs)
        if images.shape[-1] != self.side:
            images = F.interpolate(images, self.side, mode="bilinear", antialias=True)
        return images.flatten(2).transpose(1, 2)

    def fit(self, split: Split, seed: int) -> None:
        if self.fitted:
            return
        rows = torch.randperm(len(split), generator=torch.Generator().manual_seed(seed))[: PIXELS // self.side**2 + 1]
        found = torch.cat([self.pixels(split.read(row)[None])[0] for row in rows.tolist()])
        try:
            self.palette.copy_(cluster.fit(found[:PIXELS], len(self.palette), seed).centroids)
        except UserError as error:
            raise UserError(f"the images' colours: {error} (encoder.frontend.colors={len(self.palette)})") from error
        self.fitted.fill_(True)

    @torch.no_grad()
    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        with torch.autocast(inputs.device.type, enabled=False):
            palette = self.palette.float()
            # squared distances without the pixel's own square
            distance = palette.square().sum(1) - 2 * self.pixels(inputs) @ palette.T
        nearest = distance.argmin(2)
        return nearest, torch.full((len(nearest),), nearest.shape[1])

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.color_embedding(features) + self.position_embedding
        start = self.start_token.to(tokens.dtype).expand(len(tokens), 1, -1)
        return torch.cat([start, tokens], dim=1), lengths + self.prefix

    def images(self, features: Tensor) -> Tensor:
        """Indices of colours [B, T] -> images [B, C, side, side] in 0..1."""
        return self.palette[features].transpose(1, 2).unflatten(2, (self.side, self.side))
