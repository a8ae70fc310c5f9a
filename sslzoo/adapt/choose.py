"""Keeping the weights of the step with the best score on validation."""

import math
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor, nn

from sslzoo import distributed
from sslzoo.data.base import Batch
from sslzoo.data.loader import ordered_loader
from sslzoo.features.frozen import units
from sslzoo.tasks.metrics import better
from sslzoo.train.cadence import Cadence
from sslzoo.train.validate import Validate


def trained(encoder: nn.Module, objective: nn.Module) -> dict[str, Tensor]:
    """The tensors that training may have changed, by their names in the trainer: the task's state dict and, if any of
    the encoder's parameters require gradients, these and its buffers (batch norm's statistics)."""
    found = {f"objective.{name}": tensor for name, tensor in objective.state_dict().items()}
    learns = {name: p.requires_grad for name, p in encoder.named_parameters()}
    if any(learns.values()):
        found |= {f"encoder.{name}": x for name, x in encoder.state_dict().items() if learns.get(name, True)}
    return found


class KeepBest(Validate):
    """Logs the task's scores on the whole validation split, at the given cadence and at the last step, and keeps a copy
    of the trained tensors if the score is the best so far. The copy is in every checkpoint, so that a resumed run
    chooses the same step.

    history: (step, score) of each validation. best: the step that was kept, and its score. on_test: (step, score) on
    test of each, for a task that is `published_on_test`.
    """

    def __init__(self, data, split, seed: int, every: Cadence, workers: int = 0):
        super().__init__(data, split, seed, every, workers)
        self.history: list[tuple[int, float]] = []
        self.on_test: list[tuple[int, float]] = []
        self.best: tuple[int, float] | None = None
        self.kept: dict[str, Tensor] = {}

    def state_dict(self) -> dict:
        return super().state_dict() | {
            "history": self.history,
            "on_test": self.on_test,
            "best": self.best,
            "kept": self.kept,
        }

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.history, self.best, self.kept = [tuple(x) for x in state["history"]], state["best"], state["kept"]
        self.on_test = [tuple(x) for x in state.get("on_test", [])]

    def batches(self, device: torch.device, split: Any = None) -> Iterator[Batch]:
        """All of validation, or of another split, on a device."""
        loader = ordered_loader(self.split if split is None else split, units(self.data), workers=self.workers)
        return (batch.to(device) for batch in loader)

    def measure(self, module) -> dict[str, float]:
        return self.judge(module, module.encoder, module.objective, lambda _, read: read())

    def judge(self, module, encoder: Any, objective: Any, batches: Callable) -> dict[str, float]:
        """The scores of a task's head, as `val_<name>`; keeps its tensors if they are the best so far. Each rank
        evaluates the whole split; the first rank's score decides. encoder: the module's, or what stands for it.
        batches: of a split's name and of a function that reads them."""
        device = module.device
        with distributed.alone():
            read = batches("valid", lambda: self.batches(device))
            scores = dict(objective.evaluate(encoder, read, self.split))
            if objective.published_on_test:
                test = self.data.split("test")
                read = batches("test", lambda: self.batches(device, test))
                seen = dict(objective.evaluate(encoder, read, test))
                self.on_test.append((module.global_step, seen[objective.metric]))
        metric = objective.chosen_by
        own = torch.tensor(scores[metric], dtype=torch.float32, device=device)
        score = float(distributed.broadcast(own))
        step = module.global_step
        self.history.append((step, score))
        if self.best is None or better(metric, score, self.best[1]) or math.isnan(self.best[1]):
            self.best = step, score
            found = trained(module.encoder, objective)
            self.kept = {k: distributed.whole(x.detach()).cpu().clone() for k, x in found.items()}
        return {f"val_{name}": value for name, value in scores.items()}
