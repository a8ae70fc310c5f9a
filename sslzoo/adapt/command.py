"""`sslzoo adapt`: fine-tunes a finished run's encoder on a task's labels."""

import json
from collections.abc import Collection
from pathlib import Path

from sslzoo import build
from sslzoo.adapt.job import (
    build_adapt,
    check_parts,
    default_name,
    load_adapted,
    put_to_data,
    weights_of,
    without_prompt,
)
from sslzoo.adapt.measure import evaluated, seen_before
from sslzoo.adapt.search import rates, search
from sslzoo.adapt.stages import train
from sslzoo.adapt.submit import ALSO, also, planned, submit
from sslzoo.adapt.teacher import pinned
from sslzoo.config import FREE
from sslzoo.features.device import chosen_device
from sslzoo.lock import sole_writer
from sslzoo.probe.leakage import checked_most
from sslzoo.progress import bars
from sslzoo.run import Run, checked_name, write_json
from sslzoo.train.cluster import first_rank

LEAKAGE_ITEMS = 100_000
OWN_FREE = FREE - {"trainer.val_every"} | {"method.teacher"}  # val_every decides which steps can be kept


def run_adapt(
    config: dict, choices: dict[str, str], overrides: Collection[str] = (), given: Collection[str] = ()
) -> Path | None:
    """Train, evaluate, print the scores, and return the path of the result; None on ranks other than the first.
    overrides: as the user wrote them, recorded in the run's folder; given: their dotted keys."""
    root, name, out = Path(str(config.pop("root"))), config.pop("name"), config.pop("submit", None)
    most = leakage_items(config)
    run = Run.find(config.pop("run"), root)
    config, changed = put_to_data(without_prompt(config, given), choices, run, given)
    if changed:
        print(changed)
    if out is not None:
        planned(config["task"], str(out))
    config["weights"] = weights_of(run)
    config = pinned(config, root)
    name = default_name(config, choices["method"]) if name is None else checked_name(name)
    folder, learning_rates = Run(run.folder / "adapted" / name), rates(config)
    if folder.done and folder.result.exists():
        build.write_config(folder, config, OWN_FREE)
        print(f"{folder.folder} is done already\n{summary(folder)}")
        if out is not None:
            print(submitted(config["task"], str(out), run, name))
        return folder.result
    job = build_adapt(config, run)
    with sole_writer(folder.folder, first_rank(job.trainer)):
        build.write_config(folder, config, OWN_FREE)
        with folder.attempt(overrides):
            settled = job.method.settled(config, run, folder)
            job = job if settled == config else build_adapt(settled, run)
            if not folder.done:
                searched = search(job, run, folder, learning_rates) if learning_rates else None
                if not (train(job, run, folder, folder) if searched is None else searched):
                    return None
        with bars() as progress:
            device = "cuda" if job.trainer.on_gpu else "cpu"
            found = evaluated(run, name, job.data, device, job.trainer.workers, progress)
            found["leakage"] = seen_before(run, job.data, most, progress)
        # the weights are loaded again for tasks with further files alone
        if config["task"]["name"] in ALSO and (further := also(config["task"], *on_device(run, name, device))):
            found["also"] = further
        write_json(
            folder.result, {"method": choices["method"], "seed": config["seed"], **found, **job.method.spent(folder)}
        )
    print(summary(folder))
    if out is not None:
        print(submitted(config["task"], str(out), run, name))
    return folder.result


def check_adapt(config: dict, run: Run, folder: Run, given: Collection[str] = ()) -> None:
    """Raise, before any data is read or anything is written, the errors of `run_adapt`. folder:
    where it would write."""
    config = {key: value for key, value in config.items() if key not in ("root", "name", "run", "submit")}
    leakage_items(config)
    config, _ = put_to_data(without_prompt(config, given), {}, run, given)
    rates(config)
    check_parts(config, run)
    if folder.config.exists():
        build.write_config(folder, {**config, "weights": weights_of(run)}, OWN_FREE)


def leakage_items(config: dict) -> int:
    """Take the setting out of a config, which a run does not depend on. Raises ConfigError."""
    return checked_most(config.pop("leakage_items", LEAKAGE_ITEMS))


def on_device(run: Run, name: str, device: str) -> tuple:
    """(adapted encoder, task objective, the task's data, device), with both modules on the device."""
    encoder, objective, data = load_adapted(run, name)
    return encoder.to(device), objective.to(device), data, device


def submitted(task: dict, out: str, run: Run, name: str) -> str:
    """Write a finished adaptation's submission files, and return `submit`'s report."""
    return submit(task, out, *on_device(run, name, chosen_device("auto")))


def summary(folder: Run) -> str:
    """A result in a few lines for a terminal, scores times 100."""
    found, said = (json.loads(path.read_text(encoding="utf-8")) for path in (folder.result, folder.adapted))
    valid, test, chance = (
        100 * x for x in (*(found[part][found["metric"]] for part in ("valid", "test")), found["chance"])
    )
    lines = [
        (
            f"{folder.name}: {found['metric']} {test:.1f} on {found['n_test']} of test, {valid:.1f} on {found['n_valid']} of "
            f"valid, chance {chance:.1f}"
        ),
        (
            f"  {found['trained_parameters']:,} parameters trained, {found['head_parameters']:,} of them the head's, in "
            f"{found['steps']} steps, {found['seconds']:.0f} s"
        ),
    ]
    if teacher := found.get("teacher"):
        lines.append(beside(found, teacher))
    for part, scores in found.get("also", {}).items():
        lines.append(f"  {part}: {found['metric']} {100 * scores[found['metric']]:.1f}")
    if chosen := found.get("chosen"):
        rate = f"lr={chosen['lr']:g}, " if "lr" in chosen else ""
        lines.append(f"  validation chose {rate}step {chosen['step']}")
    if "leakage" in found:
        lines.append(f"  {found['leakage']['said']}")
    if exits := found.get("exits"):
        name = exits["criterion"]
        points = [point for point in exits["test"] if point[name] == exits["chosen"]]
        lines += [
            f"  {name} {exits['chosen']:g}: {point['layers']:.1f} of {exits['depth']} layers, {point['speedup_1']:.1f} times "
            f"as fast at a batch of 1, {point['speedup_32']:.1f} at 32; the full model's {found['metric']} is "
            f"{100 * exits['layer_scores'][-1]:.1f}"
            for point in points
        ]
    if "saved" in said:  # older runs have none
        more = " (with buffers)" if said["saved"].keys() - said["trained"].keys() else ""
        lines += [f"  trained: {grouped(said['trained'])}", f"  saved{more}: {grouped(said['saved'])}"]
    return "\n".join(lines)


def beside(found: dict, teacher: dict) -> str:
    """A student's result beside its teacher's, in a line."""
    times = [one["latency_ms"]["32"] for one in (teacher, found)]
    return (
        f"  teacher {100 * teacher['test'][found['metric']]:.1f} of {teacher['parameters']:,} parameters, the student of "
        f"{found['parameters']:,}; 32 items in {times[0]:.1f} and {times[1]:.1f} ms"
    )


def grouped(numbers: dict[str, int]) -> str:
    """The total number of elements of tensors, grouped by the first two parts of their names."""
    groups: dict[str, list[int]] = {}
    for name, count in sorted(numbers.items()):
        groups.setdefault(".".join(name.split(".")[:2]), []).append(count)
    return ", ".join(f"{group} {sum(counts):,}" for group, counts in groups.items()) or "nothing"
