"""An encoder with tokens: a modality's front end and a trunk that is the same for all modalities."""

from typing import Literal

import torch
from torch import Tensor, nn

from sslzoo.data.base import Split
from sslzoo.encoders.base import Encoded, Encoder, Frontend
from sslzoo.encoders.kv_cache import KVCache
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import masked_mean, valid_mask


class SequenceEncoder(Encoder):
    """Front end, then trunk. pool: the item's vector is the mean of its tokens, the first token (a class token), or
    BERT's pooler, tanh(W h + b) of the first (transformers' `pooler_output`).

    prompt: a module without inputs that returns embeddings [P, E] (see `Frontend.project_prompt`); their tokens precede
    an item's in the trunk. Set by `adapt.soft_prompt`, else None. Hidden states and lengths are those of the item only.
    """

    def __init__(self, frontend: Frontend, trunk: nn.Module, pool: Literal["mean", "first", "pooler"] = "mean"):
        super().__init__()
        if frontend.dim != trunk.dim:
            raise ConfigError(
                f"the front end gives tokens of {frontend.dim}, the trunk takes {trunk.dim}: make them equal"
            )
        if pool != "mean" and trunk.causal:
            raise ConfigError(
                "the first token of a causal trunk sees no other, and stands for no item: set encoder.pool=mean"
            )
        self.frontend, self.trunk, self.pool = frontend, trunk, pool
        self.prompt: nn.Module | None = None
        self.pooler = nn.Linear(trunk.dim, trunk.dim) if pool == "pooler" else None
        if self.pooler is not None:
            nn.init.normal_(self.pooler.weight, std=0.02)
            nn.init.zeros_(self.pooler.bias)
        self.modality, self.stride, self.prefix = frontend.modality, frontend.stride, frontend.prefix
        self.reads = frontend.reads
        self.feature_dim, self.dim, self.depth = frontend.feature_dim, trunk.dim, trunk.depth
        self.offers = frontend.offers | {"tokens"} | ({"causal"} if trunk.causal else set())
        self.offers |= {"blind"} if hasattr(trunk, "blind") else set()
        if not (isinstance(trunk, Transformer) and trunk.keeps_apart):
            self.offers -= {"documents"}

    def fit(self, split: Split, seed: int) -> None:
        self.frontend.fit(split, seed)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.frontend.features(inputs, lengths)

    def normalize(self, features: Tensor) -> Tensor:
        return self.frontend.normalize(features)

    def project(self, features: Tensor, lengths: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        if self.prompt is not None and self.frontend.counts_positions:
            start = start or len(self.prompt())
        begun = [start] if start else []  # front ends without cache support have no `start`
        return self.frontend.project(features, lengths, *begun)

    def cache(self) -> KVCache | None:
        """An empty cache, or None if the encoder does not support incremental decoding."""
        keeps = isinstance(self.trunk, Transformer) and self.trunk.causal and self.frontend.supports_cache
        return KVCache() if keeps else None

    def forward(self, inputs: Tensor, lengths: Tensor, cache: KVCache | None = None) -> Encoded:
        """cache: of the tokens before these inputs; the hidden states are those of the inputs only, and the new cache
        is in the result."""
        features, lengths = self.features(inputs, lengths)
        tokens, lengths = self.project(features, lengths, 0 if cache is None else cache.position)
        documents = None if cache is not None else self.frontend.documents(features)  # decoding has one text per row
        return self.contextualize(tokens, lengths, cache, documents=documents)

    def contextualize(
        self,
        tokens: Tensor,
        lengths: Tensor,
        cache: KVCache | None = None,
        positions: Tensor | None = None,
        documents: Tensor | None = None,
    ) -> Encoded:
        own, ahead = lengths, 0
        if self.prompt is not None and (cache is None or not cache.position):
            if positions is not None or documents is not None:
                raise ConfigError("a soft prompt needs rows of one whole item: no packing, no dropped tokens")
            prompt = self.frontend.project_prompt(self.prompt()).to(tokens.dtype)
            tokens, ahead = torch.cat([prompt.expand(len(tokens), -1, -1), tokens], dim=1), len(prompt)
            lengths = lengths + ahead
        if cache is None:
            given = {"positions": positions} if positions is not None and isinstance(self.trunk, Transformer) else {}
            given |= {"documents": documents} if documents is not None else {}
            hidden = self.trunk(tokens, lengths, **given)
        else:
            hidden, state = self.trunk.run(self.trunk.prepare(tokens, lengths, cache, positions=positions))
            cache = self.trunk.cache(state)
        hidden, lengths = [layer[:, ahead:] for layer in hidden] if ahead else hidden, own
        if self.pooler is not None and self.training:
            # add zero times its weights, so that DDP finds their gradients if a loss uses the tokens only
            hidden[-1] = hidden[-1] + 0.0 * sum(p.sum() for p in self.pooler.parameters())
        return Encoded(hidden, lengths, self.pooled(hidden[-1], lengths), cache)

    def pooled(self, last: Tensor, lengths: Tensor) -> Tensor:
        """One vector per item [B, D] from the trunk's result [B, T, D], or from an earlier layer's (`finish`)."""
        vector = self.aggregated(last, lengths)
        return vector if self.pooler is None else torch.tanh(self.pooler(vector))

    def aggregated(self, last: Tensor, lengths: Tensor) -> Tensor:
        """The vector per item [B, D] that BERT's pooler would be given: the mean of its tokens, or the first."""
        if self.pool != "mean":
            return last[:, 0]
        valid = valid_mask(lengths, last.shape[1], last.device)
        if self.prefix:
            valid = valid & (torch.arange(last.shape[1], device=last.device) >= self.prefix)
        return masked_mean(last, valid)
