"""Whether a difference of scores is more than the seeds' spread: Welch's t-test, one-sided."""

import math
import statistics
from collections.abc import Sequence

LEVEL = 0.05  # p below which a difference counts


def welch(one: Sequence[float], other: Sequence[float]) -> float | None:
    """p of Welch's one-sided t-test that the mean of `one` is above that of `other` (Welch 1947; degrees of freedom by
    Welch and Satterthwaite), of two values or more each; None if there are fewer. Two constants differ for sure."""
    if min(len(one), len(other)) < 2:
        return None
    from scipy.special import stdtr  # imported here: slow

    difference = statistics.fmean(one) - statistics.fmean(other)
    parts = [statistics.variance(values) / len(values) for values in (one, other)]
    if sum(parts) <= 1e-24 * max(map(abs, (*one, *other))) ** 2:  # constants, but for rounding
        return 0.0 if difference > 1e-12 * max(map(abs, (*one, *other))) else 1.0
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (one, other), strict=True)
    )
    return float(stdtr(freedom, -difference / math.sqrt(sum(parts))))


def told(p: float) -> str:
    """ "Welch's t-test, p = 0.012"."""
    return f"Welch's t-test, p {'< 0.001' if p < 0.001 else f'= {p:.3f}'}"
