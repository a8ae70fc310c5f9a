"""Exact match and F1 of answers to questions, as in the official scripts of SQuAD and CMRC 2018."""

import re
import string
from collections import Counter
from collections.abc import Callable, Sequence

_ARTICLES = re.compile(r"\b(a|an|the)\b")
_PUNCTUATION = set(string.punctuation)
_CMRC_PUNCTUATION = set("-:_*^/\\~`+=，。：？！“”；’《》…·、「」（）－～『』")
_CMRC_PIECES = re.compile(r"[\u4e00-\u9fa5]|\w+|[^\w\s]")


def normalized(text: str) -> str:
    """SQuAD's `normalize_answer` (evaluate-v2.0.py): lower case, without punctuation and articles, single spaces."""
    text = "".join(c for c in text.lower() if c not in _PUNCTUATION)
    return " ".join(_ARTICLES.sub(" ", text).split())


def squad_exact(answer: str, prediction: str) -> float:
    return float(normalized(answer) == normalized(prediction))


def squad_f1(answer: str, prediction: str) -> float:
    """F1 of the multisets of words; if one side is empty, 1 if both are, else 0."""
    a, b = (normalized(text).split() for text in (answer, prediction))
    if not a or not b:
        return float(a == b)
    return 2 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b))


def _bare(text: str) -> str:
    return "".join(c for c in text.lower().strip() if c not in _CMRC_PUNCTUATION)


def cmrc_exact(answer: str, prediction: str) -> float:
    return float(_bare(answer) == _bare(prediction))


def cmrc_f1(answer: str, prediction: str) -> float:
    """F1 of the longest common substring (`find_lcs` of cmrc2018_evaluate.py), in Chinese characters and words of other
    scripts, without punctuation."""
    a, b = (
        [piece for piece in _CMRC_PIECES.findall(text.lower()) if piece not in _CMRC_PUNCTUATION]
        for text in (answer, prediction)
    )
    if not a or not b:
        return float(a == b)
    longest, before = 0, [0] * (len(b) + 1)
    for piece in a:
        row = [0] * (len(b) + 1)
        for j, other in enumerate(b):
            if piece == other:
                row[j + 1] = before[j] + 1
        longest, before = max(longest, *row), row
    return 2 * longest / (len(a) + len(b))


RULES: dict[str, tuple[Callable[[str, str], float], Callable[[str, str], float]]] = {
    "squad": (squad_exact, squad_f1),
    "cmrc": (cmrc_exact, cmrc_f1),
}


def exact_and_f1(answers: Sequence[str], prediction: str, rule: str = "squad") -> tuple[float, float]:
    """(exact match, F1), each the maximum over the reference answers. No answers: an unanswerable question, for which
    an empty prediction scores 1."""
    exact, f1 = RULES[rule]
    # an answer of articles only is dropped, as in the official script
    kept = [a for a in answers if rule != "squad" or normalized(a)] or [""]
    return max(exact(a, prediction) for a in kept), max(f1(a, prediction) for a in kept)


def best_threshold(scores: Sequence[float], right: Sequence[float], answerable: Sequence[bool]) -> tuple[float, float]:
    """(mean score at the best threshold, that threshold): questions with a no-answer score above it are predicted
    unanswerable (`find_best_thresh` of evaluate-v2.0.py).

    scores: no-answer scores, higher if an answer is less likely. right: the score of the best non-empty answer. Equal
    scores cross the threshold together.
    """
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    found = float(sum(not has for has in answerable))
    best, threshold = found, -1e9  # always predict no answer
    for place, i in enumerate(order):
        found += right[i] if answerable[i] else -1
        if place + 1 < len(order) and scores[order[place + 1]] == scores[i]:
            continue
        if found > best:
            best, threshold = found, scores[i]
    return best / len(scores), threshold
