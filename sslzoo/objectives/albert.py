"""ALBERT: masked runs of words, and which of two parts came first (Lan et al. 2020, 1909.11942)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo.objectives.sentence_pairs import SentencePairs


class ALBERT(SentencePairs):
    """Runs of up to three whole words are masked, p(n) ~ 1/n (section 4.1), 80/10/10 a piece as BERT's; and the encoder
    tells whether two parts of a document, one after the other, were exchanged (section 3.1).

    Factorised embeddings and shared layers are the encoder's (`encoder=albert_base`).
    """

    pairs = "sentence_order"
    given_to_mask = ("seeds", "allowed", "continues")
    activation = staticmethod(lambda x: F.gelu(x, approximate="tanh"))

    def __init__(self, encoder, data, mask: Any, rows: Any, eps: float = 1e-12):
        super().__init__(encoder, data, mask, rows, eps)
        self.is_continuation = torch.zeros(data.vocab_size, dtype=torch.bool)  # on the host, as ids are

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        super().prepare(items, epoch_steps, seed)
        known = torch.from_numpy(self.data.is_continuation)
        self.is_continuation[: len(known)] = known

    def choose(self, ids: Tensor, allowed: Tensor, seeds: Tensor) -> Tensor:
        return self.mask(seeds, allowed, self.is_continuation[ids])
