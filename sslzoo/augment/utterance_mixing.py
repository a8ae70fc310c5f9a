"""Mixing of utterances: another utterance of the batch, louder or softer, over a part of an utterance."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import host, valid_mask


class UtteranceMixing(nn.Module):
    """Over a random part, of at most `share` of its length, of some utterances a part of another one is added (WavLM,
    2110.13900, section III.B, algorithm 1), so that an encoder that is asked of the first learns who is the main
    speaker.

    prob: chance that an utterance is mixed. ratio: range of the energy of the utterance over that of the other, in dB.
    share: of the utterance that is covered, at most. seconds: of an utterance that others may get, from its start on;
    what is gathered from the global batch, so that results do not depend on the number of ranks. The paper also mixes
    in noise of a set of its own, which is left out.
    """

    full_precision = True

    def __init__(
        self,
        prob: float = 0.2,
        ratio: list[float] = [-5.0, 5.0],  # noqa: B006 (read, never written)
        share: float = 0.5,
        seconds: float = 8.0,
    ):
        super().__init__()
        if not 0 <= prob <= 1 or not 0 < share <= 1 or seconds <= 0 or len(ratio) != 2 or ratio[0] > ratio[1]:
            raise ConfigError(
                f"mixing needs 0 <= prob <= 1, two rising ratios, 0 < share <= 1 and seconds > 0; got {prob}, {ratio}, "
                f"{share}, {seconds}"
            )
        self.prob, self.ratio, self.share, self.seconds = prob, ratio, share, seconds

    @torch.no_grad()
    def forward(self, batch, sample_rate: int) -> Tensor:
        """The inputs [B, N] of a batch, some of them mixed; silence stays silence, and padding padding."""
        most = round(self.seconds * sample_rate)
        waves, lengths, seeds = batch.inputs.float(), host(batch.lengths), batch.row_seeds
        device, rows = waves.device, batch.rows()
        waves = waves * valid_mask(lengths, waves.shape[1], device)
        offered = F.pad(waves[:, :most], (0, max(most - waves.shape[1], 0)))
        offered, start = distributed.all_gather(offered, rows)
        sizes, _ = distributed.all_gather(lengths.clamp(max=most).to(device, non_blocking=True), rows)
        if len(offered) < 2:
            return waves
        order = batch.gathered_row_seeds().to(device, non_blocking=True).argsort()  # independent of ranks
        place = order.argsort()[start : start + len(waves)]
        u = rng.uniform(seeds, "mixing", 6, device=device).double()
        other = order[(place + 1 + (u[:, 0] * (len(offered) - 1)).long()) % len(offered)]
        mine, theirs = lengths.to(device, non_blocking=True).double(), sizes[other].double()
        size = torch.minimum((u[:, 1] * self.share * mine).floor(), theirs).clamp(min=1)
        first, begin = (u[:, 2] * (mine - size + 1)).floor(), (u[:, 3] * (theirs - size + 1)).floor()
        at = torch.arange(waves.shape[1], device=device) - first.long()[:, None]
        inside = (at >= 0) & (at < size[:, None])
        part = offered[other].gather(1, (at + begin.long()[:, None]).clamp(0, most - 1)) * inside
        energy = waves.square().sum(1) / mine
        loud = part.square().sum(1) / size
        ratio = self.ratio[0] + (self.ratio[1] - self.ratio[0]) * u[:, 4]
        scale = (energy / (10 ** (ratio / 10) * loud.clamp(min=1e-12))).sqrt() * (u[:, 5] < self.prob)
        return waves + part * scale[:, None].to(waves.dtype)
