"""DeeBERT (Xin et al. 2020, 2004.12993): a row leaves where the entropy of a layer's classifier is low."""

import math
from typing import Any

import torch
from torch import Tensor, nn

from sslzoo.errors import ConfigError
from sslzoo.tasks.exits import Exit, ExitTask, Memory

SHARES = (0.0, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8)  # of the largest entropy


def entropy(logits: Tensor) -> Tensor:
    """-sum_c p_c log p_c in nats, p = softmax(logits): [..., C] -> [...], float32. A probability that underflows to 0
    adds 0, where p log p would be NaN."""
    return torch.special.entr(logits.float().softmax(-1)).sum(-1)


class DeeBERT(ExitTask):
    """A pooler and a linear layer on each of n layers; a row leaves at the first whose entropy is below a threshold S
    (algorithm 1). The loss is the sum of those of the classifiers that learn (section 3): of two stages, the first
    trains the encoder and the last classifier, L_n, and the second the others, sum_{i < n} L_i (see
    `adapt.early_exit.TwoStages`).

    A pooler begins as the encoder's own, where that has one (BERT's), as in the authors' code. At 12 x 768, the
    classifiers of 2 classes have 7,105,560 parameters.

    threshold: S, in nats; 0 for the full model; None: chosen on validation, see `ExitTask`. dropout: of the input of
    the linear layers.
    """

    kinds = ("classification",)
    criterion = "threshold"
    threshold: Tensor

    def __init__(
        self, encoder: Any, data: Any, threshold: float | None = None, max_drop: float = 0.01, dropout: float = 0.1
    ):
        if threshold is not None and threshold < 0:
            raise ConfigError(f"objective.threshold must be at least 0, for the full model, got {threshold}")
        super().__init__(encoder, data, True, dropout, max_drop, None if threshold is None else float(threshold))
        self.classes = len(data.classes)
        own: nn.Module | None = getattr(encoder, "pooler", None)
        if own is not None:
            for head in self.exits:
                assert isinstance(head, Exit) and head.pooler is not None
                head.pooler.load_state_dict(own.state_dict())

    @property
    def never(self) -> float:
        return 0.0  # no entropy is below

    @property
    def candidates(self) -> list[float]:
        return [float(f"{share * math.log(max(self.classes, 2)):.3g}") for share in SHARES]

    def vector(self, encoder: Any, hidden: Tensor, lengths: Tensor) -> Tensor:
        return encoder.aggregated(hidden, lengths)

    def combined(self, losses: list[tuple[int, Tensor]]) -> Tensor:
        return torch.stack([loss for _, loss in losses]).sum()

    def leaving(self, logits: Tensor, memory: Memory | None, limit: float) -> tuple[Tensor, Memory]:
        return entropy(logits) < limit, ()
