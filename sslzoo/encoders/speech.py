"""Front ends for speech: wav2vec 2.0's convolutions over the waveform, and stacked log-mel frames."""

from typing import Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.base import Frontend
from sslzoo.encoders.ragged import joined, rows_apart
from sslzoo.errors import ConfigError
from sslzoo.nn.linear import Linear
from sslzoo.nn.masked import host, padded, standardize, valid_mask
from sslzoo.nn.mel import LogMel

WAV2VEC2 = [[512, 10, 5], [512, 3, 2], [512, 3, 2], [512, 3, 2], [512, 3, 2], [512, 2, 2], [512, 2, 2]]


class MaskedGroupNorm(nn.GroupNorm):
    """GroupNorm with one channel per group and statistics over valid steps only; equal to torch's without padding.
    (wav2vec 2.0 base normalises each channel over time, so that in other implementations padding changes
    every frame.)"""

    def forward(self, x: Tensor, lengths: Tensor) -> Tensor:
        if not padded(lengths, x.shape[-1]):
            return super().forward(x)
        valid = valid_mask(lengths, x.shape[-1], x.device)[:, None].to(x.dtype)
        count = lengths.clamp(min=1).to(x.device, non_blocking=True)[:, None, None]
        mean = (x * valid).sum(-1, keepdim=True) / count
        var = ((x - mean).square() * valid).sum(-1, keepdim=True) / count
        return (x - mean) * torch.rsqrt(var + self.eps) * self.weight[:, None] + self.bias[:, None]


class ConvBlock(nn.Module):
    """Convolution over time, a norm (per channel over time, per frame over channels, or none), GELU."""

    def __init__(self, inputs: int, outputs: int, kernel: int, stride: int, bias: bool, norm: str):
        super().__init__()
        self.kernel, self.stride = kernel, stride
        self.conv = nn.Conv1d(inputs, outputs, kernel, stride, bias=bias)
        nn.init.kaiming_normal_(self.conv.weight)
        self.norm = {
            "group": lambda: MaskedGroupNorm(outputs, outputs),
            "layer": lambda: nn.LayerNorm(outputs),
            "none": nn.Identity,
        }[norm]()

    def forward(self, x: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x, lengths = self.conv(x), (lengths - self.kernel) // self.stride + 1
        if isinstance(self.norm, MaskedGroupNorm):
            x = self.norm(x, lengths)
        else:
            x = self.norm(x.transpose(1, 2)).transpose(1, 2)
        return F.gelu(x), lengths


class Waveform(Frontend):
    """Waveform [B, N] -> convolutional features [B, T, C] -> tokens [B, T, D] (wav2vec 2.0, section 2).

    sample_rate: of the input, in Hz. layers: [channels, kernel, stride] of each convolution.
    norm: "group" normalises the first layer over time (the base model), "layer" every layer over channels
    (large). normalize_input: whether each utterance is scaled to zero mean and unit variance. An utterance shorter than
    the receptive field is padded to one frame. With "layer" and without normalize_input, a frame depends only on the
    samples in its receptive field, as CPC requires. log_compression: log(1 + |x|) of what the convolutions give
    (wav2vec, 1904.05862, section 4.2).
    """

    modality = "speech"

    def __init__(
        self,
        dim: int,
        sample_rate: int = 16000,
        layers: list[list[int]] = WAV2VEC2,
        norm: Literal["group", "layer"] = "group",
        bias: bool = False,
        dropout: float = 0.0,
        eps: float = 1e-5,
        normalize_input: bool = True,
        init_std: float = 0.02,
        log_compression: bool = False,
    ):
        super().__init__()
        if not layers or any(len(layer) != 3 for layer in layers):
            raise ConfigError(f"Waveform layers must be [channels, kernel, stride] triples, got {layers}")
        channels = [1] + [layer[0] for layer in layers]
        norms = [norm if norm == "layer" or i == 0 else "none" for i in range(len(layers))]
        self.layers = nn.ModuleList(
            ConvBlock(channels[i], *layers[i], bias=bias, norm=norms[i]) for i in range(len(layers))
        )
        self.dim, self.feature_dim, self.normalize_input = dim, channels[-1], normalize_input
        self.log_compression = log_compression
        self.sample_rate, self.reads = sample_rate, {"sample_rate": sample_rate}
        self.stride, self.receptive_field = 1, 1
        for _, kernel, stride in layers:
            self.receptive_field += (kernel - 1) * self.stride
            self.stride *= stride
        self.norm = nn.LayerNorm(self.feature_dim, eps)
        self.linear = Linear(self.feature_dim, dim)
        nn.init.normal_(self.linear.weight, std=init_std)
        nn.init.zeros_(self.linear.bias)
        self.drop = nn.Dropout(dropout)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        lengths = host(lengths)
        if inputs.shape[1] < self.receptive_field:
            inputs = F.pad(inputs, (0, self.receptive_field - inputs.shape[1]))
        if self.normalize_input:
            inputs = standardize(inputs[..., None], lengths)[..., 0]
        else:  # an utterance shorter than the receptive field includes its padding
            inputs = inputs.where(valid_mask(lengths, inputs.shape[1], inputs.device), 0.0)
        lengths = lengths.clamp(min=self.receptive_field)
        rows = rows_apart(lengths, inputs.shape[1], inputs.device, self.stride)
        if rows is None:
            return self._convolve(inputs, lengths)
        apart = [self._convolve(inputs[i : i + 1, :n], lengths[i : i + 1]) for i, n in enumerate(rows)]
        size = (inputs.shape[1] - self.receptive_field) // self.stride + 1
        return joined([x for x, _ in apart], size), torch.cat([n for _, n in apart])

    def _convolve(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        x = inputs[:, None]
        for layer in self.layers:
            x, lengths = layer(x, lengths)
        x = x.abs().log1p() if self.log_compression else x
        return x.transpose(1, 2), lengths

    def normalize(self, features: Tensor) -> Tensor:
        return self.norm(features)

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.drop(self.linear(self.norm(features))), lengths


class Spectrogram(Frontend):
    """Waveform [B, N] -> log-mel frames, standardised per utterance, `stack` of them concatenated [B, T, C] ->
    tokens [B, T, D]. The input of Mockingjay, TERA, APC and BEST-RQ, and of wav2vec 2.0 on a small machine.

    norm: the norm before the linear layer. "none" as in Mockingjay, TERA, APC and BEST-RQ, whose networks read the
    standardised log-energies of the bands. "layer" is a layer norm over the frame's bands, as over the convolutional
    features in wav2vec 2.0; it removes each frame's energy and contrast. The configs gru_small and logmel_causal have
    none; logmel_small has a layer norm, as in its stored results.
    """

    modality = "speech"
    offers = frozenset({"frames"})

    def __init__(
        self,
        dim: int,
        sample_rate: int = 16000,
        n_mels: int = 80,
        win_ms: float = 25,
        hop_ms: float = 10,
        stack: int = 1,
        dropout: float = 0.0,
        init_std: float = 0.02,
        norm: Literal["layer", "none"] = "layer",
    ):
        super().__init__()
        if stack < 1:
            raise ConfigError(f"Spectrogram stack must be at least 1, got {stack}")
        self.mel = LogMel(sample_rate, n_mels, win_ms, hop_ms)
        self.dim, self.feature_dim, self.stack = dim, n_mels * stack, stack
        self.sample_rate, self.reads = sample_rate, {"sample_rate": sample_rate}
        self.stride = self.mel.hop * stack
        self.norm = nn.LayerNorm(self.feature_dim) if norm == "layer" else nn.Identity()
        self.linear = Linear(self.feature_dim, dim)
        nn.init.normal_(self.linear.weight, std=init_std)
        nn.init.zeros_(self.linear.bias)
        self.drop = nn.Dropout(dropout)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        with torch.no_grad(), torch.autocast(inputs.device.type, enabled=False):
            mels, lengths = self.mel(inputs, lengths)
            mels = standardize(mels, lengths)
        return self.stack_frames(mels, lengths)

    def stack_frames(self, frames: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """Single frames [B, T, n_mels] and their number [B] -> features [B, T / stack, C] and lengths [B]."""
        # pad the last stack with zeros, the mean of standardised frames, so that no utterance is empty
        frames = F.pad(frames, (0, 0, 0, -frames.shape[1] % self.stack))
        return frames.unflatten(1, (-1, self.stack)).flatten(2), -(-lengths // self.stack)

    def unstack_frames(self, features: Tensor) -> Tensor:
        """Features [..., T, C] -> single frames [..., T * stack, n_mels]."""
        return features.unflatten(-1, (self.stack, -1)).flatten(-3, -2)

    def normalize(self, features: Tensor) -> Tensor:
        return self.norm(features)

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return self.drop(self.linear(self.norm(features))), lengths
