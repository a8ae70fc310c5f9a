"""Frozen features of an encoder: of items and of tokens, in eval mode and without gradients."""

import math
from typing import Any, Protocol

import torch
from torch import Tensor

from sslzoo.data.base import Batch, Data
from sslzoo.encoders.base import Encoded, Encoder
from sslzoo.features import windows
from sslzoo.nn.masked import masked_mean, valid_mask

IMAGES, SECONDS, TOKENS = 256, 60, 16384  # in a batch, by modality


class Source(Protocol):
    """A source of features: an encoder or raw input.

    layers: the names of its L planes, known after the first batch.
    main: the plane to use where only one can be (nearest neighbours, a plot).
    per_dimension_scale: standardise each dimension by its own scale, or all by one (pixels, counts).
    first, stride: the centre of token 0 and the distance between tokens' centres, in samples or tokens.
    """

    layers: list[str]
    main: int
    per_dimension_scale: bool
    first: float

    @property
    def stride(self) -> float: ...

    def items(self, batch: Batch) -> Tensor:
        """[B, L, D], on the CPU."""
        ...

    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, T, L, D] and the number of valid tokens in each row [B], on the CPU."""
        ...


class Frozen:
    """An encoder's layers, in eval mode and without gradients.

    An item's planes are each layer's mean over its valid tokens, without prefix tokens, then the encoder's pooled
    vector unless it equals the last mean; for an encoder without tokens, the pooled vector only.
    """

    per_dimension_scale = True

    def __init__(self, encoder: Encoder, device: str | torch.device = "cpu"):
        self.encoder, self.device = encoder.to(device).eval(), torch.device(device)
        self.first, self.stride = encoder.stride / 2, encoder.stride
        self.in_tokens = "tokens" in encoder.offers
        self.rate: Any = encoder.reads.get("sample_rate", math.inf)  # Hz; infinite if not audio
        self.layers = [str(i) for i in range(encoder.depth + 1)] if self.in_tokens else ["pooled"]
        self.main = len(self.layers) - 1
        self._own_pooling: bool | None = None

    def has_layers(self, layers: list[str]) -> None:
        """Set what else the first batch says: the names of the planes,
        where items that were kept are read before it."""
        self.layers, self._own_pooling = list(layers), self.in_tokens and layers[-1] == "pooled"

    def encode(self, batch: Batch) -> Encoded:
        """The encoder's output for a batch, on its device."""
        return self.encoder(batch.inputs.to(self.device), batch.lengths)

    @torch.inference_mode()
    def items(self, batch: Batch) -> Tensor:
        if windows.needed(batch, self.rate):
            rows = zip(batch.inputs, batch.lengths.tolist(), strict=True)
            return torch.stack([self._long_item(inputs, length) for inputs, length in rows])
        return self.item_planes(self.encode(batch)).cpu()

    @torch.inference_mode()
    def tokens(self, batch: Batch) -> tuple[Tensor, Tensor]:
        if windows.needed(batch, self.rate):

            def read(inputs: Tensor, lengths: Tensor) -> Tensor:
                encoded = self.encoder(inputs.to(self.device), lengths)
                return self.token_planes(encoded)[:, : int(encoded.lengths[0]) - self.encoder.prefix]

            return windows.stitched(read, batch, self.stride, self.rate)
        encoded = self.encode(batch)
        return self.token_planes(encoded).cpu(), (encoded.lengths - self.encoder.prefix).cpu()

    def _long_item(self, inputs: Tensor, length: int) -> Tensor:
        """[L, D]: each layer's mean over the tokens of all windows, and the weighted mean of their pooled vectors."""
        means, pooled, weights = [], [], []
        for start, stop, own in windows.windows(length, self.stride, self.rate):
            encoded = self.encoder(inputs[None, start:stop].to(self.device), torch.tensor([stop - start]))
            whole = self.item_planes(encoded)[0].cpu()
            tokens = whole[None]
            if self.in_tokens:
                tokens = self.token_planes(encoded)[0, : int(encoded.lengths[0]) - self.encoder.prefix][own].cpu()
            means.append(tokens.mean(0))
            pooled.append(whole[-1:])
            weights.append(float(len(tokens) if self.in_tokens else stop - start))
        planes = [torch.cat([m, p]) if self._own_pooling else m for m, p in zip(means, pooled, strict=True)]
        return torch.einsum("w,wld->ld", torch.tensor(weights) / sum(weights), torch.stack(planes))

    def item_planes(self, encoded: Encoded) -> Tensor:
        """[B, L, D]: one vector per item and layer."""
        if not self.in_tokens:
            return encoded.pooled[:, None].float()
        valid = valid_mask(encoded.lengths, encoded.last.shape[1], encoded.last.device)
        valid[:, : self.encoder.prefix] = False
        means = torch.stack([masked_mean(h.float(), valid) for h in encoded.hidden], 1)
        pooled = encoded.pooled.float()
        if self._own_pooling is None:
            self._own_pooling = not torch.allclose(pooled, means[:, -1], rtol=1e-3, atol=1e-4)
            self.layers = self.layers + ["pooled"] * self._own_pooling
        return torch.cat([means, pooled[:, None]], 1) if self._own_pooling else means

    def token_planes(self, encoded: Encoded) -> Tensor:
        """[B, T, L, D]: the tokens of each layer, without prefix tokens."""
        return torch.stack([h[:, self.encoder.prefix :].float() for h in encoded.hidden], 2)


def units(data: Data) -> float:
    """The largest batch to extract features of, in the units of `ordered_loader`."""
    if data.modality == "speech":
        return SECONDS * data.sample_rate
    return IMAGES if data.modality == "image" else TOKENS
