"""A picture of what an objective predicts: a batch of a built-in set, as the report draws it."""

import atexit
import tempfile
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch

from sslzoo import rng
from sslzoo.build import Job, build, matching_encoders
from sslzoo.config import CONF, choices, leaves, options, plain
from sslzoo.data.loader import ordered, read_rows
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.label.command import run_label
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
NAME = "cepstra"
LABELS = ("source=mfcc", "clusters=50", f"name={NAME}")
SETS = {"image": "digits", "speech": "spoken", "text": "docstrings"}
ENCODERS = (
    "resnet_small", "vit_small", "igpt_small", "logmel_small", "logmel_causal", "cpc_small", "text_small", "gpt_small",
)  # fmt: skip


@dataclass(frozen=True)
class Example:
    """An objective on a built-in set, untrained. words: the choices of the command. before: those of `sslzoo label`,
    which makes what it needs, or (). picture: HTML, or the reason why there is none. teacher: whether it keeps a slow
    copy. refreshes: whether it reads the training set between steps."""

    words: tuple[str, ...]
    before: tuple[str, ...]
    picture: str
    drawn: bool = False
    teacher: bool = False
    refreshes: bool = False


def composed(command: str, words: list[str]) -> dict:
    from hydra import compose, initialize_config_dir

    with initialize_config_dir(str(CONF), version_base="1.3"):
        return plain(compose(command, words))


def small(words: list[str]) -> dict:
    """The config of a command, with few items, and heads that do not take long to make."""
    config = composed("pretrain", words)
    if config["targets"] is not None:
        config["targets"] = str(labels((f"data={SETS['speech']}", *LABELS)))
    for node, most in ((config["data"], ITEMS), (config["objective"], WIDTHS)):
        for key, value in most.items():
            if isinstance(node.get(key), int):
                node[key] = min(node[key], value)
    return config


@cache
def example(objective: str) -> Example:
    """On the data and encoder of an objective's recipe, or on the first built-in ones that fit it."""
    kind, own = class_of(objective), natural({"objective": objective}, [])
    modality = modality_of(objective)
    words, said = [f"objective={objective}", *own], {word.partition("=")[0] for word in own}
    words += [] if "data" in said else [f"data={SETS[modality]}"]
    before = (f"data={SETS[modality]}", *LABELS) if kind.learns_targets else ()
    words += [f"targets=runs/{NAME}"] if before else []
    order = [*ENCODERS, *(name for name in offered() if "small" in name)]
    fit = [name for name in order if kind.needs <= offered()[name][1] and offered()[name][0] == modality]
    refused, teacher = "", False
    for encoder in [[]] if "encoder" in said else [[f"encoder={name}"] for name in fit]:
        try:
            job = build(small([*words, *encoder]))
            teacher = any(isinstance(module, Teacher) for module in job.objective.modules())
            job.data.split("train")
            words, job = long_enough([*words, *encoder], job)
            return Example(tuple(words), before, picture(job), True, teacher, job.objective.refresh_every is not None)
        except ConfigError as error:  # its mask may need another encoder
            refused = refused or str(error)
        except UserError as error:  # another package makes the set
            words += encoder
            return Example(tuple(words), before, f"There is no picture here: {error}.", teacher=teacher)
    raise ConfigError(f"objective={objective} fits no built-in set: {refused}")


def long_enough(words: list[str], job: Job) -> tuple[list[str], Job]:
    """The command and its job, with the setting that says how long an item must be halved until the shortest is."""
    key = f"objective.{job.objective.length_setting}"
    while True:
        try:
            plan.check_lengths(job.data.split("train"), job.encoder, job.objective, job.data)
        except UserError:
            value = dict(leaves(small(words))).get(key)
            if not isinstance(value, int) or value < 2:
                raise
            words = [*(word for word in words if not word.startswith(f"{key}=")), f"{key}={value // 2}"]
            job = build(small(words))
        else:
            return words, job


@cache
def labels(words: tuple[str, ...]) -> Path:
    """The folder of the labels that `sslzoo label` makes by this command, kept while the process lives."""
    root = tempfile.TemporaryDirectory()
    atexit.register(root.cleanup)
    return run_label(composed("label", [*words, f"root={root.name}"]), {})[0]


@cache
def nodes() -> dict:
    """{objective: its composed config}"""
    return choices("objective", names())


def class_of(objective: str) -> type[Objective]:
    return target(nodes()[objective]["_target_"], "objective")


def modality_of(objective: str) -> str:
    """That of its views. A class of several modalities has a config for each: of the one that its name ends with, or of
    the class's first."""
    views, several = nodes()[objective].get("views"), class_of(objective).modalities
    if views is not None:
        return target(views["_target_"], "views").modality
    return next((modality for modality in several if objective.endswith(f"_{modality}")), several[0])


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
