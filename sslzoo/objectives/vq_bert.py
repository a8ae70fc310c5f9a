"""Discrete BERT: predict masked codes of speech (Baevski et al. 2020, 1910.05453, section 4)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.augment.masking import check_mask
from sslzoo.nn.heads import LanguageModelHead
from sslzoo.nn.linear_cross_entropy import LinearCrossEntropy
from sslzoo.nn.masked import indices, take
from sslzoo.nn.metrics import choice_logs, target_rank
from sslzoo.objectives.base import Loss, Objective
from sslzoo.objectives.mask_token import with_mask_token


class DiscreteBERT(Objective):
    """An utterance is a sequence of codes z_t of a frozen vq-wav2vec, the encoder's front end (`encoders.codes`). Each
    token begins a masked span with a probability of 5 %, spans are 10 tokens and may overlap, and the loss is the
    cross-entropy over the masked tokens M:

    loss = -1/|M| sum_{t in M} log p(z_t | masked z)

    The output embedding is the input embedding, after BERT's dense layer, GELU and norm. All masked tokens become the
    mask token: the paper does not say that some are kept or made random.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens", "codes"})
    head_state: tuple[str, ...] = ("dense", "norm", "bias", "mask_token")

    def __init__(self, encoder: Any, data: Any, mask: Any, eps: float = 1e-12):
        super().__init__()
        check_mask(mask, "seeds", "lengths", "size")
        self.mask, self.min_tokens, self.sample_rate = mask, mask.shortest, data.sample_rate
        self.classes = encoder.frontend.code_embedding.num_embeddings
        self.mask_token = nn.Parameter(0.02 * torch.randn(encoder.dim))
        self.dense = nn.Linear(encoder.dim, encoder.dim)
        nn.init.normal_(self.dense.weight, std=0.02)
        nn.init.zeros_(self.dense.bias)
        self.norm = nn.LayerNorm(encoder.dim, eps)
        self.bias = nn.Parameter(torch.zeros(self.classes))
        self.head, self.cross_entropy = LanguageModelHead(), LinearCrossEntropy()

    def answer(self, encoder: Any, batch: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(inputs of the output embedding at masked tokens [M, D], their ids [M], the mask bool [B, T] on the CPU,
        lengths [B])."""
        ids, lengths = encoder.features(batch.inputs, batch.lengths)
        mask = self.mask(batch.row_seeds, lengths, ids.shape[1])
        at = indices(mask)
        tokens, lengths = encoder.project(ids, lengths)
        tokens = with_mask_token(encoder, tokens, mask, self.mask_token)
        hidden = take(encoder.contextualize(tokens, lengths).last, at)
        return self.norm(F.gelu(self.dense(hidden))), take(ids, at), mask, lengths

    def forward(self, encoder: Any, batch: Any, step: int) -> Loss:
        hidden, ids, mask, lengths = self.answer(encoder, batch)
        weight = encoder.frontend.code_embedding.weight
        total = self.cross_entropy(hidden, weight, ids, self.bias)

        def logs() -> dict:
            logits = self.head(hidden, weight, self.bias)
            masked = mask.sum() / lengths.sum()
            return {**choice_logs(logits, ids), "uniform_loss": math.log(self.classes), "masked": masked}

        return Loss(total / max(len(ids), 1), len(ids), logs)

    @torch.no_grad()
    def visualize(self, encoder: Any, batch: Any, step: int) -> dict:
        hidden, ids, mask, lengths = self.answer(encoder, batch)
        rank = target_rank(self.head(hidden, encoder.frontend.code_embedding.weight, self.bias), ids)
        shown = {"kind": "masked_frames", "mask": mask[0, : lengths[0]], "rank": rank, "candidates": self.classes}
        return {**shown, "waveform": batch.inputs[0, : batch.lengths[0]], "sample_rate": self.sample_rate}
