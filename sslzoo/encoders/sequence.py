"""An encoder with tokens: a front end of one modality and a trunk that serves all three."""

from typing import Literal

from torch import Tensor, nn

from sslzoo.data.base import valid
from sslzoo.encoders.base import Encoded, Encoder, Front
from sslzoo.encoders.transformer import Cache, Transformer
from sslzoo.errors import ConfigError


class SequenceEncoder(Encoder):
    """Front end, then trunk. pool: how one vector is made of an item's tokens, their mean or the first
    (a class token)."""

    def __init__(self, front: Front, trunk: nn.Module, pool: Literal["mean", "first"] = "mean"):
        super().__init__()
        if front.dim != trunk.dim:
            raise ConfigError(
                f"the front end gives tokens of {front.dim}, the trunk takes {trunk.dim}: make them equal"
            )
        self.front, self.trunk, self.pool = front, trunk, pool
        self.modality, self.stride, self.prefix = front.modality, front.stride, front.prefix
        self.feature_dim, self.dim, self.depth = front.feature_dim, trunk.dim, trunk.depth
        self.offers = front.offers | {"tokens"} | ({"causal"} if trunk.causal else set())

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.front.features(inputs, lengths)

    def normalize(self, features: Tensor) -> Tensor:
        return self.front.normalize(features)

    def project(self, features: Tensor, lengths: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        return self.front.project(features, lengths, first) if first else self.front.project(features, lengths)

    def cache(self) -> Cache | None:
        """An empty cache to begin a text with, or None where nothing can be kept for the next token."""
        keeps = isinstance(self.trunk, Transformer) and self.trunk.causal and self.front.resumes
        return Cache.empty(self.depth) if keeps else None

    def forward(self, inputs: Tensor, lengths: Tensor, cache: Cache | None = None) -> Encoded:
        """cache: what came before these inputs, which are added to it; the hidden states are theirs alone."""
        features, lengths = self.features(inputs, lengths)
        tokens, lengths = self.project(features, lengths, 0 if cache is None else cache.place)
        return self.contextualize(tokens, lengths, cache)

    def contextualize(self, tokens: Tensor, lengths: Tensor, cache: Cache | None = None) -> Encoded:
        hidden = self.trunk(tokens, lengths) if cache is None else self.trunk(tokens, lengths, cache)
        last = hidden[-1]
        if self.pool == "first":
            return Encoded(hidden, lengths, last[:, 0])
        inside = valid(lengths, last.shape[1])[..., None].to(last.dtype)
        if self.prefix:
            inside = inside.clone()
            inside[:, : self.prefix] = 0
        return Encoded(hidden, lengths, (last * inside).sum(1) / inside.sum(1).clamp(min=1))
