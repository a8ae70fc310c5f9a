"""Validation chooses what is kept of a training: by the task's own score, at which step."""

import math

import torch
from torch import Tensor, nn

from sslzoo import distributed
from sslzoo.data.loader import ordered_loader
from sslzoo.features.frozen import units
from sslzoo.train.cadence import Cadence
from sslzoo.train.validate import Validate


def trained(encoder: nn.Module, objective: nn.Module) -> dict[str, Tensor]:
    """All that training may have changed, by the trainer's names: the task's state, the encoder's parameters that
    learn and, where there are any, its buffers (batch norm's statistics)."""
    found = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    learns = {name: p.requires_grad for name, p in encoder.named_parameters()}
    if any(learns.values()):
        found |= {f"encoder.{name}": x for name, x in encoder.state_dict().items() if learns.get(name, True)}
    return found


class KeepBest(Validate):
    """Every so often, and at the last step, the task's scores on the whole validation split are logged, and what was
    trained is kept if its score is higher than at every step before. It is in every checkpoint: a run that was stopped
    chooses as one that was not.

    history: (step, score) of each time. best: the step that was kept, and its score.
    """

    def __init__(self, data, split, seed: int, every: Cadence, workers: int = 0):
        super().__init__(data, split, seed, every, workers)
        self.history: list[tuple[int, float]] = []
        self.best: tuple[int, float] | None = None
        self.kept: dict[str, Tensor] = {}

    def state_dict(self) -> dict:
        return super().state_dict() | {"history": self.history, "best": self.best, "kept": self.kept}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.history, self.best, self.kept = [tuple(x) for x in state["history"]], state["best"], state["kept"]

    def measure(self, module) -> dict[str, float]:
        """The task's scores, by their names after `val_`. Each rank measures all of them; the first one's choose."""
        batches = ordered_loader(self.split, units(self.data), workers=self.workers)
        with distributed.alone():
            found = module.objective.evaluate(
                module.encoder, (batch.to(module.device) for batch in batches), self.split
            )
            scores = dict(found)
        own = torch.tensor(scores[module.objective.metric], dtype=torch.float32, device=module.device)
        score = float(distributed.broadcast(own))
        step = module.global_step
        self.history.append((step, score))
        if self.best is None or score > self.best[1] or math.isnan(self.best[1]):
            self.best = step, score
            self.kept = {k: x.detach().cpu().clone() for k, x in trained(module.encoder, module.objective).items()}
        return {f"val_{name}": value for name, value in scores.items()}
