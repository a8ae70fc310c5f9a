"""ALBERT: masked n-grams and sentence order prediction (Lan et al. 2020, 1909.11942)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo.objectives.sentence_pairs import SentencePairs


class ALBERT(SentencePairs):
    """N-grams of up to three whole words are masked, p(n) ~ 1/n (section 4.1), each piece 80/10/10 as in BERT; and the
    encoder predicts whether two consecutive parts of a document were swapped (section 3.1).

    Factorised embeddings and shared layers are settings of the encoder (`encoder=albert_base`).
    """

    pairs = "sentence_order"
    given_to_mask = ("seeds", "allowed", "continues")
    activation = staticmethod(lambda x: F.gelu(x, approximate="tanh"))

    def __init__(self, encoder, data, mask: Any, rows: Any, eps: float = 1e-12):
        super().__init__(encoder, data, mask, rows, eps)
        self.is_continuation = torch.zeros(data.vocab_size, dtype=torch.bool)  # on the CPU, as batch.ids

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        super().prepare(items, epoch_steps, seed)
        known = torch.from_numpy(self.data.is_continuation)
        self.is_continuation[: len(known)] = known

    def choose(self, ids: Tensor, allowed: Tensor, seeds: Tensor) -> Tensor:
        return self.mask(seeds, allowed, self.is_continuation[ids])
