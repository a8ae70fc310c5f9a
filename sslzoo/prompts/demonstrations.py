"""LM-BFF: prompts with answered examples beside the question (Gao et al. 2021, 2012.15723, section 6)."""

import copy
import math
from dataclasses import dataclass, replace
from typing import Any
from zlib import crc32

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pad_sequence

from sslzoo import rng
from sslzoo.data.base import MASK, PAD, Batch
from sslzoo.data.loader import ordered_loader
from sslzoo.errors import ConfigError, UserError
from sslzoo.prompts.language_model import LanguageModel
from sslzoo.prompts.objectives import PromptClassification, PromptRegression, PromptTask
from sslzoo.prompts.prompt import Prompt
from sslzoo.prompts.verbalizer import word_numbers

MOST = 10_000  # labelled items to draw demonstrations from: few by nature, as all are in memory and in every checkpoint


@dataclass
class Bank:
    """The training items as demonstrations, in host memory: prompts with the label's word at the mask, ids [N, T]
    without the tokens that begin a text, lengths [N], numbers of the labels [N] (see `word_numbers`), sentence vectors
    [N, D] of length 1."""

    ids: Tensor
    lengths: Tensor
    labels: Tensor
    vectors: Tensor


class Demonstrated(PromptTask):
    """A `PromptTask` whose input is the prompt and, after it, a demonstration of each label c (section 6.1):

    T(x) + T~(x_1, y_1) + ... + T~(x_C, y_C)

    with T~ the template with the label's word at its mask. A demonstration is drawn anew for each row and step, from
    the share `nearest` of its label's training items that are most like the row by cosine of sentence vectors (section
    6.2; here the pooled vectors of the run's own encoder, frozen, of the prompts) and never the row itself. An
    evaluation averages over `sets` draws.
    """

    demonstrated = True
    group: str  # of the items that demonstrate a label, for messages

    def __init__(
        self,
        encoder: Any,
        data: Any,
        language_model: LanguageModel,
        prompt: Prompt,
        nearest: float = 0.5,
        sets: int = 16,
    ):
        if not 0 < nearest <= 1 or sets < 1:
            raise ConfigError(f"objective.nearest is a share above 0, objective.sets 1 or more; got {nearest}, {sets}")
        if language_model.causal:
            raise ConfigError(
                "demonstrations follow the mask, and this run's language model reads from left to right: choose a run of "
                "objective=bert, or method=prompt"
            )
        super().__init__(encoder, data, language_model, prompt)
        self.verbalizer.check_single("a demonstration")
        self.nearest, self.sets, self.data, self.begins = nearest, sets, data, len(data.tokenizer.before)
        # in a tuple, and so not a part of this module: it is the run's, and is there again whenever this is built
        self.sentence_encoder = (copy.deepcopy(encoder).requires_grad_(False).eval(),)
        none = torch.zeros(0, dtype=torch.int64)
        self.hold(Bank(none.view(0, 0), none, none, torch.zeros(0, encoder.dim)))

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        split, words = self.data.split("train"), [several[0][0] for several in self.verbalizer.tokens]
        if items > MOST:
            raise UserError(
                f"demonstrations are drawn from few labelled items, {MOST:,} at most, and train has {items:,}: set "
                "task.shots=16"
            )
        labels = torch.from_numpy(word_numbers(split.labels))
        if (few := int(labels.bincount(minlength=len(words)).min())) < 2:
            raise UserError(
                f"a {self.group} has {few} items in train: a demonstration of it needs another than the row itself"
            )
        rows, vectors = [torch.empty(0)] * items, torch.zeros(items, self.bank.vectors.shape[1])
        for batch in ordered_loader(split, 4096):
            vectors[batch.index] = self.vectors(batch)
            for place, ids, length in zip(batch.index.tolist(), batch.inputs, batch.lengths.tolist(), strict=True):
                filled = torch.where(ids == MASK, words[int(labels[place])], ids)
                rows[place] = filled[self.begins : length]
        lengths = torch.tensor([len(row) for row in rows])
        self.hold(Bank(pad_sequence(rows, batch_first=True), lengths, labels, vectors))

    def hold(self, bank: Bank) -> None:
        """Keep a bank in host memory, and a copy of it in the state."""
        self.bank = bank
        for name, value in vars(bank).items():
            self.register_buffer(f"bank_{name}", value.clone())

    def _load_from_state_dict(self, state: dict, prefix: str, *args: Any) -> None:
        keys = {name: f"{prefix}bank_{name}" for name in Bank.__annotations__}
        if all(key in state for key in keys.values()):  # its size is the data's
            self.hold(Bank(**{name: state[key].cpu() for name, key in keys.items()}))
        super()._load_from_state_dict(state, prefix, *args)

    @torch.no_grad()
    def vectors(self, batch: Batch) -> Tensor:
        """Sentence vectors [B, D] of length 1, in host memory."""
        encoder = self.sentence_encoder[0].to(batch.inputs.device)
        return nn.functional.normalize(encoder(batch.inputs, batch.lengths).pooled.float(), dim=1).cpu()

    def candidates(self, likeness: np.ndarray, label: int, own: int) -> np.ndarray:
        """The items of the bank to draw a demonstration of a class from, most like first. likeness [N]: to the row.
        own: the row's own place in the bank, which is left out; -1 for none."""
        labels = self.bank.labels.numpy()
        places = np.flatnonzero((labels == label) & (np.arange(len(labels)) != own))
        order = np.argsort(-likeness[places], kind="stable")
        return places[order[: math.ceil(self.nearest * len(places))]]

    def pools(self, batch: Batch) -> list[list[np.ndarray]]:
        """The candidates of each class for each row, [B][C]."""
        own = batch.index.tolist() if self.training else [-1] * len(batch)
        vectors = self.bank.vectors[batch.index] if self.training else self.vectors(batch)
        likeness = (vectors @ self.bank.vectors.T).numpy()
        classes = range(len(self.verbalizer.labels))
        return [[self.candidates(row, c, place) for c in classes] for row, place in zip(likeness, own, strict=True)]

    def with_demonstrations(self, batch: Batch, pools: list[list[np.ndarray]], seeds: Tensor) -> Batch:
        """The batch with a demonstration of each class after each prompt, drawn by the rows' seeds [B]."""
        sizes = torch.tensor([[len(pool) for pool in row] for row in pools])
        draws = rng.integers(seeds, "demonstration", sizes, sizes.shape[1]).tolist()
        bank, lengths, rows = self.bank.ids.numpy(), self.bank.lengths.tolist(), []
        for ids, row, draw in zip(batch.ids.numpy(), pools, draws, strict=True):
            places = [pool[number] for pool, number in zip(row, draw, strict=True)]
            rows.append(np.concatenate([ids[ids != PAD], *(bank[p, : lengths[p]] for p in places)]))
        ids = pad_sequence([torch.from_numpy(row) for row in rows], batch_first=True)
        inputs = ids.to(batch.inputs.device, non_blocking=True)
        return replace(batch, inputs=inputs, host_inputs=ids, lengths=torch.tensor([len(row) for row in rows]))

    def scores(self, encoder: nn.Module, batch: Batch) -> Tensor:
        pools = self.pools(batch)
        if self.training:
            return super().scores(encoder, self.with_demonstrations(batch, pools, batch.row_seeds))
        # the same demonstrations whenever the same text is asked about
        texts = [crc32(ids[:n].numpy().tobytes()) for ids, n in zip(batch.ids, batch.lengths.tolist(), strict=True)]
        found = []
        for number in range(self.sets):
            seeds = rng.fold_in(torch.tensor(texts), torch.full((len(texts),), number))
            found.append(super().scores(encoder, self.with_demonstrations(batch, pools, seeds)))
        return self.averaged(torch.stack(found))

    def averaged(self, scores: Tensor) -> Tensor:
        """The scores [B, C] of an evaluation, of those of each set of demonstrations [S, B, C]."""
        raise NotImplementedError


class DemonstratedClassification(Demonstrated, PromptClassification):
    """`PromptClassification` with demonstrations. In evaluation, the logits of the sets are averaged."""

    group = "class"

    def averaged(self, scores: Tensor) -> Tensor:
        return scores.mean(0)


class DemonstratedRegression(Demonstrated, PromptRegression):
    """`PromptRegression` with two demonstrations: an item that is not above the median of train's values, with the word
    of the lower pole, and one that is, with that of the upper (section 3, footnote on regression). In evaluation, the
    predicted values of the sets are averaged."""

    group = "half of the values"

    def averaged(self, scores: Tensor) -> Tensor:
        return scores.float().log_softmax(2).exp().mean(0).log()  # values are linear in the probabilities
