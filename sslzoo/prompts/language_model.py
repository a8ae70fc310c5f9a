"""The language-model head that a run was pretrained with."""

import json
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from sslzoo import rng, weights
from sslzoo.build import load_encoder
from sslzoo.errors import ConfigError
from sslzoo.initial import MEND as DAMAGED
from sslzoo.initial import restore
from sslzoo.nn.heads import LanguageModelHead
from sslzoo.nodes import make, target
from sslzoo.objectives.bert import BERT
from sslzoo.objectives.gpt import GPT
from sslzoo.run import Run

MEND = "`sslzoo pretrain init={} objective=bert …` gives it a language model"


class LanguageModel(nn.Module):
    """Logits of tokens at hidden states: BERT's masked-language-model head (also of RoBERTa, ALBERT and BERT with
    sentence pairs) or, without parameters, GPT's. The output embedding is the encoder's input embedding.

    causal: whether the hidden state of a token is about the next one.
    """

    def __init__(self, objective: BERT | GPT):
        super().__init__()
        self.causal = isinstance(objective, GPT)
        self.head = LanguageModelHead()
        self.dense: Any = getattr(objective, "dense", None)
        self.norm: Any = getattr(objective, "norm", None)
        self.bias: nn.Parameter | None = getattr(objective, "bias", None)
        self.activation: Callable[[Tensor], Tensor] | None = getattr(objective, "activation", None)

    def forward(self, encoder: Any, hidden: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Hidden states [..., D] -> logits [..., V] of the vocabulary or, faster, [..., N] of `tokens` [N]."""
        if self.dense is not None and self.activation is not None:
            hidden = self.norm(self.activation(self.dense(hidden)))
        weight: Tensor = encoder.frontend.token_embedding.weight
        if tokens is None:
            return self.head(hidden, weight, self.bias)
        return self.head(hidden, weight[tokens], None if self.bias is None else self.bias[tokens])

    def positions(self, at: Tensor) -> Tensor:
        """The flat indices of the hidden states that are about the tokens at `at`."""
        return at - 1 if self.causal else at


def language_model_of(run: Run, untrained: bool = False) -> LanguageModel:
    """The head of a finished run's objective. untrained: before its first step. Raises ConfigError for a run that has
    none."""
    if not run.objective.exists():
        raise ConfigError(f"{run.folder} has no language model, and a prompt asks for words: {MEND.format(run.folder)}")
    saved = json.loads(run.objective.read_text(encoding="utf-8"))
    kind = target(saved["objective"]["_target_"], "objective")
    if not issubclass(kind, BERT | GPT):
        electra = kind.__name__ == "ELECTRA"
        why = "its language model is the generator, not the encoder" if electra else "it predicts no words"
        raise ConfigError(
            f"{run.folder} was pretrained with {kind.__name__}, and {why}, for which a prompt asks: "
            + MEND.format(run.folder)
        )
    encoder, data = load_encoder(run, untrained)
    with torch.random.fork_rng():
        torch.manual_seed(rng.derive_seed(saved["seed"], "weights"))
        objective = make(saved["objective"], encoder=encoder, data=data)
    if not untrained:  # without `prepare`, which reads the data of the pretraining: the head does not depend on it
        restore(objective, weights.load(run.objective_weights, DAMAGED.format(run.folder)), objective.per_item)
    return LanguageModel(objective.eval())
