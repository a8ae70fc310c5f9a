"""Texts of a task that are read without their labels, and what is trained on with them."""

import copy

import numpy as np
import torch
from torch import Tensor

from sslzoo import rng
from sslzoo.adapt.data import Supervised
from sslzoo.adapt.items import LabelledItems, SupervisedSplit
from sslzoo.data.base import UNK, Split, WrappedData
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.table import TextTable
from sslzoo.data.text import TextData, Texts
from sslzoo.data.text_splits import TextSplit
from sslzoo.data.token_store import row_starts
from sslzoo.errors import ConfigError, UserError
from sslzoo.probe.splits import Official
from sslzoo.prompts.pattern_training import UNLABELLED


def unlabelled_texts(data: Supervised, file: str | None, most: int) -> Texts:
    """At most `most` texts, chosen by a fixed hash, without label columns: of a file of the task's columns but the
    label's, relative to the data's folder; or, for None, train's items that are in no part of the task (`task.shots` or
    `task.max_items` leave them out). Raises UserError if there are none."""
    table = data.data
    if not isinstance(table, TextData):
        raise ConfigError(f"task {data.task.name}: unlabelled texts are read from data of texts, as task=sst2 has")
    if file is None:
        found = _of_train(data, table)
    elif isinstance(table, TextTable):
        found = table.unlabelled(file, "id")
    else:
        raise ConfigError(
            f"method.unlabelled={file} is a file beside a task's tables, and task {data.task.name} has none"
        )
    kept = np.sort(rng.permutation(0, "unlabelled", n=len(found.texts))[:most])
    pairs = None if found.pairs is None else [found.pairs[i] for i in kept]
    return Texts([found.texts[i] for i in kept], [found.names[i] for i in kept], pairs)


def _of_train(data: Supervised, table: TextData) -> Texts:
    pool, parts = data.pool, data.pooled.parts
    if isinstance(data.task.split, Official):
        places = np.flatnonzero(pool.part == "train")
    else:  # a new split, which the labels of all items stratify
        task = copy.copy(data.task)
        task.shots = task.max_items = None
        places = task.prepare(pool, 1).parts["train"].items
    places = np.setdiff1d(places, np.concatenate(list(parts.values())))
    if not len(places):
        raise UserError(
            f"task {data.task.name}: all of train's items are labelled: set task.shots=16, which leaves the others "
            "unlabelled, or method.unlabelled to a file of texts"
        )
    texts, names, pairs = [], [], []
    for split, here, first in pool.located(places):
        whole = table.opened(str(pool.part[first]))
        texts += [whole.texts[i] for i in here]
        names += [split.names[i] for i in here]
        pairs += [] if whole.pairs is None else [whole.pairs[i] for i in here]
    return Texts(texts, names, pairs or None)


def text_split(texts: Texts, tokenizer, max_tokens: int) -> tuple[TextSplit, int]:
    """(texts as token ids, an empty text as one UNK; how many were truncated)."""
    ids, cut = tokenizer.encode_batch_counted(texts.texts, texts.pairs, max_tokens)
    ids = [np.asarray(item if len(item) else [UNK], np.int64) for item in ids]
    return TextSplit(np.concatenate(ids), row_starts([len(item) for item in ids]), texts.names), cut


class SoftLabelledItems(SupervisedSplit):
    """All items of a split, each with a distribution over the classes as `targets["probabilities"]`.

    probabilities: [N, C].
    """

    def __init__(self, split: Split, probabilities: np.ndarray):
        super().__init__([split], np.zeros(len(split), np.int64), np.arange(len(split)))
        self.probabilities = torch.from_numpy(np.asarray(probabilities, np.float32))

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        return {"probabilities": self.probabilities[index]}


class BesideUnlabelled(SupervisedSplit):
    """Items with a class each as `targets["label"]`, and in training each beside `beside` unlabelled items, as
    `targets["unlabelled.0"]` and so on, int64 [T]; they are drawn anew from the row's seed at every step.

    labelled: the task's own. unlabelled: the split to draw from. more, classes: [M], items of `unlabelled` that are
    trained on beside the task's own, and the classes that they count as. Items may occur several times.
    """

    def __init__(
        self, labelled: LabelledItems, unlabelled: TextSplit, beside: int, more: np.ndarray, classes: np.ndarray
    ):
        source = np.concatenate([labelled.source, np.full(len(more), len(labelled.splits))])
        super().__init__([*labelled.splits, unlabelled], source, np.concatenate([labelled.places, more]))
        self.labels = np.concatenate([labelled.labels, classes]).astype(np.int64)
        self.unlabelled, self.beside = unlabelled, beside

    def targets(self, index: int, seed: int | None = None) -> dict[str, Tensor]:
        found = {"label": torch.tensor(self.labels[index])}
        if seed is None:
            return found
        for place in range(self.beside):
            other = rng.derive_seed(seed, UNLABELLED, place) % len(self.unlabelled)
            found[f"{UNLABELLED}.{place}"] = self.unlabelled.read(other)
        return found


class TrainedOn(WrappedData):
    """A task's data with other items to train on; validation and test are the task's own."""

    def __init__(self, data: Supervised, train: Split, batch: ByCount | BySeconds | None = None):
        super().__init__(data)
        self.train = train
        if batch is not None:
            self.batch = batch

    def split(self, name: str) -> Split:
        return self.train if name == "train" else self.data.split(name)
