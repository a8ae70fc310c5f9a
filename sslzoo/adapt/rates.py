"""Heads at several learning rates, trained in one pass over a frozen encoder.

Each batch is read and encoded once, and every head takes its own step from it. Heads share nothing else: each has its
gradient norm, its optimiser and its best step on validation, and ends as it would have if it had been trained alone.
"""

import copy
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from sslzoo import distributed
from sslzoo.adapt.choose import KeepBest
from sslzoo.adapt.job import AdaptJob
from sslzoo.data.base import Batch
from sslzoo.encoders.base import Encoded
from sslzoo.errors import UserError
from sslzoo.objectives.base import Loss, Objective
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run, write_json
from sslzoo.tasks.metrics import better
from sslzoo.train.cadence import Cadence
from sslzoo.train.optim import Optim
from sslzoo.train.settings import Settings
from sslzoo.train.validate import Validate

ALL_LOST = "the loss of every rate in search.lr was not finite: search among lower ones"
KEPT = 2**30  # bytes of encoded validation batches that are kept while the heads are evaluated, at most


class Remembering:
    """An encoder that computes the same batch once. It keeps batches and what it computed for them, up to `most` bytes;
    what is beyond is read and computed again for every head."""

    def __init__(self, encoder: nn.Module, most: float = float("inf")):
        self.encoder, self.most = encoder, most
        self.held: dict[int, tuple[Tensor, Encoded]] = {}  # by the identity of the inputs, which are held
        self.read: dict[str, list[Batch]] = {}  # the first batches of each split
        self.whole: set[str] = set()  # splits of which all batches are held
        self.bytes = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.encoder, name)

    def __call__(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        if id(inputs) not in self.held:
            encoded = self.encoder(inputs, lengths)
            self.bytes += sum(x.nbytes for x in (inputs, *encoded.hidden, encoded.pooled))
            if self.bytes > self.most:
                return encoded
            self.held[id(inputs)] = inputs, encoded
        return self.held[id(inputs)][1]

    def batches(self, name: str, read: Callable[[], Iterable[Batch]]) -> Iterator[Batch]:
        """The batches of a split, always in one order, of which those that are held are not read again if all are."""
        held = self.read.setdefault(name, [])
        if name in self.whole:
            yield from held
            return
        for place, batch in enumerate(read()):
            if place == len(held) and self.bytes < self.most:
                held.append(batch)
            yield held[place] if place < len(held) else batch
        if self.bytes < self.most:
            self.whole.add(name)


class HeadsAtRates(Objective):
    """Copies of a task's head, one a learning rate: the loss is the sum of theirs, so that each has the gradient that
    it would have alone. A head whose loss or gradient was not finite is `lost`: it learns no more and is not chosen."""

    lost: Tensor

    def __init__(self, head: Any, rates: list[float]):
        super().__init__()
        self.rates = rates
        self.heads: Any = nn.ModuleList(copy.deepcopy(head) for _ in rates)
        self.modalities, self.needs, self.batch_terms = head.modalities, head.needs, head.batch_terms
        self.min_batch, self.min_tokens, self.length_setting = head.min_batch, head.min_tokens, head.length_setting
        self.register_buffer("lost", torch.zeros(len(rates), dtype=torch.bool))

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        once: Any = Remembering(encoder)
        found = []
        for head in self.heads:
            devices = [batch.inputs.device] if batch.inputs.is_cuda else []
            with torch.random.fork_rng(devices, enabled=True):  # torch's dropout is the same for each
                found.append(head(once, batch, step))
        values = torch.stack([loss.value for loss in found])
        self.lost |= ~values.detach().isfinite()
        kept = torch.where(self.lost, 0.0, values)
        return Loss(kept.sum(), found[0].count, partial(self.logs, found, values.detach()))

    def logs(self, found: list[Loss], values: Tensor) -> dict[str, Tensor | float]:
        """Of each head, and the mean loss of those that are not lost as `loss`."""
        logs: dict[str, Tensor | float] = {
            "loss": torch.where(self.lost, 0.0, values).sum() / (~self.lost).sum().clamp(min=1)
        }
        for rate, loss, value in zip(self.rates, found, values, strict=True):
            logs |= {f"{name}_lr={rate:g}": x for name, x in {"loss": value, **loss.logs()}.items()}
        return logs

    @torch.no_grad()
    def leave_out_lost(self) -> None:
        """Note the heads whose gradients are not finite, on any rank, and set those of lost ones to zero."""
        gradients = [[p.grad for p in head.parameters() if p.grad is not None] for head in self.heads]
        norms = torch.stack([distributed.whole(torch.nn.utils.get_total_norm(each)) for each in gradients])
        lost = (self.lost | ~norms.isfinite()).float()
        self.lost.copy_(distributed.all_reduce_sum(lost) > 0)
        for each, gone in zip(gradients, self.lost, strict=True):
            for gradient in each:
                gradient.masked_fill_(gone, 0)

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        for head in self.heads:
            head.prepare(items, epoch_steps, seed)

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        for head in self.heads:
            head.after_step(encoder, step, total_steps)


class Together(torch.optim.Optimizer):
    """Optimisers of different parameters that step together."""

    def __init__(self, parts: list[torch.optim.Optimizer]):
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts

    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict:
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict) -> None:
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self.param_groups = [group for part in self.parts for group in part.param_groups]  # torch makes new ones


class AtRates:
    """An optimiser's settings at several learning rates, one for each head of `HeadsAtRates`."""

    def __init__(self, each: list[Optim]):
        self.each = each

    def build(self, module: Any) -> Together:
        heads = [nn.ModuleDict({"encoder": module.encoder, "objective": head}) for head in module.objective.heads]
        return Together([optim.build(head) for optim, head in zip(self.each, heads, strict=True)])

    def set_rate(self, optimizer: Any, step: int, total: int) -> float:
        """Set each part's rate for `step`; return the highest."""
        parts = zip(self.each, optimizer.parts, strict=True)
        return max(optim.set_rate(part, step, total) for optim, part in parts)


class PretrainAtRates(Pretrain):
    """`Pretrain` of `HeadsAtRates`, each head's gradient clipped by its own norm."""

    def on_before_optimizer_step(self, optimizer) -> None:
        self.objective.leave_out_lost()
        super().on_before_optimizer_step(optimizer)

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        for part in optimizer.parts:
            self.clip_gradients(part, gradient_clip_val, gradient_clip_algorithm)


class KeepBestOfRates(Validate):
    """`KeepBest` for every head of `HeadsAtRates`. Logs each head's scores as `val_<name>_lr=<rate>`.

    each: of every rate, what was kept. lost: whether its head is.
    """

    def __init__(self, each: list[KeepBest], rates: list[float], *settings: Any):
        super().__init__(*settings)
        self.each, self.rates, self.lost = each, rates, [False] * len(each)

    def state_dict(self) -> dict:
        return super().state_dict() | {"each": [keep.state_dict() for keep in self.each], "lost": self.lost}

    def load_state_dict(self, state: dict) -> None:
        super().load_state_dict(state)
        self.lost = state["lost"]
        for keep, own in zip(self.each, state["each"], strict=True):
            keep.load_state_dict(own)

    def measure(self, module) -> dict[str, float]:
        objective = module.objective
        self.lost = objective.lost.tolist()
        if all(self.lost):
            raise UserError(ALL_LOST)
        once = Remembering(module.encoder, KEPT)
        logs: dict[str, float] = {}
        for rate, keep, head, lost in zip(self.rates, self.each, objective.heads, self.lost, strict=True):
            if not lost:
                scores = keep.judge(module, once, head, once.batches)
                logs |= {f"{name}_lr={rate:g}": value for name, value in scores.items()}
        return logs

    def scores(self) -> dict[float, float | None]:
        """The best score on validation at each rate, None for a lost head."""
        pairs = zip(self.rates, self.each, self.lost, strict=True)
        return {rate: None if lost or keep.best is None else keep.best[1] for rate, keep, lost in pairs}

    def chosen(self, metric: str) -> int:
        """The place of the rate with the best score, the first of equals."""
        best, score = None, 0.0
        for place, found in enumerate(self.scores().values()):
            if found is not None and (best is None or better(metric, found, score)):
                best, score = place, found
        if best is None:
            raise UserError(ALL_LOST)
        return best


@dataclass
class RatesJob(AdaptJob):
    """A job that trains a head at each of several rates, and saves the one that validation chooses."""

    rates: list[float] | None = None
    all: KeepBestOfRates | None = None
    module: ClassVar[Any] = PretrainAtRates

    @classmethod
    def of(cls, job: AdaptJob, rates: list[float], optims: list[Optim]) -> "RatesJob":
        """Of a job for one rate. optims: its optimiser's settings at each of the rates."""
        heads: Any = HeadsAtRates(job.objective, rates)
        parts = (job.config, job.data, job.encoder, heads, AtRates(optims), job.trainer, job.method)
        return cls(*parts, rates=rates)

    def validation(self, split, every: Cadence, workers: int, indices) -> Any:
        settings = self.data, split, self.config["seed"], every, workers
        rates = self.rates or []
        self.all = KeepBestOfRates([KeepBest(*settings) for _ in rates], rates, *settings)
        return self.all

    def save(self, run: Run, prepared: dict, encoder: nn.Module, objective: nn.Module) -> None:
        """As of the chosen rate alone; `chosen` in adapted.json has the rate too, and the scores of all."""
        assert isinstance(objective, HeadsAtRates) and self.all is not None
        head: Any = objective.heads[0]
        place = self.all.chosen(head.chosen_by)
        self.best = self.all.each[place]
        super().save(run, prepared, encoder, objective.heads[place])
        said = json.loads(run.adapted.read_text(encoding="utf-8"))
        scores = {f"{rate:g}": score for rate, score in self.all.scores().items()}
        said["chosen"] |= {"lr": objective.rates[place], "scores": scores}
        write_json(run.adapted, said)


def fits_one_pass(job: AdaptJob) -> bool:
    """Whether rates can be searched in one pass: the encoder is frozen, and neither a scaled loss nor sharded weights
    tie the heads' steps together."""
    settings: Settings = job.trainer
    tied = settings.strategy == "fsdp" or settings.arithmetic == "16-mixed"
    return job.method.one_pass and not tied
