"""Exact match and F1 of answers to questions, as the official scripts of SQuAD and of CMRC 2018 have them."""

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
    """Of the words in common, however often each; where one side has none, whether the other has none too."""
    a, b = (normalized(text).split() for text in (answer, prediction))
    if not a or not b:
        return float(a == b)
    return 2 * sum((Counter(a) & Counter(b)).values()) / (len(a) + len(b))


def _bare(text: str) -> str:
    return "".join(c for c in text.lower().strip() if c not in _CMRC_PUNCTUATION)


def cmrc_exact(answer: str, prediction: str) -> float:
    return float(_bare(answer) == _bare(prediction))


def cmrc_f1(answer: str, prediction: str) -> float:
    """Of the longest stretch in common (`find_lcs` of cmrc2018_evaluate.py), counted in Chinese characters and in words
    of other scripts, punctuation left out."""
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
    """The better of all right answers, for each; none stands for a question that has no answer, which is right if
    nothing is said."""
    exact, f1 = RULES[rule]
    # an article alone is no answer, as the official script has it
    kept = [a for a in answers if rule != "squad" or normalized(a)] or [""]
    return max(exact(a, prediction) for a in kept), max(f1(a, prediction) for a in kept)


def best_threshold(scores: Sequence[float], right: Sequence[float], answerable: Sequence[bool]) -> tuple[float, float]:
    """The mean score at the best threshold, and that threshold, above which a question's no-answer score means that
    nothing is said (`find_best_thresh` of evaluate-v2.0.py).

    scores: of no answer, the higher the less likely is one. right: what the answer that is not none would score. Equal
    scores cannot be told apart, and cross the threshold together.
    """
    order = sorted(range(len(scores)), key=lambda i: scores[i])
    found = float(sum(not has for has in answerable))
    best, threshold = found, -1e9  # nothing is ever said
    for place, i in enumerate(order):
        found += right[i] if answerable[i] else -1
        if place + 1 < len(order) and scores[order[place + 1]] == scores[i]:
            continue
        if found > best:
            best, threshold = found, scores[i]
    return best / len(scores), threshold
