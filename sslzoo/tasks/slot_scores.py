"""Scores of slots in transcripts, as s3prl has them (s3prl/downstream/ctc/metric.py): of utterances with "B-slot value
E-slot" around the words of each slot's value."""

import re
from collections.abc import Sequence

import numpy as np

from sslzoo.tasks.recognition import error_rates

_SLOT = re.compile(r"B-(\S+) (.+?) E-\1(?: |$)")
_MARK = re.compile(r"\s*\b[BE]-(\S+)\s*")


def slots_of(text: str) -> dict[str, list[str]]:
    """{slot: its values, in order}, without the marks of slots inside of others."""
    found: dict[str, list[str]] = {}
    for slot, value in _SLOT.findall(text):
        found.setdefault(slot, []).append(" ".join(_MARK.sub(" ", value).split()))
    return found


def type_f1(said: Sequence[str], truth: Sequence[str]) -> float:
    """The mean over utterances of the F1 of the kinds of slots; 1 where there are none on both sides."""
    scores = []
    for one, other in zip(said, truth, strict=True):
        found, right = set(slots_of(one)), set(slots_of(other))
        total = len(found) + len(right)
        scores.append(2 * len(found & right) / total if total else 1.0)
    return float(np.mean(scores))


def value_cer(said: Sequence[str], truth: Sequence[str]) -> float:
    """The character error rate of the values of all slots of the references, each beside the closest value of the same
    slot in what was said, or "" where there is none; 0 where the references have no slots."""
    values, best = [], []
    for one, other in zip(said, truth, strict=True):
        found = slots_of(one)
        for slot, rights in slots_of(other).items():
            for right in rights:
                values.append(right)
                best.append(min(found.get(slot, [""]), key=lambda x: error_rates(["cer"], [x], [right])["cer"]))
    return error_rates(["cer"], best, values)["cer"] if values else 0.0


def transcript_scores(kinds: Sequence[str], said: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """{name: score}: slot_f1 and slot_cer, which are `type_f1` and `value_cer`, and those of `error_rates`."""
    own = {"slot_f1": type_f1, "slot_cer": value_cer}
    return {kind: own[kind](said, truth) if kind in own else error_rates([kind], said, truth)[kind] for kind in kinds}
