"""Learning rates as functions of the step: nothing to save, nothing to resume."""

import math

from sslzoo.errors import ConfigError


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ConfigError(f"schedule.{name} is a share of the steps between 0 and 1, got {value}")
    return value


class Constant:
    """Up in a straight line over the first `warmup` of the steps, then level."""

    def __init__(self, warmup: float = 0.0):
        self.warmup = _share("warmup", warmup)

    def __call__(self, step: int, total: int) -> float:
        """The factor of the learning rate at `step` of `total`."""
        return min(1.0, (step + 1) / max(1.0, self.warmup * total))


class Cosine(Constant):
    """Warm-up, then half a cosine down to `final` (Loshchilov and Hutter 2017, eq. 5, no restarts)."""

    def __init__(self, warmup: float = 0.1, final: float = 0.0):
        super().__init__(warmup)
        self.final = _share("final", final)

    def __call__(self, step: int, total: int) -> float:
        start = self.warmup * total
        if step < start:
            return super().__call__(step, total)
        done = (step - start) / max(1.0, total - start)
        return self.final + (1 - self.final) * 0.5 * (1 + math.cos(math.pi * done))


class Linear(Constant):
    """Warm-up, then a straight line down to `final`: BERT's and wav2vec 2.0's schedule."""

    def __init__(self, warmup: float = 0.1, final: float = 0.0):
        super().__init__(warmup)
        self.final = _share("final", final)

    def __call__(self, step: int, total: int) -> float:
        start = self.warmup * total
        if step < start:
            return super().__call__(step, total)
        return self.final + (1 - self.final) * (total - step) / max(1.0, total - start)


class WarmupStableDecay(Constant):
    """Warm-up, level, and over the last `decay` of the steps down to `final`: by 1 - sqrt(x), x the part of the decay
    that is done (Hägele et al. 2024, arXiv 2405.18392, their (1-sqrt) cooldown; the name is Hu et al.'s, 2024). What
    comes before the decay does not depend on the length of the run."""

    def __init__(self, warmup: float = 0.05, decay: float = 0.2, final: float = 0.0):
        super().__init__(warmup)
        self.decay, self.final = _share("decay", decay), _share("final", final)
        if warmup + decay > 1 + 1e-9:
            raise ConfigError(f"schedule.warmup + schedule.decay is more than the whole run: {warmup} + {decay}")

    def __call__(self, step: int, total: int) -> float:
        start = (1 - self.decay) * total
        if step <= start:
            return super().__call__(step, total)
        return self.final + (1 - self.final) * (1 - math.sqrt((step - start) / (self.decay * total)))
