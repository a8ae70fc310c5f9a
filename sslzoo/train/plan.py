"""What a run trains on, in how many parts, and when it measures and saves: settled before its first step."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch.nn.modules.batchnorm import _BatchNorm

from sslzoo.data.base import Split
from sslzoo.data.sampler import StepSampler, parts_that_fit
from sslzoo.errors import UserError
from sslzoo.train.cadence import Cadence
from sslzoo.train.settings import Settings
from sslzoo.train.validate import AUTO_TIMES, some_items


@dataclass
class Plan:
    """splits: train, and valid where it is measured. crops: whether the objective's views are crops. measured: the
    indices of the validation items to measure, None for all. epoch_steps: steps in which each item is drawn once."""

    splits: dict[str, Split]
    crops: bool
    measured: np.ndarray | None
    epoch_steps: int
    save_every: Cadence
    val_every: Cadence | None

    @property
    def train(self) -> Split:
        """Training items as a probe, or a refresh, reads them."""
        return self.splits["train"]

    @cached_property
    def shown(self) -> dict[str, Split]:
        """The splits as the objective's batches have them: images at the size of their views."""
        return {name: split.for_views() if self.crops else split for name, split in self.splits.items()}


def planned(job, say: Callable[[str], None]) -> Plan:
    """The plan of a job, whose trainer's `accumulate` becomes what `max_units_per_rank` requires."""
    train, smallest = job.data.split("train"), job.objective.min_batch
    settings = job.trainer = in_parts(job.trainer, job.data.batch, train.cut_lengths, smallest)
    steps = epoch_steps(train, job.data.batch, smallest, settings.accumulate)
    splits, measured, val_every = {"train": train}, None, None
    if (often := settings.val_every) is not None:
        measured = held_out(job, splits, say)
        if "valid" in splits:
            often = max(settings.max_steps // AUTO_TIMES, 10) if often == "auto" else often
            val_every = Cadence.parse(often, "trainer.val_every", steps)
    save_every = Cadence.parse(settings.save_every, "trainer.save_every", steps)
    return Plan(splits, job.objective.crops, measured, steps, save_every, val_every)


def epoch_steps(split, batching, smallest: int, parts: int = 1) -> int:
    """Steps per epoch: to draw every item of a split once."""
    return StepSampler(batching, split.cut_lengths, 0, 0, 1, smallest=smallest, parts=parts).steps_per_epoch


def check_lengths(split, encoder, objective, data) -> None:
    """Raise UserError, naming the item, if the shortest item of the training split, as it is cut, is too short for the
    objective."""
    least = objective.min_tokens
    if least <= 1 or data.modality == "image":
        return
    shortest = int(split.cut_lengths.argmin())
    length = int(split.cut_lengths[shortest])
    sample = split.read(shortest)[None, :length]
    with torch.no_grad():
        tokens = int(encoder.eval().embed(sample, torch.tensor([length]))[1])
    encoder.train()
    if tokens >= least:
        return
    cut = length < split.lengths[shortest]
    if data.modality == "speech":
        least_s = (least + 2) * encoder.stride / data.sample_rate
        size = f"{length / data.sample_rate:.3f} s"
        mend = ""  # built-in sets have no such settings
        if cut:
            mend = f"data.max_seconds={least_s:.2f}, or "
        elif hasattr(data, "min_seconds"):
            mend = f"data.min_seconds={least_s:.2f} data.on_error=skip, or "
    else:
        raise UserError(
            f"{split.names[shortest]} has {length} tokens, fewer than the {least} that "
            f"{type(objective).__name__} needs — leave such texts out"
        )
    raise UserError(
        f"{split.names[shortest]} is {'cut to ' if cut else ''}{size}, {tokens} tokens: shorter than the {least} that "
        f"{type(objective).__name__} needs — set {mend}a smaller objective.{objective.length_setting}"
    )


def in_parts(settings: Settings, batching, lengths: np.ndarray, smallest: int) -> Settings:
    """Settings whose `accumulate` is what `max_units_per_rank` requires, for items of these lengths."""
    if settings.max_units_per_rank is None:
        return settings
    parts = parts_that_fit(batching, lengths, settings.max_units_per_rank, settings.ranks, smallest)
    batching.check(max(smallest, settings.ranks) * parts)
    return replace(settings, accumulate=parts, max_units_per_rank=None)


def alone_in_parts(encoder, objective) -> str:
    """What is computed per part, not per batch, with gradient accumulation, in words; "" for nothing."""
    normed = any(isinstance(x, _BatchNorm) for x in [*encoder.modules(), *objective.modules()])
    return " and ".join(term for term in (objective.batch_terms, "batch norm" if normed else "") if term)


def held_out(job, splits: dict, say) -> np.ndarray | None:
    """Add the validation split to `splits`; return the indices of the items to measure, None for all. With
    trainer.val_every=auto, a missing or too small split is left out with a message."""
    if job.trainer.val_every != "auto" or job.validates_all:
        splits["valid"] = job.data.split("valid")
        return None
    try:
        split = job.data.split("valid")
    except UserError as error:
        say(f"no validation in this run: {error}")
        return None
    found = some_items(
        split.cut_lengths, job.data.batch, job.trainer.max_steps, job.objective.min_batch,
        int(splits["train"].cut_lengths.min()), job.config["seed"],
    )  # fmt: skip
    if len(found):
        splits["valid"] = split
    else:
        say(f"no validation in this run: its split has {len(split)} items, too few for this objective's loss")
    return found
