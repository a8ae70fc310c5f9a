"""Log-mel frames as an encoder that learns nothing: what every learned encoder of speech stands beside."""

import torch
from torch import Tensor

from sslzoo.encoders.base import Encoded, Encoder
from sslzoo.nn.masked import host, masked_mean, valid_mask
from sslzoo.nn.mel import LogMel, differences

EPS = 1e-5


class Filterbank(Encoder):
    """FBANK, the baseline of SUPERB (Yang et al. 2021, section 4): log-mel frames of 25 ms every 10 ms with their first
    and second differences, each dimension standardised over its utterance. There is no trunk: the frames are the only
    hidden state. `class:sslzoo.encoders.filterbank.Filterbank` makes a run of it.
    """

    modality, prefix, depth, feature_dim = "speech", 0, 0, 0
    offers = frozenset({"tokens"})

    def __init__(self, sample_rate: int = 16000, n_mels: int = 80):
        super().__init__()
        self.mel = LogMel(sample_rate, n_mels)
        self.dim, self.stride = 3 * n_mels, self.mel.hop
        self.reads = {"sample_rate": sample_rate}

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        mels, lengths = self.mel(inputs, lengths)
        first = differences(mels, lengths)
        return torch.cat([mels, first, differences(first, lengths)], 2), lengths

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        inside = valid_mask(host(lengths), features.shape[1], features.device)
        centred = features - masked_mean(features, inside)[:, None]
        scale = masked_mean(centred.square(), inside)[:, None].sqrt()
        return (centred / (scale + EPS)).where(inside[..., None], 0.0), lengths

    def contextualize(
        self, tokens: Tensor, lengths: Tensor, *, positions: Tensor | None = None, documents: Tensor | None = None
    ) -> Encoded:
        inside = valid_mask(host(lengths), tokens.shape[1], tokens.device)
        return Encoded([tokens], lengths, masked_mean(tokens, inside))
