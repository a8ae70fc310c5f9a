"""Features by which frames of speech are clustered: MFCCs, or a layer of an encoder."""

import math
from typing import Any

import torch
from torch import Tensor

from sslzoo.data.base import Batch
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError
from sslzoo.features import windows

STEP = 10  # ms, the hop of the MFCC analysis


class Cepstra:
    """39-dimensional MFCC, computed every 10 ms, of which one every `hop_ms` is kept: 1 + (N - 400) // 320 frames of
    N samples at 16 kHz with hop_ms=20, as many as wav2vec 2.0's convolutions have.

    hop: samples from one frame to the next. first: the middle of the first frame, in samples.
    """

    name = "mfcc"

    def __init__(self, sample_rate: int, hop_ms: int = 20, device: str | torch.device = "cpu"):
        from sslzoo.nn.mel import MFCC  # torchaudio, needed for speech only

        if hop_ms < STEP or hop_ms % STEP:
            raise ConfigError(f"hop_ms must be a multiple of {STEP}, the step of the cepstra, got {hop_ms}")
        self.mfcc, self.every, self.device = MFCC(sample_rate).to(device), hop_ms // STEP, device
        self.hop, self.first, self.rate = self.mfcc.hop * self.every, self.mfcc.win / 2, sample_rate

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, T, 39] and the number of frames in each row [B], on the CPU."""
        if windows.needed(batch, self.rate, exact=True):  # a frame depends on half a second at most

            def read(inputs: Tensor, lengths: Tensor) -> Tensor:
                return self.mfcc(inputs.to(self.device), lengths)[0][:, :: self.every]

            return windows.stitched(read, batch, self.hop, self.rate)
        frames, lengths = self.mfcc(batch.inputs.to(self.device), batch.lengths)
        return frames[:, :: self.every].cpu(), ((lengths - 1) // self.every + 1).cpu()


class Layer:
    """A layer of an encoder, from 0, the trunk's input, to its depth; negative numbers count from the last."""

    def __init__(self, encoder: Encoder, layer: int, device: str | torch.device = "cpu"):
        if encoder.modality != "speech" or "tokens" not in encoder.offers:
            kind = f"{type(encoder).__name__} of {encoder.modality}"
            raise ConfigError(f"labels are of frames of speech, and {kind} has none")
        if not -encoder.depth - 1 <= layer <= encoder.depth:
            raise ConfigError(f"layer must be from 0 to {encoder.depth}, or negative from the last, got {layer}")
        self.encoder, self.layer, self.device = encoder.to(device).eval(), layer % (encoder.depth + 1), device
        self.name, self.hop, self.first = f"layer {self.layer}", encoder.stride, encoder.stride / 2

    @torch.inference_mode()
    def __call__(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """[B, T, D] and the number of frames in each row [B], on the CPU."""
        rate: Any = self.encoder.reads.get("sample_rate", math.inf)
        prefix = self.encoder.prefix
        if windows.needed(batch, rate):

            def read(inputs: Tensor, lengths: Tensor) -> Tensor:
                encoded = self.encoder(inputs.to(self.device), lengths)
                return encoded.hidden[self.layer][:, prefix : int(encoded.lengths[0])].float()

            return windows.stitched(read, batch, self.hop, rate)
        encoded = self.encoder(batch.inputs.to(self.device), batch.lengths)
        return encoded.hidden[self.layer][:, prefix:].float().cpu(), (encoded.lengths - prefix).cpu()
