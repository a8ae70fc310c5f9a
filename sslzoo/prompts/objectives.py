"""Prompting: a task as a question to the run's own language model, without new parameters (Gao et al. 2021,
2012.15723, section 4)."""

import math
from collections.abc import Iterable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.data.loader import collate
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import take
from sslzoo.objectives.base import Loss
from sslzoo.prompts.language_model import LanguageModel
from sslzoo.prompts.prompt import Prompt
from sslzoo.prompts.scoring import (
    chain_scores,
    confident_scores,
    fewer_masks,
    margin_loss,
    mask_indices,
    mean_per_label,
    parallel_scores,
)
from sslzoo.prompts.verbalizer import Verbalizer
from sslzoo.tasks.base import TaskObjective
from sslzoo.tasks.classification import ClassTask
from sslzoo.tasks.regression import NumberTask


class PromptTask(TaskObjective):
    """Scores of a task's words at the mask of a prompt. The data's items are prompts (see `Prompt.applied`).

    language_model: the head of the run's own objective, which is trained further.
    """

    modalities = ("text",)
    needs = frozenset({"tokens"})
    prompted = True
    pretrained = ("language_model",)
    tokens: Tensor | None

    def __init__(self, encoder: Any, data: Any, language_model: LanguageModel, prompt: Prompt):
        super().__init__()
        self.metric = data.task.metric
        self.language_model = language_model
        self.verbalizer: Verbalizer = prompt.verbalizer(self.meanings(data, prompt), data.tokenizer)
        self.masks = data.tokenizer.masks
        if language_model.causal and not data.tokenizer.template.ends_with_mask:
            raise ConfigError(
                "this run's language model reads from left to right, and does not see what follows the mask: let "
                f"prompt.template end with {{mask}}, got {prompt.template!r}"
            )
        words = [ids for several in self.verbalizer.tokens for ids in several]
        self.words = words
        tokens = torch.tensor([ids[0] for ids in words]) if self.masks == 1 else None
        self.register_buffer("tokens", tokens, persistent=False)

    def meanings(self, data: Any, prompt: Prompt) -> list[str]:
        """The names of what the prompt's words stand for, in order."""
        raise NotImplementedError

    def scores(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """The score of each label's words [B, C]. Words of one token: their logits (2012.15723, eq. 1 and 2). Of
        several: log-probabilities; see `scoring`."""
        if self.tokens is None:
            return mean_per_label(self.word_scores(encoder, batch), self.verbalizer.tokens)
        last = encoder(batch.inputs, batch.lengths).last
        hidden = take(last, self.language_model.positions(mask_indices(batch.ids, 1)))
        found = self.language_model(encoder, hidden, self.tokens)
        return mean_per_label(found.unbind(1), self.verbalizer.tokens)

    def word_scores(self, encoder: nn.Module, batch: Batch) -> list[Tensor]:
        """The scores [B] of words of several tokens, label by label."""

        def predict(ids: Tensor, lengths: Tensor, at: Tensor) -> Tensor:
            hidden = take(encoder(ids, lengths).last, self.language_model.positions(at))
            return self.language_model(encoder, hidden).float().log_softmax(-1)

        device, causal = batch.inputs.device, self.language_model.causal
        if self.training and not causal:
            at = mask_indices(batch.ids, self.masks)
            log_probs = predict(batch.inputs, batch.lengths, at).unflatten(0, (len(batch), -1))
            return [parallel_scores(log_probs, word) for word in self.words]
        score = chain_scores if causal else confident_scores
        return [score(predict, *fewer_masks(batch.ids, batch.lengths, len(word)), word, device) for word in self.words]


class PromptClassification(PromptTask, ClassTask):
    """The class of a prompt x, by the words at its mask (2012.15723, eq. 1 and 2):

    p(y | x) = exp(w_{M(y)} h_mask) / sum_{y'} exp(w_{M(y')} h_mask),  loss = -1/B sum_b log p(y_b | x_b)

    and, for words of several tokens, a margin loss on their log-probabilities (2009.07118, section 3.1).
    """

    kinds = ("classification",)

    def meanings(self, data: Any, prompt: Prompt) -> list[str]:
        return data.classes

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        return self.scores(encoder, batch)

    def loss(self, logits: Tensor, labels: Tensor) -> Tensor:
        return F.cross_entropy(logits, labels) if self.masks == 1 else margin_loss(logits.float(), labels)


class ZeroShotClassification(PromptClassification):
    """`PromptClassification` of a model that was not trained for the task, optionally calibrated (Zhao et al. 2021,
    2102.09690, section 5): the probabilities of a prompt's labels are divided by those of prompts without content,

    q(y | x) ~ p(y | x) / mean_n p(y | content-free text n)

    content_free: such texts, as "N/A", which stand in all fields of the template; none for no calibration.
    """

    content_free_scores: Tensor

    def __init__(
        self,
        encoder: Any,
        data: Any,
        language_model: LanguageModel,
        prompt: Prompt,
        content_free: list[str] | None = None,
    ):
        super().__init__(encoder, data, language_model, prompt)
        fields, self.free = len(data.tokenizer.template.names), []
        for text in content_free or []:
            self.free.append(torch.from_numpy(data.tokenizer.encode(*[text] * fields, max_tokens=data.max_tokens)))
        self.register_buffer("content_free_scores", torch.zeros(len(self.verbalizer.labels)))

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        return super().logits(encoder, batch) - self.content_free_scores

    @torch.no_grad()
    def calibrate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> None:
        """Set what the content-free texts score; `batches` and `split` are not read."""
        if self.free:
            rows = collate([(ids, place, -1, {}) for place, ids in enumerate(self.free)])
            found = self.scores(encoder, rows.to(self.content_free_scores.device)).float().softmax(1)
            self.content_free_scores.copy_(found.mean(0).log())


class PromptRegression(PromptTask, NumberTask):
    """The number of a prompt x, between two poles v_l and v_u that have a word each (2012.15723, eq. 3 and 4):

    y = v_l p(y_l | x) + v_u p(y_u | x),  loss = 1/B sum_b KL((y_b - v_l) / (v_u - v_l) || p(y_u | x_b))

    with p as for a classification of two. The poles are `prompt.labels`, else the range of the data's scores.
    """

    kinds = ("regression",)

    def __init__(self, encoder: Any, data: Any, language_model: LanguageModel, prompt: Prompt):
        super().__init__(encoder, data, language_model, prompt)
        self.verbalizer.check_single("a regression")

    def meanings(self, data: Any, prompt: Prompt) -> list[str]:
        """The poles, which it sets."""
        self.low, self.high = poles = _poles(prompt, data)
        return [f"{pole:g}" for pole in poles] if prompt.labels is None else prompt.labels

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """[B, 1]: y."""
        upper = self.scores(encoder, batch).float().softmax(1)[:, 1:]
        return self.low + (self.high - self.low) * upper

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        scores = self.scores(encoder, batch).float()
        values = batch.targets["label"].to(scores.device, non_blocking=True)
        upper = ((values - self.low) / (self.high - self.low)).clamp(0, 1)
        observed = torch.stack([1 - upper, upper], 1)
        return Loss(F.kl_div(scores.log_softmax(1), observed, reduction="batchmean"), len(values))


def _poles(prompt: Prompt, data: Any) -> tuple[float, float]:
    found = getattr(data.data, "scores", None) if prompt.labels is None else prompt.labels
    try:
        low, high = map(float, found or ())
    except (TypeError, ValueError):
        low = high = 0.0
    if not (low < high and math.isfinite(high - low)):
        raise ConfigError(
            "a regression by a prompt lies between two values that have a word each: set prompt.labels=['0','5'], the "
            f"lower one first, and two prompt.words; got labels {found}"
        )
    return low, high
