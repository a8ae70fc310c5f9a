"""`sslzoo adapt`: a finished run's encoder, trained further to name the labels of a task."""

import json
from collections.abc import Collection
from pathlib import Path

import torch

from sslzoo import build, distributed
from sslzoo.adapt.data import Supervised
from sslzoo.adapt.job import build_adapt, default_name, load_adapted, put_to_data, weights_of
from sslzoo.data.loader import ordered_loader
from sslzoo.features.frozen import units
from sslzoo.lock import sole_writer
from sslzoo.progress import Progress, bars, quiet
from sslzoo.run import Run, checked_name, commit, write_json
from sslzoo.train import launch
from sslzoo.train.cluster import first_rank


def run_adapt(
    config: dict, choices: dict[str, str], overrides: Collection[str] = (), given: Collection[str] = ()
) -> Path | None:
    """Train, evaluate, print the scores, and return the result's file; None on a rank other than the first.
    overrides: as the user wrote them, which the run's folder keeps; given: their dotted keys."""
    root, name = Path(str(config.pop("root"))), config.pop("name")
    run = Run.find(config.pop("run"), root)
    config, changed = put_to_data(config, choices, run, given)
    if changed:
        print(changed)
    config["weights"] = weights_of(run)
    name = default_name(config, choices["method"]) if name is None else checked_name(name)
    folder = Run(run.folder / "adapted" / name)
    if folder.done and folder.result.exists():
        build.write_config(folder, config)
        print(
            f"{folder.folder} is done already\n{summary(name, json.loads(folder.result.read_text(encoding='utf-8')))}"
        )
        return folder.result
    job = build_adapt(config, run)
    with sole_writer(folder.folder, first_rank(job.trainer)):
        build.write_config(folder, config)
        with folder.attempt(overrides):
            if not folder.done and not launch.pretrain(job, folder):
                return None
        with bars() as progress:
            device = "cuda" if job.trainer.on_gpu else "cpu"
            found = evaluated(run, name, job.data, device, job.trainer.workers, progress)
        write_json(folder.result, {"method": choices["method"], "seed": config["seed"], **found})
    print(summary(name, found))
    return folder.result


def evaluated(
    run: Run, name: str, data: Supervised, device: str = "cpu", workers: int = 0, progress: Progress = quiet
) -> dict:
    """What the weights that were saved score on validation and test, ready for JSON. data: with the task's labels.
    The last step's weights are what is measured: validation chooses nothing, and test is read here alone."""
    folder = Run(run.folder / "adapted" / name)
    said, spent = (
        json.loads(folder.adapted.read_text(encoding="utf-8")),
        json.loads(folder.summary.read_text(encoding="utf-8")),
    )
    encoder, objective, _ = load_adapted(run, name)
    encoder, objective = encoder.to(device), objective.to(device)
    splits = {part: data.split(part) for part in ("train", "valid", "test")}

    def batches(part: str):
        done = 0
        for batch in ordered_loader(splits[part], units(data), workers=workers):
            yield batch.to(device)
            done += len(batch)
            progress(f"evaluating {part}", done, len(splits[part]))

    with distributed.alone(), torch.inference_mode():
        found = {part: dict(objective.evaluate(encoder, batches(part), splits[part])) for part in ("valid", "test")}
    return {
        "task": data.task.name,
        "metric": objective.metric,
        **found,
        "chance": objective.chance(splits["train"], splits["test"]),
        "classes": said["classes"],
        "unseen": data.unseen,
        **{f"n_{part}": len(split) for part, split in splits.items()},
        **{key: said[key] for key in ("parameters", "trained_parameters", "head_parameters")},
        "steps": spent["steps"],
        "seconds": round(60 * spent["minutes"], 2),
        "commit": commit(),
    }


def summary(name: str, found: dict) -> str:
    """A result in two lines for a terminal, scores times 100."""
    valid, test, chance = (
        100 * x for x in (*(found[part][found["metric"]] for part in ("valid", "test")), found["chance"])
    )
    return (
        f"{name}: {found['metric']} {test:.1f} on {found['n_test']} of test, {valid:.1f} on {found['n_valid']} of "
        f"valid, chance {chance:.1f}\n  {found['trained_parameters']:,} parameters trained, "
        f"{found['head_parameters']:,} of them the head's, in {found['steps']} steps, {found['seconds']:.0f} s"
    )
