"""The scores and costs of a finished adaptation: the content of result.json."""

import json
import time

import numpy as np
import torch
from torch import nn

from sslzoo import build, distributed
from sslzoo.adapt.data import Supervised, check_learned
from sslzoo.adapt.exit_curves import curves
from sslzoo.adapt.job import load_adapted
from sslzoo.adapt.prepared import PooledItems
from sslzoo.data.base import Batch
from sslzoo.data.loader import ordered_loader, read_rows
from sslzoo.data.sampler import Rows
from sslzoo.features.frozen import units
from sslzoo.probe.leakage import leakage
from sslzoo.progress import Progress, quiet
from sslzoo.run import Run, commit
from sslzoo.tasks.base import TaskObjective
from sslzoo.tasks.exits import ExitTask
from sslzoo.tasks.metrics import ERRORS

ROUNDS, ROWS = 9, (1, 32)  # latency: repetitions, batch sizes


def evaluated(
    run: Run, name: str, data: Supervised, device: str = "cpu", workers: int = 0, progress: Progress = quiet
) -> dict:
    """The saved weights' scores on validation and test, and costs, ready for JSON. The only place where test is read.
    data: with the task's labels."""
    folder = Run(run.folder / "adapted" / name)
    said, spent = (
        json.loads(folder.adapted.read_text(encoding="utf-8")),
        json.loads(folder.summary.read_text(encoding="utf-8")),
    )
    encoder, objective, stored = load_adapted(run, name)
    check_learned(data.task.name, data.classes, stored.classes)
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
        if published := [score for _, score in said.get("on_test", [])]:
            best = min if objective.metric in ERRORS else max
            found["test"][f"{objective.metric}_as_published"] = best(published)
        exits = {"exits": curves(encoder, objective, data, batches, device)} if isinstance(objective, ExitTask) else {}
        milliseconds = {str(rows): latency(encoder, objective, splits["valid"], device, rows) for rows in ROWS}
    return {
        "task": data.task.name,
        "metric": objective.metric,
        **found,
        "chance": objective.chance(splits["train"], splits["test"]),
        "classes": said["classes"],
        "unseen": data.unseen,
        **{f"n_{part}": len(getattr(split, "questions", split)) for part, split in splits.items()},
        "cut_texts": {part: cut for part in splits if (cut := data.cut_texts(part))},
        "left_out": {part: count for part in splits if (count := data.left_out(part))},
        **{key: said[key] for key in ("parameters", "trained_parameters", "head_parameters", "chosen")},
        "bytes_stored": folder.adapted_weights.stat().st_size,
        **{name: spent[name] for name in ("peak_memory_gb", "peak_gpu_memory_gb") if name in spent},
        "latency_ms": milliseconds,
        **exits,
        "steps": spent["steps"],
        "seconds": round(60 * spent["minutes"], 2),
        "device": spent["device"],
        "commit": commit(),
    }


def seen_before(run: Run, data: Supervised, most: int, progress: Progress = quiet) -> dict:
    """How many of a task's test items lie in the run's pretraining set: see `probe.leakage`. most: pretraining items
    that are read at most."""
    if not isinstance(data.prepared, PooledItems):
        why = "its items are windows of paragraphs"
        return {"unknown": why, "said": f"test items in the pretraining set are not counted: {why}"}
    theirs = data.data if data.task.data is None else build.load_encoder(run)[1]
    return leakage(data.pool, data.pooled.parts, theirs, progress, most)


def latency(encoder: nn.Module, objective: TaskObjective, split, device: str, rows: int) -> float:
    """Milliseconds from a batch on the CPU to its logits: the median of `ROUNDS` after one warm-up. The batch is the
    first `rows` items of a split, repeated if it has fewer."""
    batch: Batch = read_rows(split, Rows(np.arange(rows) % len(split), np.full(rows, -1)))
    taken = []
    for _ in range(ROUNDS + 1):
        begun = time.perf_counter()
        objective.logits(encoder, batch.to(device))
        if device != "cpu":
            torch.cuda.synchronize()
        taken.append(1000 * (time.perf_counter() - begun))
    return round(float(np.median(taken[1:])), 3)
