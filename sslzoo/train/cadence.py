"""How often something is done in a run: every N steps, seconds or epochs."""

import re
import time
from dataclasses import dataclass

import torch

from sslzoo import distributed
from sslzoo.errors import ConfigError

SECONDS = {"s": 1, "m": 60, "h": 3600}


@dataclass(frozen=True)
class Cadence:
    """Every `steps` steps or every `seconds` seconds of wall clock; one of them is None."""

    steps: int | None = None
    seconds: float | None = None

    @staticmethod
    def parse(said: int | str, name: str, epoch_steps: int = 1) -> "Cadence":
        """500: steps. "30s", "10m", "1.5h": seconds, minutes, hours. "2ep", "0.5ep": epochs of `epoch_steps` steps.
        name: of the setting. Raises ConfigError for anything else."""
        found = re.fullmatch(r"(\d+|\d*\.\d+)(s|m|h|ep|)", str(said).replace(" ", ""))
        number, unit = found.groups() if found else ("0", "")
        if float(number) <= 0 or (not unit and "." in number):
            raise ConfigError(
                f"{name} must be a number of steps (500), a time (30s, 10m, 1.5h) or epochs (2ep), above 0; got {said}"
            )
        if unit in SECONDS:
            return Cadence(seconds=float(number) * SECONDS[unit])
        return Cadence(steps=max(1, round(float(number) * epoch_steps)) if unit else int(number))


class Timer:
    """Says when something is due. By steps: at multiples. By seconds: at the first logged step after that many seconds
    since the last time, by the first rank's clock, so that it is the same step on all ranks; it is checked at logged
    steps only, because the broadcast synchronises the ranks."""

    def __init__(self, cadence: Cadence):
        self.cadence = cadence
        self.start()

    def start(self, since: float = 0.0) -> None:
        """Start counting. since: seconds that have already passed."""
        self.begun = time.monotonic() - since

    @property
    def since(self) -> float:
        """Seconds since the last time."""
        return time.monotonic() - self.begun

    def due(self, step: int, module) -> bool:
        """Whether it is due after `step` steps. By seconds, a True restarts the clock."""
        if self.cadence.steps is not None:
            return step % self.cadence.steps == 0
        if not module.logged:
            return False
        late = distributed.broadcast(torch.tensor(float(self.since >= self.cadence.seconds), device=module.device))
        if not bool(late):
            return False
        self.start()
        return True
