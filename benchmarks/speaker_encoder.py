"""The pretrained encoder of speakers of the package resemblyzer (Apache 2.0), as an encoder of this project:
`class:speaker_encoder.Resemblyzer`, where this folder is the current one or on PYTHONPATH.

`pip install --no-deps resemblyzer` is enough: its weights alone are read, and none of its code is run.
"""

import importlib.util
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import Encoder
from sslzoo.encoders.base import Encoded
from sslzoo.errors import UserError
from sslzoo.nn.masked import host, padded, valid_mask
from sslzoo.nn.mel import slaney_banks

RATE, HOP, FFT, MELS, DIM, LAYERS = 16000, 160, 400, 40, 256, 3


def weights() -> dict[str, Tensor]:
    """The package's, found without importing it. Raises UserError if it is not installed."""
    spec = importlib.util.find_spec("resemblyzer")
    if spec is None or spec.origin is None:
        raise UserError("resemblyzer is not installed: pip install --no-deps resemblyzer")
    path = Path(spec.origin).with_name("pretrained.pt")
    return torch.load(path, map_location="cpu", weights_only=True)["model_state"]


class Resemblyzer(Encoder):
    """Three LSTM layers over the power of 40 mel bands (GE2E, 1710.10467). hidden: the bands, filled up with zeros, and
    each layer's states, one every 10 ms; pooled: the embedding of a speaker, of norm 1, from the last state."""

    modality, prefix, depth, dim, feature_dim, stride = "speech", 0, LAYERS, DIM, MELS, HOP
    offers = frozenset({"tokens", "causal"})
    reads = {"sample_rate": RATE}  # noqa: RUF012 (read, never written)

    def __init__(self):
        super().__init__()
        self.register_buffer("banks", slaney_banks(FFT // 2 + 1, MELS, RATE), persistent=False)
        self.register_buffer("window", torch.hann_window(FFT), persistent=False)
        self.lstm = nn.ModuleList(nn.LSTM(MELS if i == 0 else DIM, DIM, batch_first=True) for i in range(LAYERS))
        self.linear = nn.Linear(DIM, DIM)
        found = weights()
        for i, layer in enumerate(self.lstm):
            layer.load_state_dict(
                {f"{k}_l0": found[f"lstm.{k}_l{i}"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
            )
        self.linear.load_state_dict({k: found[f"linear.{k}"] for k in ("weight", "bias")})

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        lengths = host(lengths)
        inputs = inputs.float()
        if padded(lengths, inputs.shape[1]):
            inputs = inputs.where(valid_mask(lengths, inputs.shape[1], inputs.device), 0.0)
        spectrum = torch.stft(inputs, FFT, HOP, FFT, self.window, pad_mode="constant", return_complex=True)
        power = spectrum.abs().square().transpose(1, 2) @ self.banks
        frames = (lengths // HOP).clamp(min=1)
        return power[:, : int(frames.max())], frames

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return F.pad(features, (0, DIM - MELS)), lengths

    def contextualize(
        self, tokens: Tensor, lengths: Tensor, *, positions: Tensor | None = None, documents: Tensor | None = None
    ) -> Encoded:
        hidden = [tokens]
        for layer in self.lstm:
            hidden.append(layer(hidden[-1][..., : layer.input_size])[0])
        last = (host(lengths) - 1).to(tokens.device)
        final = hidden[-1][torch.arange(len(tokens), device=tokens.device), last]
        return Encoded(hidden, lengths, F.normalize(F.relu(self.linear(final)), dim=1))
