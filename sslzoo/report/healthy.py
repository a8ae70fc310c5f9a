"""Reference loss curves of healthy runs: the range over seeds from `benchmarks/healthy.py`, to compare a run with.

healthy/<objective>.csv has the columns step, mean, low and high, of running means; healthy/<objective>.json describes
the runs: {"seeds": int, "config": {"objective": …, "data": …, "encoder": …, "optim": …, "trainer": …}}.
"""

import csv
import json
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from sslzoo import compat
from sslzoo.report.record import at

FOLDER = Path(__file__).with_name("healthy")
SAME = ("objective", "data", "encoder")  # nodes of the config that must be equal


@dataclass(frozen=True)
class Healthy:
    """steps, mean, low, high: [N]. config: of the runs, with the nodes in `SAME` and others."""

    name: str
    seeds: int
    config: dict
    steps: np.ndarray
    mean: np.ndarray
    low: np.ndarray
    high: np.ndarray

    def at(self, step: float) -> tuple[float, float, float]:
        """(mean, low, high) at a step within the range of `steps`, interpolated."""
        mean, low, high = (float(np.interp(step, self.steps, y)) for y in (self.mean, self.low, self.high))
        return mean, low, high

    def fits(self, config: dict) -> bool:
        """Whether a run's config has the same objective, data, encoder and number of steps (on which the learning rate
        schedule depends); settings that only one of the two has, such as newer ones, are not compared."""
        steps = [at(node, "trainer", "max_steps") for node in (self.config, config)]
        return steps[0] == steps[1] and all(_agree(self.config.get(key), config.get(key)) for key in SAME)


def _agree(one, other) -> bool:
    if isinstance(one, dict) and isinstance(other, dict):
        return all(_agree(one[key], other[key]) for key in one.keys() & other.keys())
    return one == other


def load(path: Path) -> Healthy:
    """Read one reference. Raises ValueError or OSError if a file is not in the format above."""
    about = json.loads(path.with_suffix(".json").read_text(encoding="utf-8"))
    with open(path, newline="", encoding="utf-8") as file:
        rows = [[float(row[name]) for name in ("step", "mean", "low", "high")] for row in csv.DictReader(file)]
    steps, mean, low, high = np.array(rows).T
    return Healthy(path.stem, int(about["seeds"]), compat.translate(about["config"]), steps, mean, low, high)


@lru_cache
def shipped() -> tuple[Healthy, ...]:
    return tuple(load(path) for path in sorted(FOLDER.glob("*.csv")))


def find(config: dict, curves: tuple[Healthy, ...] | None = None) -> Healthy | None:
    """The reference for a run of this config, or None."""
    return next((h for h in (shipped() if curves is None else curves) if config and h.fits(config)), None)
