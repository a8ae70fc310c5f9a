"""Patches of a log-mel spectrogram: the front end of audio spectrogram transformers."""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.base import Frontend
from sslzoo.errors import ConfigError
from sslzoo.nn.linear import Linear
from sslzoo.nn.masked import standardize
from sslzoo.nn.mel import LogMel
from sslzoo.nn.positions import grid_sinusoids


class SpectrogramPatches(Frontend):
    """Waveform [B, N] -> log-mel frames, standardised per utterance and band, cut into squares [B, T, P * P] ->
    tokens [B, 1 + T, D] with a class token first and fixed positions in time and frequency (AudioMAE, 2207.06405,
    section 3.1). A row of the grid is `patch` frames: its n_mels / patch bands follow one another.

    stride: samples per token, on average: those of a row of patches over its number.
    """

    modality = "speech"
    table: Tensor
    offers = frozenset({"patches"})
    prefix = 1

    def __init__(
        self,
        dim: int,
        sample_rate: int = 16000,
        n_mels: int = 128,
        win_ms: float = 25,
        hop_ms: float = 10,
        patch: int = 16,
    ):
        super().__init__()
        self.mel = LogMel(sample_rate, n_mels, win_ms, hop_ms)
        self.bands = n_mels // patch
        if n_mels % patch or patch * self.mel.hop % self.bands or dim % 4:
            raise ConfigError(
                f"patch={patch} must divide n_mels={n_mels}, the {n_mels // patch} bands the {patch * self.mel.hop} "
                f"samples of a patch, and 4 the dim={dim}"
            )
        self.dim, self.patch, self.feature_dim = dim, patch, patch * patch
        self.sample_rate, self.reads = sample_rate, {"sample_rate": sample_rate}
        self.stride = patch * self.mel.hop // self.bands
        self.linear = Linear(self.feature_dim, dim)
        nn.init.xavier_uniform_(self.linear.weight)
        nn.init.zeros_(self.linear.bias)
        self.cls_token = nn.Parameter(torch.randn(dim) * 0.02)
        self.register_buffer("table", grid_sinusoids(64 * self.bands, self.bands, dim), persistent=False)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            mels, lengths = self.mel(inputs, lengths)
            mels = standardize(mels, lengths)
        # the last patch is filled with zeros, the mean
        mels = F.pad(mels, (0, 0, 0, -mels.shape[1] % self.patch))
        grid = mels.unflatten(1, (-1, self.patch)).unflatten(3, (self.bands, self.patch))
        return grid.transpose(2, 3).flatten(3).flatten(1, 2), -(-lengths // self.patch) * self.bands

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        tokens = self.linear(features) + self.positions(features.shape[1])
        return torch.cat([self.cls_token.expand(len(tokens), 1, -1), tokens], dim=1), lengths + self.prefix

    def positions(self, size: int) -> Tensor:
        """Of the first `size` patches, [size, D]."""
        if size > len(self.table):  # doubles, so that it grows rarely
            self.table = grid_sinusoids(2 * size, self.bands, self.dim).to(self.table.device)
        return self.table[:size]

    def placed(self, token: Tensor, size: int) -> Tensor:
        return token + self.positions(size)

    def columns(self, size: int) -> int:
        return self.bands

    def frames(self, features: Tensor) -> Tensor:
        """The inverse of `features`: patches [B, T, P * P] -> log-mel frames [B, T P / bands, n_mels]."""
        grid = features.unflatten(1, (-1, self.bands)).unflatten(3, (self.patch, self.patch))
        return grid.transpose(2, 3).flatten(3).flatten(1, 2)
