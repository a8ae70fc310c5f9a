"""Learning rate schedules as stateless functions of the step."""

import math

from sslzoo.errors import ConfigError


def _share(name: str, value: float) -> float:
    if not 0 <= value <= 1:
        raise ConfigError(f"schedule.{name} is a share of the steps between 0 and 1, got {value}")
    return value


class Constant:
    """Linear warm-up over a share `warmup` of the steps, then constant."""

    def __init__(self, warmup: float = 0.0):
        self.warmup = _share("warmup", warmup)

    def __call__(self, step: int, total: int) -> float:
        """The factor of the learning rate at `step` of `total`."""
        return min(1.0, (step + 1) / max(1.0, self.warmup * total))


class Cosine(Constant):
    """Linear warm-up, then half a cosine down to `final` (Loshchilov and Hutter 2017, eq. 5, no restarts)."""

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
    """Linear warm-up, then linear decay to `final`: BERT's and wav2vec 2.0's schedule."""

    def __init__(self, warmup: float = 0.1, final: float = 0.0):
        super().__init__(warmup)
        self.final = _share("final", final)

    def __call__(self, step: int, total: int) -> float:
        start = self.warmup * total
        if step < start:
            return super().__call__(step, total)
        return self.final + (1 - self.final) * (total - step) / max(1.0, total - start)


class WarmupStableDecay(Constant):
    """Linear warm-up, constant, then over the last share `decay` of the steps down to `final` by 1 - sqrt(x), where x
    is the fraction of the decay done (Hägele et al. 2024, arXiv 2405.18392, the (1-sqrt) cooldown; named by Hu et al.
    2024). The rate of the constant phase does not depend on the length of the run."""

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
