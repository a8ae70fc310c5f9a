"""Early exit: rows leave a transformer at the layer that is sure of them. Its classifiers are `tasks.deebert` and
`tasks.pabee`."""

from typing import Any

from torch import nn

from sslzoo.adapt.methods import Method, frozen, transformer_of
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError
from sslzoo.tasks.exits import ExitTask


class EarlyExit(Method):
    """Everything learns at once: the encoder, and a classifier on each of its layers (Zhou et al. 2020, 2006.04152)."""

    def __call__(self, encoder: Encoder) -> Encoder:
        transformer_of(encoder, "Early exit")
        return encoder.train()

    def check(self, objective: type) -> None:
        if not issubclass(objective, ExitTask):
            raise ConfigError(
                f"early exit needs a classifier on every layer, and {objective.__name__} is one on the last: leave out "
                "head=…, or set head=pabee or head=deebert"
            )


class TwoStages(EarlyExit):
    """First the encoder and the last classifier learn, then the other classifiers, on the frozen encoder of the first
    stage's best step, without its dropout (Xin et al. 2020, 2004.12993, section 3). Each stage is a training of its
    own, with its own optimiser and schedule.

    steps, lr: of the second stage; None for those of the first.
    """

    def __init__(self, steps: int | None = None, lr: float | None = None):
        if steps is not None and steps < 1:
            raise ConfigError(f"method.steps must be at least 1, got {steps}")
        if lr is not None and lr <= 0:
            raise ConfigError(f"method.lr must be above 0, got {lr}")
        self.steps, self.lr = steps, lr

    def __call__(self, encoder: Encoder) -> Encoder:
        if transformer_of(encoder, "Early exit").depth < 2:
            raise ConfigError("early exit needs two layers or more, and this encoder has one: choose method=full")
        return super().__call__(encoder)

    def stages(self, config: dict) -> list[dict]:
        """The configs of the two trainings."""
        trainer, optim = config["trainer"], config["optim"]
        second = {
            "trainer": {**trainer, "max_steps": self.steps or trainer["max_steps"]},
            "optim": {**optim, "lr": self.lr or optim["lr"]},
        }
        return [config, {**config, **second}]

    def begin(self, stage: int, encoder: Any, objective: Any) -> None:
        """Set what learns in a stage, 0 or 1."""
        exits: nn.ModuleList = objective.exits
        if stage == 0:
            exits[:-1].requires_grad_(False)
        else:
            frozen(encoder)
            exits[-1].requires_grad_(False)
