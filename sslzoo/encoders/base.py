"""The interface of encoders of every modality: features -> tokens -> contextualized tokens.

    features(inputs, lengths)       [B, T, C]  patches, frames or ids
    project(features, lengths)      [B, T, D]  tokens: projected, with absolute positions
    contextualize(tokens, lengths)  Encoded    the trunk's hidden states

`embed` is the first two. Lengths are on the CPU, so that checking for padding does not synchronise with the device
(lengths on a device are copied). An objective hooks in between stages as its paper requires: it masks tokens before
`contextualize`, reconstructs or quantises `features`, or drops patches.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Self

from torch import Tensor, nn

from sslzoo.data.base import Split


@dataclass
class Encoded:
    """hidden: the trunk's input and each layer's output, [B, T, D] each; the last one is the result.
    lengths: int64 [B], number of valid tokens in each row, on the CPU. pooled: [B, D], one vector per item. cache: a
    causal trunk's `KVCache` for the next tokens, if it was called with one."""

    hidden: list[Tensor]
    lengths: Tensor
    pooled: Tensor
    cache: object = None

    @property
    def last(self) -> Tensor:
        return self.hidden[-1]


class Frontend(nn.Module):
    """The first two stages: turns inputs of one modality into tokens.

    modality: "image", "speech" or "text". dim: D. feature_dim: C (0 if features are ids).
    stride: input units (samples, pixels per side, tokens) between neighbouring tokens.
    prefix: number of tokens before the first input token, such as a class token; never masked.
    Images may be smaller than the data's (crops): of any size, or with "patches" of a multiple of `stride`.
    offers: capabilities that an objective may need: "tokens"; "patches", which can be dropped; "frames", which can be
    altered and reconstructed; "causal"; "blind": a token's output does not depend on it;
    "documents": attention within each document of a packed row.
    reads: the data settings that it needs, by name: "sample_rate", "size", "channels", and for text upper bounds,
    "vocab_size" and "max_tokens". Other data are adjusted to these (see `features.compatible`).
    packed: whether a row holds several items, see `documents`; set by `build` for packed data.
    counts_positions: whether `project` takes the position of the first feature, as a prompt has those before it.
    supports_cache: whether `project` takes the position of the first feature, for incremental decoding.
    """

    modality: str
    dim: int
    feature_dim: int
    stride: int
    prefix: int = 0
    offers: frozenset[str] = frozenset()
    reads: Mapping[str, object] = MappingProxyType({})
    packed: bool = False
    counts_positions: bool = False
    supports_cache: bool = False

    def fit(self, split: Split, seed: int) -> None:
        """Compute buffers that depend on the data, from the training split; called once, before a new run's first step.
        A front end that has them already, since its run began with another's encoder, keeps them."""

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def normalize(self, features: Tensor) -> Tensor:
        """Features as the projection gets them, after its norm: the input of a quantiser."""
        return features

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        raise NotImplementedError

    def placed(self, token: Tensor, size: int) -> Tensor:
        """What `project` would give if each of `size` features were projected to `token` [D], a mask token: with the
        absolute positions, if there are any. [size, D], or [D] if all are alike; without the prefix."""
        return token

    def columns(self, size: int) -> int:
        """The width of the grid that `size` features form, row by row; 1 for a sequence."""
        return 1

    def project_prompt(self, prompt: Tensor) -> Tensor:
        """Embeddings [P, E] of a soft prompt, which precedes an item -> tokens [P, D]."""
        return prompt

    def documents(self, features: Tensor) -> Tensor | None:
        """The index of each token's item within its row, int64 [B, T]; None if each row is one item."""
        return None


class Encoder(Frontend):
    """All three stages. Padding never changes a valid token.

    depth: layers of the trunk; `hidden` has depth + 1 tensors. frozen: whether it is a trained encoder that is kept
    fixed, except for parameters with requires_grad; modules without such parameters of their own then stay in eval
    mode.
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
        """positions: the tokens' positions, int64 [B, T], if an objective has dropped some; None for 0 .. T - 1.
        documents: see `Frontend.documents`; tokens attend within their own item only."""
        raise NotImplementedError

    def forward(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        return self.contextualize(*self.embed(inputs, lengths))
