"""Combining an ensemble's scores for unlabelled items: soft labels (PET), and labels for a next generation (iPET).

Schick & Schütze 2021, 2001.07676, sections 3.3 and 3.4. Scores are a model's logits of the classes, [N, C] for N items.
"""

from collections.abc import Sequence

import numpy as np

from sslzoo import rng

CONFIDENT = 100  # without labelled items, a class is drawn from so many items that score highest for it


def combined(scores: Sequence[np.ndarray], weights: Sequence[float]) -> np.ndarray:
    """sum_m w_m s_m / sum_m w_m, float64 [N, C]: the weighted mean of the models' scores (section 3.3). If all weights
    are 0, the plain mean."""
    shares = np.asarray(weights, np.float64)
    return np.average(np.stack(scores).astype(np.float64), axis=0, weights=shares if shares.any() else None)


def softmax(scores: np.ndarray, temperature: float = 1.0) -> np.ndarray:
    """Probabilities [N, C] at a temperature (section 3.3: T = 2 for soft labels)."""
    powers = np.exp((scores - scores.max(1, keepdims=True)) / temperature)
    return powers / powers.sum(1, keepdims=True)


def annotators(member: int, models: int, share: float, *seed: int | str) -> np.ndarray:
    """The models that label items for one member of the next generation: max(1, round(share (models - 1))) of the
    others, drawn at random (section 3.4: share = 1/4), sorted."""
    others = np.delete(np.arange(models), member)
    count = max(1, round(share * len(others)))
    return np.sort(others[rng.permutation(*seed, "annotators", member, n=len(others))[:count]])


def growth(counts: np.ndarray, generation: int, factor: float) -> np.ndarray:
    """New items of each class for a generation: c_j - c_0 with c_j = factor^j c_0, int64 [C] (section 3.4: factor = 5).

    counts: c_0, the labelled items of each class. If there are none, c_0 is such that generation 1 has 10 in all, in
    equal shares.
    """
    counts = np.asarray(counts)
    if counts.sum():
        return (counts * (factor**generation - 1)).astype(np.int64)
    total, classes = int(10 * factor ** (generation - 1)), len(counts)
    return total // classes + (np.arange(classes) < total % classes).astype(np.int64)


def annotated(
    scores: np.ndarray, counts: np.ndarray, *seed: int | str, confident: int | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """(items, classes), int64 [sum of counts] each: `counts[l]` items of class l, drawn without replacement with
    probabilities proportional to softmax(scores)_l, from the items for which l scores highest (section 3.4).

    confident: draw from so many items with the largest probability of l, whatever scores highest: for models that saw
    no labels (section 3.4). The same is done for a class that is nowhere highest. If a class has fewer items than
    counts, each is taken as often as needed.
    """
    probabilities = softmax(np.asarray(scores, np.float64))
    highest, items, classes = probabilities.argmax(1), [], []
    for label, count in enumerate(np.asarray(counts).tolist()):
        own = np.flatnonzero(highest == label)
        if confident is not None or not len(own):
            most = max(confident or CONFIDENT, 1)
            own = np.argsort(-probabilities[:, label], kind="stable")[:most]
        copies = -(-count // len(own))
        candidates = np.tile(own, max(copies, 1))
        # Gumbel's maxima draw without replacement in proportion to the probabilities
        uniform = ((rng.derive_row_seeds(*seed, "draw", label, rows=np.arange(len(candidates))) >> 11) + 0.5) / 2.0**52
        keys = np.log(np.maximum(probabilities[candidates, label], 1e-300)) - np.log(-np.log(uniform))
        items.append(candidates[np.argsort(-keys, kind="stable")[:count]])
        classes.append(np.full(count, label))
    return np.concatenate(items).astype(np.int64), np.concatenate(classes).astype(np.int64)
