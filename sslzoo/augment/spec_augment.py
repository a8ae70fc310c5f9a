"""SpecAugment of features."""

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import rng
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import host


class SpecAugment:
    """Warping and masks of time and features (Park et al. 2019, section 2), with s3prl's settings for SUPERB's
    recognition, where it is applied to the features of a frozen encoder and not to its input.

    time_warp: the first c frames are stretched to c' in c - W + 1 ... c + W, at a c that is W frames or more from both
    ends, by bicubic interpolation; 0: no warp. time_masks, feature_masks: their numbers; the width of each is drawn
    from 0 to less than time_width or feature_width, at most what there is. What is masked is zero.
    """

    def __init__(
        self,
        time_warp: int = 5,
        time_masks: int = 2,
        time_width: int = 40,
        feature_masks: int = 4,
        feature_width: int = 50,
    ):
        if min(time_warp, time_masks, feature_masks) < 0 or min(time_width, feature_width) < 1:
            raise ConfigError(
                "SpecAugment needs time_warp, time_masks and feature_masks of 0 or more and widths of 1 or more; got "
                f"{time_warp}, {time_masks}, {feature_masks}, {time_width}, {feature_width}"
            )
        self.time_warp, self.time_masks, self.time_width = time_warp, time_masks, time_width
        self.feature_masks, self.feature_width = feature_masks, feature_width

    def __call__(self, x: Tensor, lengths: Tensor, seeds: Tensor) -> Tensor:
        """x float32 [B, T, D], lengths [B], seeds [B] on the host -> [B, T, D]."""
        lengths = host(lengths)
        x = self.warped(x, lengths, seeds)
        columns = torch.full_like(lengths, x.shape[2])
        by_time = self.masks(seeds, "time mask", self.time_masks, self.time_width, lengths, x.shape[1])
        by_feature = self.masks(seeds, "feature mask", self.feature_masks, self.feature_width, columns, x.shape[2])
        kept = ~(by_time[:, :, None] | by_feature[:, None, :])
        return x * kept.to(x.device, non_blocking=True)

    def masks(self, seeds: Tensor, name: str, count: int, width: int, sizes: Tensor, size: int) -> Tensor:
        """bool [B, size], the union of `count` masks within the first `sizes` [B] places of each row."""
        if not count:
            return torch.zeros(len(seeds), size, dtype=torch.bool)
        draws = rng.uniform(seeds, name, 2, count).double()
        wide = torch.minimum((draws[:, 0] * width).long(), sizes[:, None])
        start = (draws[:, 1] * (sizes[:, None] - wide + 1)).long()
        place = torch.arange(size)
        return ((place >= start[..., None]) & (place < (start + wide)[..., None])).any(1)

    def warped(self, x: Tensor, lengths: Tensor, seeds: Tensor) -> Tensor:
        """Rows of more than 2 W frames, stretched before a drawn frame and squeezed after it, or the other way."""
        most = self.time_warp
        if not most:
            return x
        draws, rows = rng.uniform(seeds, "time warp", 2).tolist(), []
        for row, size, (first, second) in zip(x, lengths.tolist(), draws, strict=True):
            if size > 2 * most:
                centre = most + int(first * (size - 2 * most))
                moved = centre - most + 1 + int(second * 2 * most)
                row = torch.cat([_resized(row[:centre], moved), _resized(row[centre:size], size - moved), row[size:]])
            rows.append(row)
        return torch.stack(rows)


def _resized(x: Tensor, size: int) -> Tensor:
    """x [T, D] -> [size, D]."""
    if size == len(x) or not size:
        return x[:size]
    return F.interpolate(x[None, None], (size, x.shape[1]), mode="bicubic", align_corners=False)[0, 0]
