"""Whisper's encoder (Radford et al. 2022, 2212.04356, section 2.2): log-mel frames of 30 seconds, two convolutions,
a pre-norm transformer without padding masks."""

from dataclasses import replace

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.base import Encoded, Frontend
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.errors import ConfigError
from sslzoo.nn.drop_path import rows_of
from sslzoo.nn.masked import host, valid_mask
from sslzoo.nn.mel import slaney_banks
from sslzoo.nn.positions import sinusoids


class WhisperMel(Frontend):
    """Waveform [B, N] -> log-mel frames of K whole chunks, convolved [B, K F / 2, D] -> tokens with positions, of which
    the first ceil(N / stride) are the item's; the others are the silence that follows.

    An item is padded with silence to a multiple of `frames` frames, 30 s in all published models; each chunk is
    normalised and encoded alone (section 2.1: log10 of the powers, at most 8 below the chunk's maximum). fft, hop: of a
    frame, in samples.
    """

    modality = "speech"
    banks: Tensor
    window: Tensor
    position_embedding: Tensor

    def __init__(
        self,
        dim: int,
        sample_rate: int = 16000,
        n_mels: int = 80,
        fft: int = 400,
        hop: int = 160,
        frames: int = 3000,
        dropout: float = 0.0,
    ):
        super().__init__()
        if frames < 2 or frames % 2:
            raise ConfigError(f"WhisperMel frames must be an even number, got {frames}")
        self.dim, self.feature_dim, self.fft, self.hop, self.frames = dim, dim, fft, hop, frames
        self.sample_rate, self.reads, self.stride = sample_rate, {"sample_rate": sample_rate}, 2 * hop
        self.register_buffer("banks", slaney_banks(fft // 2 + 1, n_mels, sample_rate), persistent=False)
        self.register_buffer("window", torch.hann_window(fft), persistent=False)
        self.conv1 = nn.Conv1d(n_mels, dim, 3, padding=1)
        self.conv2 = nn.Conv1d(dim, dim, 3, stride=2, padding=1)
        self.register_buffer("position_embedding", sinusoids(frames // 2, dim))
        self.drop = nn.Dropout(dropout)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """-> the convolutions' output of whole chunks, and how many of each row's frames are the item's."""
        lengths, chunk = host(lengths), self.frames * self.hop
        inputs = inputs.float().where(valid_mask(lengths, inputs.shape[1], inputs.device), 0.0)
        chunks = F.pad(inputs, (0, -inputs.shape[1] % chunk)).view(-1, chunk)
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            spectrum = torch.stft(chunks, self.fft, self.hop, window=self.window, return_complex=True)[..., :-1]
            mels = (spectrum.abs().square().transpose(1, 2) @ self.banks).clamp(min=1e-10).log10()
            mels = (mels.maximum(mels.amax((1, 2), keepdim=True) - 8.0) + 4.0) / 4.0
        x = F.gelu(self.conv2(F.gelu(self.conv1(mels.transpose(1, 2))))).transpose(1, 2)
        return x.reshape(inputs.shape[0], -1, self.dim), -(-lengths // self.stride)

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        chunks = features.unflatten(1, (-1, len(self.position_embedding)))
        return self.drop((chunks + self.position_embedding).flatten(1, 2)), lengths


class WhisperEncoder(SequenceEncoder):
    """A `WhisperMel` and a transformer. Each chunk is contextualized alone, silence included, as Whisper was trained;
    lengths count the item's own tokens, and `pooled` is the mean over them."""

    def __init__(self, frontend: WhisperMel, trunk: nn.Module):
        super().__init__(frontend, trunk, pool="mean")
        self.chunk = frontend.frames // 2  # tokens
        self.offers = self.offers - {"documents"}

    def contextualize(self, tokens: Tensor, lengths: Tensor, *args, **more) -> Encoded:
        chunks = tokens.unflatten(1, (-1, self.chunk)).flatten(0, 1)
        with rows_of(copies=len(chunks) // max(1, len(tokens))):
            encoded = super().contextualize(chunks, torch.full((len(chunks),), self.chunk), *args, **more)
        hidden = [h.reshape(tokens.shape) for h in encoded.hidden]
        return replace(encoded, hidden=hidden, lengths=lengths, pooled=self.pooled(hidden[-1], lengths))
