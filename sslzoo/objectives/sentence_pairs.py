"""Base class of BERT with next sentence prediction and ALBERT: masked pieces and a classification of row pairs."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import distributed
from sslzoo.data.base import PAIR
from sslzoo.errors import ConfigError
from sslzoo.nn.heads import SentencePairHead
from sslzoo.objectives.base import Loss
from sslzoo.objectives.bert import BERT


class SentencePairs(BERT):
    """The sum of the mean loss over masked pieces and the mean loss over rows (Devlin et al. 2019, appendix A.2):

    loss = -1/|M| sum_{i in M} log p(x_i | corrupted x) - 1/B sum_b log p(pair_b | corrupted x_b)

    rows: makes pairs from a text's sentences; see `data.sentence_rows`.
    """

    packs = False  # `rows` fills them with sentences
    batch_terms = "share of masked tokens"
    head_state: tuple[str, ...] = (*BERT.head_state, "pair_head")
    pairs: str  # the kind of pairs that `rows` must make

    def __init__(self, encoder, data, mask: Any, rows: Any, eps: float = 1e-12):
        super().__init__(encoder, data, mask, eps)
        if getattr(rows, "pairs", None) != self.pairs:
            raise ConfigError(
                f"objective.rows: {type(rows).__name__} makes other rows than {type(self).__name__} asks about: set "
                f"objective/rows={self.pairs}"
            )
        self.rows, self.pair_head = rows, SentencePairHead(encoder)

    def forward(self, encoder, batch, step: int) -> Loss:
        encoded, total, count, token_logs = self.name_masked(encoder, batch)
        logits = self.pair_head(encoded.last, encoded.pooled).float()
        target = batch.targets[PAIR].to(logits.device, non_blocking=True)
        pair = F.cross_entropy(logits, target, reduction="sum")
        rows = len(batch)
        # the trainer weights ranks by their rows, but the first term is a mean over masked pieces
        totals = distributed.all_reduce_sum(torch.tensor([rows, count], dtype=torch.float32, device=logits.device))
        share = totals[0] / totals[1].clamp(min=1)
        value = (total * share + pair) / max(rows, 1)

        def logs() -> dict[str, Tensor | float]:
            found = token_logs()
            of_pair = {"pair_loss": pair.detach() / max(rows, 1)}
            of_pair["pair_accuracy"] = (logits.argmax(1) == target).sum() / max(rows, 1)
            # the reference losses include that of guessing the pairs
            guessed = {name: found[name] + math.log(2) for name in ("uniform_loss", "unigram_loss") if name in found}
            accuracy = found["accuracy"] * count * share / max(rows, 1)
            return {**found, **of_pair, **guessed, "accuracy": accuracy}

        return Loss(value, rows, logs)
