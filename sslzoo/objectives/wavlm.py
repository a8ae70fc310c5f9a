"""WavLM: predict the clusters of masked frames of an utterance that another one is mixed into
(Chen et al. 2022, 2110.13900)."""

from typing import Any

from torch import Tensor, nn

from sslzoo.objectives.hubert import HuBERT


class WavLM(HuBERT):
    """HuBERT's masked prediction (eq. 2) and denoising (section III.B): labels are those of the clean utterance, and
    the encoder hears it with a part of another utterance over a part of it. The paper's trunk has a gated relative
    bias: `encoder/trunk=relative_base`, or `encoder=logmel_relative`. See `HuBERT` for the settings.

    mixing: see `augment.utterance_mixing`.
    """

    def __init__(
        self,
        encoder,
        data,
        mask: Any,
        mixing: nn.Module,
        output_dim: int = 256,
        temperature: float = 0.1,
        feature_penalty: float = 10.0,
        feature_grad: float = 0.1,
    ):
        super().__init__(encoder, data, mask, output_dim, temperature, feature_penalty, feature_grad)
        self.mixing = mixing

    def heard(self, batch) -> Tensor:
        return self.mixing(batch, self.sample_rate)
