"""An encoder with tokens: a front end of one modality and a trunk that serves all three."""

from typing import Literal

import torch
from torch import Tensor, nn

from sslzoo.encoders.base import Encoded, Encoder, Front
from sslzoo.encoders.kv_cache import KVCache
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
from sslzoo.parts.masked import masked_mean, valid


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

    def cache(self) -> KVCache | None:
        """An empty cache to begin a text with, or None where nothing can be kept for the next token."""
        keeps = isinstance(self.trunk, Transformer) and self.trunk.causal and self.front.resumes
        return KVCache() if keeps else None

    def forward(self, inputs: Tensor, lengths: Tensor, cache: KVCache | None = None) -> Encoded:
        """cache: what came before these inputs; the hidden states are those of the inputs alone, and the cache
        for the next ones is in what is returned."""
        features, lengths = self.features(inputs, lengths)
        tokens, lengths = self.project(features, lengths, 0 if cache is None else cache.place)
        return self.contextualize(tokens, lengths, cache)

    def contextualize(self, tokens: Tensor, lengths: Tensor, cache: KVCache | None = None) -> Encoded:
        if cache is None:
            hidden = self.trunk(tokens, lengths)
        else:
            hidden, state = self.trunk.run(self.trunk.prepare(tokens, lengths, cache))
            cache = self.trunk.cache(state)
        return Encoded(hidden, lengths, self.pooled(hidden[-1], lengths), cache)

    def pooled(self, last: Tensor, lengths: Tensor) -> Tensor:
        """One vector an item [B, D] of the trunk's result [B, T, D]."""
        if self.pool == "first":
            return last[:, 0]
        inside = valid(lengths, last.shape[1], last.device)
        if self.prefix:
            inside = inside & (torch.arange(last.shape[1], device=last.device) >= self.prefix)
        return masked_mean(last, inside)
