"""BERT: predict masked word pieces (Devlin et al. 2019, 1810.04805)."""

import math
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import rng
from sslzoo.augment.masking import check_mask
from sslzoo.data.base import MASK, SPECIALS, maskable
from sslzoo.encoders.base import Encoded
from sslzoo.nn.heads import LanguageModelHead
from sslzoo.nn.linear_cross_entropy import LinearCrossEntropy
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.nn.metrics import token_logs
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


def replaced(ids: Tensor, chosen: Tensor, seeds: Tensor, vocab_size: int) -> Tensor:
    """Ids [B, T] of which, at the positions in `chosen`, bool [B, T], 80 % are [MASK], 10 % a random piece and 10 % as
    they were (section 3.1)."""
    replacement = rng.uniform(seeds, "fate", ids.shape[1])
    random = SPECIALS + rng.integers(seeds, "random piece", vocab_size - SPECIALS, ids.shape[1])
    corrupted = ids.masked_fill(chosen & (replacement < 0.8), MASK)
    return torch.where(chosen & (replacement >= 0.9), random, corrupted)


class BERT(Objective):
    """15 % of the pieces are chosen; 80 % of those become [MASK], 10 % a random piece, 10 % are kept; the loss is the
    cross-entropy at the chosen positions M (section 3.1, task 1):

    loss = -1/|M| sum_{i in M} log p(x_i | corrupted x)

    The output embedding is the encoder's input embedding. mask: chooses the positions; see `augment.masking`.
    """

    modalities = ("text",)
    needs = frozenset({"tokens"})
    packs = True
    activation: Any = staticmethod(F.gelu)
    given_to_mask: tuple[str, ...] = ("seeds", "allowed")
    head_state: tuple[str, ...] = ("dense", "norm", "bias")

    def __init__(self, encoder, data, mask: Any, eps: float = 1e-12):
        super().__init__()
        check_mask(mask, *self.given_to_mask)
        self.mask, self.data = mask, data
        self.vocab_size, self.unigram_loss = data.vocab_size, math.inf
        size = encoder.frontend.embedding_dim
        self.dense = nn.Linear(encoder.dim, size)
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)
        self.norm = nn.LayerNorm(size, eps)
        self.bias = nn.Parameter(torch.zeros(data.vocab_size))
        self.head, self.cross_entropy = LanguageModelHead(), LinearCrossEntropy()

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        self.vocab_size = self.data.real_vocab_size  # known once the data is open; larger ids are unused
        self.unigram_loss = self.data.unigram_entropy

    def choose(self, ids: Tensor, allowed: Tensor, seeds: Tensor) -> Tensor:
        """The masked positions of ids [B, T], among those in `allowed`, bool [B, T]."""
        return self.mask(seeds, allowed)

    def corrupt(self, ids: Tensor, lengths: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Ids [B, T] -> corrupted ids [B, T] and the chosen positions, bool [B, T]; all on the CPU."""
        chosen = self.choose(ids, valid_mask(lengths, ids.shape[1]) & maskable(ids), seeds)
        return replaced(ids, chosen, seeds, self.vocab_size), chosen

    def transform(self, hidden: Tensor) -> Tensor:
        """Hidden states [..., D] -> inputs of the output embedding [..., E]."""
        return self.norm(self.activation(self.dense(hidden)))

    def predict(self, encoder, hidden: Tensor) -> Tensor:
        """Hidden states [..., D] -> logits [..., vocabulary]."""
        return self.head(self.transform(hidden), encoder.frontend.token_embedding.weight, self.bias)

    def name_masked(self, encoder, batch) -> tuple[Encoded, Tensor, int, Callable[[], dict]]:
        """(the encoder's output for the corrupted text, the summed loss at the chosen positions, their number, a
        function that returns their logs)."""
        ids, chosen = self.corrupt(batch.ids, batch.lengths, batch.row_seeds)
        at = indices(chosen)
        encoded = encoder(ids.to(batch.inputs.device, non_blocking=True), batch.lengths)
        hidden, target = self.transform(take(encoded.last, at)), take(batch.inputs, at)
        weight = encoder.frontend.token_embedding.weight
        total = self.cross_entropy(hidden, weight, target, self.bias)

        def logs() -> dict:
            return token_logs(
                partial(self.head, embedding=weight, bias=self.bias), hidden, target, self.vocab_size, self.unigram_loss
            )

        return encoded, total, len(at), logs

    def forward(self, encoder, batch, step: int) -> Loss:
        _, total, count, logs = self.name_masked(encoder, batch)
        return Loss(total / max(count, 1), count, logs)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        ids, chosen = self.corrupt(batch.ids, batch.lengths, batch.row_seeds)
        prediction = self.predict(encoder, encoder(ids.to(batch.inputs.device), batch.lengths).last).argmax(-1)
        shown = {"ids": batch.inputs, "lengths": batch.lengths, "mask": chosen, "prediction": prediction}
        return {"kind": "masked_tokens", **{name: x[: MOST_ROWS // 2] for name, x in shown.items()}}
