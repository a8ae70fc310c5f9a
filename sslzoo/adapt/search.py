"""Choosing among a few learning rates by validation: in one pass where heads alone learn,
else with one run per rate."""

import json
import shutil
from pathlib import Path

from sslzoo import build
from sslzoo.adapt.job import AdaptJob, build_adapt
from sslzoo.adapt.rates import RatesJob, fits_one_pass
from sslzoo.adapt.stages import train
from sslzoo.errors import ConfigError
from sslzoo.nodes import fits, make
from sslzoo.run import Run, write_json
from sslzoo.tasks.metrics import ERRORS


def rates(config: dict) -> list[float]:
    """The learning rates to choose among, [] if search.lr is null. Raises ConfigError for invalid ones."""
    node = config.get("search") or {}
    if not isinstance(node, dict) or set(node) - {"lr"}:
        raise ConfigError(f"search has lr, learning rates to choose among, and nothing else; got {node}")
    found = node.get("lr")
    if found is None:
        return []
    if not fits(found, list[float]) or len(found) < 2 or min(found) <= 0 or len(set(found)) < len(found):
        raise ConfigError(f"search.lr must be two learning rates or more, each another one, above 0; got {found}")
    if config["trainer"].get("val_every") is None:
        raise ConfigError("search.lr is a choice by validation, and trainer.val_every=null leaves it out")
    return [float(lr) for lr in found]


def search(job: AdaptJob, run: Run, folder: Run, learning_rates: list[float]) -> bool:
    """Train at each rate and keep, in `folder`, the results of the one with the best validation score. Returns True on
    the first rank, when done. Heads on a frozen encoder are trained in one pass; otherwise each rate has a run in
    `folder`/lr=…. Both resume what was stopped."""
    config = job.config
    if fits_one_pass(job):
        each = [make({**config["optim"], "lr": lr}) for lr in learning_rates]
        optims = [build.batched(job.data, job.encoder, job.objective, optim, job.trainer) for optim in each]
        return job.method.train(RatesJob.of(job, learning_rates, optims), run, folder, folder)
    scores: dict[float, float] = {}
    for lr in learning_rates:
        own = {**config, "optim": {**config["optim"], "lr": lr}, "search": {"lr": None}}
        mine = Run(folder.folder / f"lr={lr:g}")
        build.write_config(mine, own)
        with mine.attempt():
            if not mine.done and not train(build_adapt(own, run), run, mine, folder):
                continue  # ranks other than the first only train
        scores[lr] = json.loads(mine.adapted.read_text(encoding="utf-8"))["chosen"]["score"]
    if len(scores) < len(learning_rates):
        return False
    best = (min if config["task"].get("metric") in ERRORS else max)(scores, key=lambda lr: scores[lr])
    chosen = Run(folder.folder / f"lr={best:g}")
    for source, aim in (
        (chosen.adapted_weights, folder.adapted_weights),
        (Path(f"{chosen.adapted_weights}.sha256"), Path(f"{folder.adapted_weights}.sha256")),
        (chosen.summary, folder.summary),
    ):
        shutil.copyfile(source, aim)
    said = json.loads(chosen.adapted.read_text(encoding="utf-8"))
    said["chosen"] |= {"lr": best, "scores": {f"{lr:g}": score for lr, score in scores.items()}}
    write_json(folder.adapted, said)
    folder.finish()
    return True
