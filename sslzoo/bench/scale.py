"""Making a published protocol smaller, and saying what was made smaller."""

from dataclasses import dataclass, field
from typing import Any

from sslzoo.compare.process import override
from sslzoo.errors import ConfigError
from sslzoo.nodes import fits

WIDTHS = ("projection_dim", "hidden", "last_dim")  # of heads
VALIDATIONS = 5  # of a run with fewer steps than published, at least


@dataclass(frozen=True)
class Scale:
    """At most that much of each task; None: as published. steps: of training. batch: items of one. width: of the layers
    of heads. items: of each part of the data. folds: of those that a score is the mean of. lr: learning rates to choose
    among on validation."""

    steps: int | None = None
    batch: int | None = None
    width: int | None = None
    items: int | None = None
    folds: int | None = None
    lr: list[float] | None = field(default=None)

    @classmethod
    def of(cls, node: dict) -> "Scale":
        """Of a config's `scale`. Raises ConfigError."""
        if not isinstance(node, dict) or set(node) - set(cls.__annotations__):
            raise ConfigError(f"scale has {', '.join(cls.__annotations__)}, and nothing else; got {node}")
        for name, value in node.items():
            right = fits(value, list[float]) and value and min(value) > 0 if name == "lr" else type(value) is int
            if value is not None and (not right or (name != "lr" and value < 1)):
                what = "learning rates above 0, such as [0.01,0.001]" if name == "lr" else "a whole number from 1"
                raise ConfigError(f"scale.{name} must be {what}, or null for as published; got {value}")
        return cls(**node)

    def adapt(self, config: dict) -> tuple[list[str], list[str]]:
        """(overrides that make a composed config of `sslzoo adapt` smaller, what they do in words)."""
        words, told = [], []

        def at_most(key: str, now: Any, most: int | None, what: str) -> None:
            if most is not None and type(now) is int and now > most:
                words.append(override(key, most))
                told.append(f"{what} {most:,} of {now:,}")

        steps, batch = config["trainer"]["max_steps"], (config["batch"] or {}).get("size")
        at_most("trainer.max_steps", steps, self.steps, "steps")
        if words and self.steps is not None:  # as often a run as published, but for at least a few times
            every = config["trainer"]["val_every"]
            often = max(VALIDATIONS, steps // every if type(every) is int else 0)
            words.append(override("trainer.val_every", max(1, self.steps // min(often, self.steps))))
        at_most("batch.size", batch, self.batch, "batches of")
        if self.batch is not None and config["trainer"]["accumulate"] > 1:
            words.append("trainer.accumulate=1")  # a small batch fits in memory
        for name in WIDTHS:
            used = name != "hidden" or config["objective"].get("recurrent")  # of layers that there are
            at_most(f"objective.{name}", config["objective"].get(name) if used else None, self.width, name)
        if self.items is not None and config["task"].get("trials") is None:  # a list of trials is asked whole
            words.append(override("task.max_items", self.items))
            told.append(f"at most {self.items:,} items a part")
        if self.lr is not None:
            one = len(self.lr) == 1
            words.append(f"optim.lr={self.lr[0]}" if one else f"search.lr={list(self.lr)}".replace(" ", ""))
            told.append(f"lr {' or '.join(f'{lr:g}' for lr in self.lr)} for {config['optim']['lr']:g}")
        return words, told

    def probe(self) -> tuple[list[str], list[str]]:
        """The same of `sslzoo probe`."""
        if self.items is None:
            return [], []
        return [override("task.max_items", self.items)], [f"at most {self.items:,} items a part"]

    def analyze(self, config: dict) -> tuple[list[str], list[str]]:
        """The same of `sslzoo analyze analysis=qbe`."""
        most = config["analysis"].get("documents")
        if self.items is None or (most is not None and most <= self.items):
            return [], []
        return [override("analysis.documents", self.items)], [f"at most {self.items:,} documents"]
