"""Base class of random views of a batch."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sslzoo.data.base import Batch, Data
from sslzoo.errors import ConfigError


class Views(nn.Module):
    """Draws random views of each item of a batch, and encodes them.

    modality: of the data. count: number of views; the first two are alike in size. needs: required entries of the
    encoder's `offers`. crops: whether to read images at `data.resolution` (`Split.for_views`). full_precision: compute
    views in float32 in half-precision runs; see `train.precision`.
    """

    full_precision = True
    modality: str
    count: int = 2
    crops: bool = False
    needs: frozenset[str] = frozenset()

    def check(self, encoder: Any, data: Data, most: int | None = 2) -> None:
        """Raise ConfigError if the data or the encoder does not fit these views, or if there are more than `most`, the
        number that the objective takes (None: any)."""
        name = type(self).__name__
        if most is not None and self.count > most:
            raise ConfigError(
                f"{name} makes {self.count} views, but this objective takes {most}: set objective/views to views of that "
                "number (`sslzoo list views`), or choose dino, ibot, swav, deepcluster_v2, lejepa or visreg"
            )
        if data.modality != self.modality:
            raise ConfigError(
                f"{name} makes views of {self.modality}, but the data is {data.modality}: "
                "set objective.views to views of that, or choose an objective that has them (`sslzoo list objectives`)"
            )
        if not self.needs <= encoder.offers:
            raise ConfigError(
                f"{name} needs an encoder with {' and '.join(sorted(self.needs - encoder.offers))} (`sslzoo list encoders`)"
            )

    def draw(self, encoder: Any, batch: Batch) -> "Drawn":
        """`count` views of each item."""
        raise NotImplementedError

    def whole(self, inputs: Tensor) -> Tensor:
        """Items without augmentation, as a view is shaped (images)."""
        raise NotImplementedError

    def encode(self, encoder: Any, view: Tensor, lengths: Tensor) -> Any:
        """The encoder's output for a view [B, ...]."""
        raise NotImplementedError

    def embed(self, encoder: Any, drawn: "Drawn", joint: bool = False) -> list[Tensor]:
        """Pooled vectors [B, D] of the items, one tensor per view.

        joint: encode views of equal shape as one batch, with joint batch-norm statistics (SimCLR); else each view is
        a separate batch (BYOL).
        """
        groups: list[list[Tensor]] = []
        for view in drawn.views:
            if joint and groups and groups[-1][0].shape == view.shape:
                groups[-1].append(view)
            else:
                groups.append([view])
        found = []
        for group in groups:
            many = len(group) > 1
            images = torch.cat(group) if many else group[0]
            pooled = self.encode(encoder, images, drawn.lengths.repeat(len(group)) if many else drawn.lengths).pooled
            found += pooled.chunk(len(group))
        return found


@dataclass
class Drawn:
    """views: tensors [B, ...]; row i of each is a view of item i. lengths: int64 [B] on the host, of all views."""

    views: list[Tensor]
    lengths: Tensor

    @property
    def large(self) -> "Drawn":
        """The first two views, without a multi-crop's small ones."""
        return Drawn(self.views[:2], self.lengths)
