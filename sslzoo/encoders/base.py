"""What an encoder is, for every modality: features -> tokens -> contextualized tokens.

    features(inputs, lengths)       [B, T, C]  what the input is made of: patches, frames, ids
    project(features, lengths)      [B, T, D]  tokens: projected, with absolute positions
    contextualize(tokens, lengths)  Encoded    what the trunk makes of them

`embed` is the first two. Lengths are in host memory, so that whether a batch is padded is known without waiting
for an accelerator (those of a device are copied there). An objective steps in wherever its paper does: masks tokens before
`contextualize`, takes `features` as what is to be rebuilt or quantised, drops patches in between.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from torch import Tensor, nn


@dataclass
class Encoded:
    """hidden: the trunk's input and each layer's output, [B, T, D] each; the last one is the result.
    lengths: int64 [B], valid tokens of each row, on the host. pooled: [B, D], one vector an item. cache: what a
    causal trunk keeps for the tokens to come, where it was given one."""

    hidden: list[Tensor]
    lengths: Tensor
    pooled: Tensor
    cache: object = None

    @property
    def last(self) -> Tensor:
        return self.hidden[-1]


class Frontend(nn.Module):
    """The first two stages: turns inputs of one modality into tokens.

    modality: "image", "speech" or "text". dim: D. feature_dim: C (0 where features are ids).
    stride: input units (samples, pixels a side, tokens) between neighbouring tokens.
    prefix: tokens before the first input token, such as a class token; never masked.
    An image may be a piece, smaller than the data's: of any size, or with "patches" of a multiple of `stride`.
    offers: what an objective may ask for, among "tokens", "patches" that can be left out one by one,
    "frames" that can be altered and rebuilt, "causal", "documents" that are kept apart where a row has several.
    reads: what data must say of itself to be read, by name: "sample_rate", "size", "channels", and for text the most
    that it may say, "vocab_size" and "max_tokens". Other data are set to it (see `features.compatible`).
    packed: whether rows are several items, which `documents` tells apart; set by `build` where the data are so.
    supports_cache: whether `project` takes the place of the first feature, so that a text can be gone on with.
    """

    modality: str
    dim: int
    feature_dim: int
    stride: int
    prefix: int = 0
    offers: frozenset[str] = frozenset()
    reads: Mapping[str, object] = MappingProxyType({})
    packed: bool = False
    supports_cache: bool = False

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def normalize(self, features: Tensor) -> Tensor:
        """Features as the projection gets them: what a quantiser is given."""
        return features

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def documents(self, features: Tensor) -> Tensor | None:
        """int64 [B, T], of each token which item of its row it is of, or None where a row is one item."""
        return None


class Encoder(Frontend):
    """All three stages. Padding never changes a valid token.

    depth: layers of the trunk, so that `hidden` has depth + 1.
    frozen: whether it was trained before, and stays as it was but for parameters that require a gradient. Then it stays
    in eval mode, without dropout, but for modules that hold such parameters.
    """

    depth: int
    frozen: bool = False

    def train(self, mode: bool = True) -> Self:
        super().train(mode and not self.frozen)
        if mode and self.frozen:
            for module in self.modules():
                if module is not self and any(p.requires_grad for p in module.parameters(recurse=False)):
                    module.train()
        return self

    def embed(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """[B, ...], [B] -> tokens [B, T, D], lengths [B]."""
        return self.project(*self.features(inputs, lengths))

    def contextualize(
        self, tokens: Tensor, lengths: Tensor, *, positions: Tensor | None = None, documents: Tensor | None = None
    ) -> Encoded:
        """positions: the tokens' places in the whole, int64 [B, T], where an objective has left some out; None if they
        follow each other from 0. documents: see `Frontend.documents`; no token looks at another item's."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        return self.contextualize(*self.embed(inputs, lengths))
