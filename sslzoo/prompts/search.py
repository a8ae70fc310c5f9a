"""Searching label words and templates by a run's own masked language model (Gao et al. 2021, 2012.15723, section 5)."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn

from sslzoo.data.base import MASK, SPECIALS
from sslzoo.data.tokenizer import Tokenizer
from sslzoo.errors import UserError
from sslzoo.prompts.verbalizer import word_numbers

COMBINATIONS = 200_000  # assignments of words to classes that are tried, at most
SPANS = ((1, 0), (1, 1), (2, 0), (2, 1), (3, 0), (3, 1), (0, 1), (0, 2))  # tokens before and after the mask

Ask = Callable[[Sequence[np.ndarray], Sequence[int]], Tensor]
"""(ids of rows, a place in each) -> log-probabilities [N, V] there."""


@dataclass
class Labelled:
    """Items of a task: their texts, one or two each, and labels [N]: class numbers (int64) or values (float)."""

    items: list[tuple[str, ...]]
    labels: np.ndarray


def label_words(
    train: Tensor, train_labels: np.ndarray, dev: Tensor, dev_labels: np.ndarray, allowed: np.ndarray, per_class: int,
    finalists: int,
) -> list[tuple[tuple[int, ...], float, float]]:  # fmt: skip
    """(a token for each class, `zero_shot` on train, the same on dev), best first (section 5.1): of each class's
    `per_class` tokens with the highest mean log-probability over its training items, the `finalists` assignments with
    the highest zero-shot score on train, ordered by that on dev. Ties: by the log-probabilities. Of values, the classes
    are two: see `word_numbers`.

    train, dev [N, V]: log-probabilities at the mask. allowed, bool [V]: tokens that may stand for a class.
    """
    numbers = word_numbers(train_labels)
    classes = int(numbers.max()) + 1
    count = max(1, min(per_class, int(COMBINATIONS ** (1 / classes) + 1e-9)))
    means = torch.stack([train[torch.from_numpy(numbers == c)].mean(0) for c in range(classes)])
    means[:, torch.from_numpy(~allowed)] = -torch.inf
    tokens = means.topk(min(count, int(allowed.sum())), 1).indices
    found = []
    for choice in itertools.product(*(range(tokens.shape[1]) for _ in range(classes))):
        word = tuple(int(tokens[c, i]) for c, i in enumerate(choice))
        if len(set(word)) == classes:
            found.append(word)
    if not found:
        raise UserError(
            f"the {classes} classes share the {count} words each that are likeliest for them: give them words by prompt.words"
        )
    words = torch.tensor(found)
    likely = sum((means[c, words[:, c]] for c in range(classes)), torch.zeros(len(words))).numpy()
    right = np.concatenate([zero_shot(train, train_labels, part) for part in words.split(5000)])
    best = np.lexsort((-likely, -right))[:finalists]
    on_dev = zero_shot(dev, dev_labels, words[torch.from_numpy(best)])
    order = best[np.lexsort((-likely[best], -right[best], -on_dev))]
    scores = dict(zip(best.tolist(), on_dev.tolist(), strict=True))
    return [(found[i], float(right[i]), scores[i]) for i in order.tolist()]


def zero_shot(log_probs: Tensor, labels: np.ndarray, words: Tensor) -> np.ndarray:
    """The score [M] of each assignment of tokens to labels, words [M, C], without training: accuracy or, of values,
    Pearson's correlation with the upper word's share of the two words' probability (0 if either is constant).

    log_probs [N, V]: at the mask of each item. labels [N]: see `Labelled`.
    """
    if labels.dtype.kind != "f":
        return (log_probs[:, words].argmax(2) == torch.from_numpy(labels)[:, None]).float().mean(0).numpy()
    upper = (log_probs[:, words[:, 1]] - log_probs[:, words[:, 0]]).double().sigmoid()
    values = torch.from_numpy(labels).double()
    upper, values = upper - upper.mean(0), values - values.mean()
    return nn.functional.cosine_similarity(upper, values[:, None], dim=0).numpy()


def whole_words(tokenizer: Tokenizer) -> np.ndarray:
    """bool [V]: tokens that are words of letters."""
    texts = [tokenizer.decode([i]).strip() for i in range(len(tokenizer))]
    known = np.array([text.isalpha() for text in texts]) & ~tokenizer.is_continuation
    known[:SPECIALS] = False
    return known


def templates(
    ask: Ask, tokenizer: Tokenizer, names: Sequence[str], train: Labelled, words: Sequence[int], beam: int, room: int
) -> list[str]:
    """Templates that the language model writes around the words of the classes (section 5.2; by T5 there): with the
    label's word in its place, the tokens before and after it that are likeliest over all training items together,
    argmax_T sum_(x, y) log p(T | x, y), one after the other, by a beam. Best first in each of `SPANS`.

    words: a token for each class. room: tokens of a row, at most.
    """
    texts = [[ids.tolist() for ids in tokenizer.encode_apart(list(item))] for item in train.items]
    given = [words[number] for number in word_numbers(train.labels)]
    around = [(0, 1)] if len(names) == 2 else [(0, None), (None, 0)]
    found: dict[str, None] = {}
    for left, right in around:
        for before, after in SPANS:
            if not before and left is None:
                continue
            each = (room - before - after - 1 - len(tokenizer.before) - len(tokenizer.after)) // len(names)
            parts = [[[] if place is None else item[place][:each] for place in (left, right)] for item in texts]
            for span in _written(ask, tokenizer, parts, given, before, after, beam):
                shown = [tokenizer.decode(part).strip() if part else "" for part in (span[:before], span[before:])]
                fields = ["" if place is None else f"{{{names[place]}}}" for place in (left, right)]
                text = " ".join(x for x in (fields[0], shown[0], "{mask}", shown[1], fields[1]) if x)
                if not {"{", "}"} & set("".join(shown)):
                    found[text] = None
    return list(found)


def _written(
    ask: Ask, tokenizer: Tokenizer, parts: list, words: list[int], before: int, after: int, beam: int
) -> list[list[int]]:
    """The best `beam` fillings of `before` tokens before the label's word and `after` after it."""
    beams: list[tuple[float, list[int]]] = [(0.0, [])]
    for step in range(before + after):
        scored = []
        for total, span in beams:
            rows, places = [], []
            for (left, right), word in zip(parts, words, strict=True):
                slots = span + [MASK] * (before + after - step)
                start = len(tokenizer.before) + len(left)
                row = [*tokenizer.before, *left, *slots[:before], word, *slots[before:], *right, *tokenizer.after]
                rows.append(np.array(row, np.int64))
                places.append(start + step + (step >= before))
            mean = ask(rows, places).mean(0)
            mean[:SPECIALS] = -torch.inf
            values, tokens = mean.topk(beam)
            scored += [(total + float(v), [*span, int(t)]) for v, t in zip(values, tokens, strict=True)]
        beams = sorted(scored, key=lambda one: -one[0])[:beam]
    return [span for _, span in beams]
