"""Random views of log-mel spectrograms: BYOL-A's augmentations, seeded per row."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed, rng
from sslzoo.augment.base import Drawn, Views
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import standardize, valid_mask


class SpectrogramViews(Views):
    """Random crop, mixup with another item and resized crop (Niizumi et al. 2021, section III-B).

    frames: length of the crop in log-mel frames; both views share it. mix: maximum share of power of the other item,
    from the global batch. time, frequency: ranges of the part of the crop's length and height that a view shows;
    beyond the crop is silence.

    Differences from the paper: it mixes in past items; items of the batch need no memory bank and do not depend on the
    number of ranks. It resizes bicubically (here: bilinearly), and standardizes with statistics of the data set before
    a view and of the batch after it; here each band of a view is standardized over time, as the encoder's input is.
    """

    modality = "speech"
    needs = frozenset({"frames"})

    def __init__(
        self,
        frames: int = 96,
        mix: float = 0.4,
        time: list[float] = [0.6, 1.5],  # noqa: B006 (read, never written)
        frequency: list[float] = [0.6, 1.5],  # noqa: B006
    ):
        super().__init__()
        if frames < 2 or not 0 <= mix < 1:
            raise ConfigError(f"views need frames >= 2 and 0 <= mix < 1, got {frames} and {mix}")
        for name, share in (("time", time), ("frequency", frequency)):
            if len(share) != 2 or not 0 < share[0] <= share[1] <= 1.5:
                raise ConfigError(f"views.{name} must be two shares with 0 < low <= high <= 1.5, got {share}")
        self.frames, self.mix, self.time, self.frequency = frames, mix, time, frequency

    @torch.no_grad()
    def draw(self, encoder, batch) -> Drawn:
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        frontend = encoder.frontend
        cut, lengths = self.cut(frontend.unstack_frames(features), lengths * frontend.stack, batch.row_seeds)
        everyone = self.gather(cut, lengths, batch)
        longest = int(lengths.numpy().max())  # trims padding if all items are short
        views = [
            self.stretched(self.mixed(cut, lengths, batch.row_seeds, name, *everyone), lengths, batch.row_seeds, name)
            for name in ("view a", "view b")
        ]
        return Drawn([view[:, :longest] for view in views], lengths)

    def encode(self, encoder, view: Tensor, lengths: Tensor):
        """view [B, T, F], lengths [B] in frames; the frames are stacked as in the encoder's front end."""
        return encoder.contextualize(*encoder.project(*encoder.frontend.stack_frames(view, lengths)))

    def cut(self, frames: Tensor, lengths: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Crop each row at a random position: [B, frames, F], and the numbers of valid frames [B]."""
        room = (lengths - self.frames).clamp(min=0)
        start = rng.integers(seeds, "cut", room[:, None] + 1, 1)
        lengths = lengths.clamp(max=self.frames)
        at = (start + torch.arange(self.frames)).clamp(max=frames.shape[1] - 1).to(frames.device, non_blocking=True)
        found = frames.gather(1, at[..., None].expand(-1, -1, frames.shape[2]))
        return found * valid_mask(lengths, self.frames, frames.device)[..., None], lengths

    def gather(self, cut: Tensor, lengths: Tensor, batch) -> tuple[Tensor, Tensor, Tensor]:
        """Crops and lengths of the global batch, sorted by seed (independent of the number of ranks), and the position
        in them of each of this rank's rows, all on the crops' device."""
        rows, seeds = batch.rows(), batch.gathered_row_seeds().to(cut.device, non_blocking=True)
        cuts, start = distributed.all_gather(cut, rows)
        lengths, _ = distributed.all_gather(lengths.to(cut.device, non_blocking=True), rows)
        order = seeds.argsort()
        return cuts[order], lengths[order], order.argsort()[start : start + len(cut)]

    def mixed(self, cut, lengths, seeds, name: str, cuts: Tensor, all_lengths: Tensor, place: Tensor) -> Tensor:
        """log((1 - l) exp(x) + l exp(x_k)), l in 0..mix, x_k another row (eq. 1), for log-mels x."""
        if not self.mix or len(cuts) < 2:
            return cut
        device = cut.device
        share = self.mix * rng.uniform(seeds, f"{name}, share", 1, 1, device=device)
        other = place + 1 + rng.integers(seeds, f"{name}, other", len(cuts) - 1, 1, device=device)[:, 0]
        other = other % len(cuts)
        beside = cuts[other].masked_fill(~valid_mask(all_lengths[other], self.frames)[..., None], -math.inf)
        heard = torch.logaddexp(cut + torch.log1p(-share), beside + torch.log(share))
        return heard * valid_mask(lengths, self.frames, device)[..., None]

    def stretched(self, cut: Tensor, lengths: Tensor, seeds: Tensor, name: str) -> Tensor:
        """Resize a random part of a canvas, 1.5 times as long as the crop and equally high, bilinearly to the crop's
        size; then standardize, as mixing and resizing change the level."""
        u = rng.uniform(seeds, name, 4, device=cut.device)
        size = lengths.to(cut.device, cut.dtype, non_blocking=True)
        wide = size * (self.time[0] + (self.time[1] - self.time[0]) * u[:, 0])
        left = -size / 4 + (1.5 * size - wide) * u[:, 1]
        bands = cut.shape[2]
        high = (bands * (self.frequency[0] + (self.frequency[1] - self.frequency[0]) * u[:, 2])).clamp(max=bands)
        low = (bands - high) * u[:, 3]
        theta = cut.new_zeros(len(cut), 2, 3)
        # affine_grid's -1..1 is the padded width, of which a row fills `size` frames
        theta[:, 0, 0], theta[:, 1, 1] = high / bands, wide / size
        theta[:, 0, 2] = (2 * low + high) / bands - 1
        theta[:, 1, 2] = (2 * left + wide / size * self.frames) / self.frames - 1
        grid = F.affine_grid(theta, [len(cut), 1, *cut.shape[1:]], align_corners=False)
        return standardize(F.grid_sample(cut[:, None], grid, align_corners=False)[:, 0], lengths)
