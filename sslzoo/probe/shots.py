"""Few-shot samples of a task's training and validation data."""

import numpy as np

from sslzoo import rng
from sslzoo.errors import UserError


def halves(values: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The two "classes" of a regression, for `draw`: above the median of train or not
    (2012.15723, section 3, footnote).
    values: of each part."""
    median = float(np.median(values["train"]))
    return {part: np.where(own > median, f"above {median:g}", f"{median:g} or less") for part, own in values.items()}


def draw(kinds: np.ndarray, shots: int, seed: int, part: str, task: str) -> np.ndarray:
    """`shots` items of each kind, as sorted indices into `kinds` [N] (LM-BFF, 2012.15723, section 3: K a class of train
    and as many of validation). A smaller draw of the same seed is within a larger one. Validation gives what it has
    where that is less.

    Raises UserError if train has fewer of a kind, naming it.
    """
    chosen = []
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        if part == "train" and len(members) < shots:
            of = f" of class '{kind}'" if kind else ""
            raise UserError(
                f"task {task}: train has {len(members):,} items{of}, and task.shots={shots} asks for more of each — "
                f"set task.shots to {len(members)} or less"
            )
        chosen.append(members[rng.permutation(seed, "shots", part, str(kind), n=len(members))[:shots]])
    return np.sort(np.concatenate(chosen))


def draw_share(kinds: np.ndarray, share: float, seed: int) -> np.ndarray:
    """A share of the items of each kind, at least one of each, as sorted indices into `kinds` [N] (the 1 % and 10 % of
    2002.05709, section 5). A smaller draw of the same seed is within a larger one."""
    chosen = []
    for kind in np.unique(kinds):
        members = np.flatnonzero(kinds == kind)
        count = max(1, round(share * len(members)))
        chosen.append(members[rng.permutation(seed, "shots", "train", str(kind), n=len(members))[:count]])
    return np.sort(np.concatenate(chosen))
