"""What random views of a batch are."""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from sslzoo.data.base import Batch, Data
from sslzoo.errors import ConfigError


class Views(nn.Module):
    """Two random views of every item of a batch, and how an encoder is shown one.

    modality: of the data that it is for. needs: what it asks of an encoder's `offers`. crops: whether it is given
    images at `data.resolution` (`Split.for_views`).
    full_precision: views are float32 in a run of half precision; see `train.precision`.
    """

    full_precision = True
    modality: str
    crops: bool = False
    needs: frozenset[str] = frozenset()

    def check(self, encoder: Any, data: Data) -> None:
        """Refuse data and encoders that these views are not for."""
        name = type(self).__name__
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
        """Two views or more of every item."""
        raise NotImplementedError

    def encode(self, encoder: Any, view: Tensor, lengths: Tensor) -> Any:
        """What an encoder makes of a view [B, ...]."""
        raise NotImplementedError

    def embed(self, encoder: Any, drawn: "Drawn", joint: bool = False) -> list[Tensor]:
        """The pooled vector [B, D] of each item, view by view.

        joint: views of one shape go through the encoder as one batch, of which batch norm then takes its
        statistics (SimCLR); else each view is a batch of its own (BYOL).
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
    """views: [B, ...] each, row i of all of them of item i. lengths: int64 [B] on the host, of a row of any view."""

    views: list[Tensor]
    lengths: Tensor
