"""A picture of what an objective predicts: a batch of a built-in set, as the report draws it."""

from dataclasses import dataclass
from functools import cache

import numpy as np
import torch

from sslzoo import rng
from sslzoo.build import Job, build, matching_encoders
from sslzoo.config import CONF, choices, options, plain
from sslzoo.data.loader import ordered, read_rows
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn.teacher import Teacher
from sslzoo.nodes import target
from sslzoo.objectives.base import Objective
from sslzoo.recipes import natural
from sslzoo.report import visualizations
from sslzoo.train import plan
from sslzoo.train.visualization import portable

ROWS = 32  # of a batch, as a run's picture has
ITEMS = {"train": 256, "valid": 32, "test": 32}
WIDTHS = {"hidden_dim": 256, "output_dim": 128, "queue": 256}
SETS = {"image": "digits", "speech": "spoken", "text": "docstrings"}
ENCODERS = (
    "resnet_small", "vit_small", "igpt_small", "logmel_small", "logmel_causal", "cpc_small", "text_small", "gpt_small",
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """An objective on a built-in set, untrained. words: the choices of the command. picture: HTML, or the reason why
    there is none. teacher: whether it keeps a slow copy. refreshes: whether it reads the training set between steps."""

    words: tuple[str, ...]
    picture: str
    drawn: bool = False
    teacher: bool = False
    refreshes: bool = False


def small(words: list[str]) -> dict:
    """The config of a command, with few items, and heads that do not take long to make."""
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = plain(compose("pretrain", words))
    for node, most in ((config["data"], ITEMS), (config["objective"], WIDTHS)):
        for key, value in most.items():
            if isinstance(node.get(key), int):
                node[key] = min(node[key], value)
    return config


@cache
def example(objective: str) -> Example:
    """On the data and encoder of an objective's recipe, or the first built-in ones that fit it."""
    kind, own, refused = class_of(objective), natural({"objective": objective}, []), ""
    said = {word.partition("=")[0] for word in own}
    for modality in modalities_of(objective):
        words = [f"objective={objective}", *own]
        if "data" not in said:
            words.append(f"data={SETS[modality]}")
        if "encoder" not in said:
            order = [*ENCODERS, *(name for name in offered() if "small" in name)]
            fit = [name for name in order if kind.needs <= offered()[name][1] and offered()[name][0] == modality]
            words += [f"encoder={name}" for name in fit[:1]]
        if kind.learns_targets:
            words.append("targets=FOLDER")
            return Example(tuple(words), "It needs targets of `sslzoo label`; the report of a run shows them.")
        try:
            job = build(small(words))
        except ConfigError as error:  # its mask or corruption is for another modality
            refused = refused or str(error)
            continue
        teacher = any(isinstance(module, Teacher) for module in job.objective.modules())
        try:
            shown = picture(job)
        except (UserError, ConfigError) as error:  # another package makes the set, or its items are too short
            return Example(tuple(words), f"There is no picture here: {error}.", teacher=teacher)
        return Example(tuple(words), shown, True, teacher, job.objective.refresh_every is not None)
    raise ConfigError(f"objective={objective} fits no built-in set: {refused}")


def class_of(objective: str) -> type[Objective]:
    return target(choices("objective", [objective])[objective]["_target_"], "objective")


def modalities_of(objective: str) -> tuple[str, ...]:
    """That of its views, or those of its class."""
    views = choices("objective", [objective])[objective].get("views")
    return class_of(objective).modalities if views is None else (target(views["_target_"], "views").modality,)


@cache
def offered() -> dict[str, tuple[str, frozenset[str]]]:
    """{encoder: (its modality, what it offers)}"""
    found: list[tuple[str, frozenset[str]]] = []

    def note(encoder: Encoder) -> bool:
        found.append((encoder.modality, encoder.offers))
        return True

    return dict(zip(matching_encoders(note), found, strict=True))


def picture(job: Job) -> str:
    """The first items of the training set, and what the untrained encoder says of them, as HTML."""
    split = job.data.split("train")
    plan.check_lengths(split, job.encoder, job.objective, job.data)
    job.encoder.fit(split, 0)
    job.objective.prepare(len(split), plan.epoch_steps(split, job.data.batch, job.objective.min_batch), 0)
    views = split.for_views() if job.objective.crops else split
    batch = read_rows(views, ordered(np.arange(min(ROWS, len(views))), seed=0))
    batch.row_seeds = torch.tensor([rng.derive_seed(0, "show", i) for i in range(len(batch))])
    with torch.no_grad():
        found = job.objective.eval().visualize(job.encoder.eval(), batch, 0)
    return visualizations.draw(portable(found, job.data.describe)) if found else ""


def names() -> list[str]:
    return sorted(options("objective"))
