"""Training an adaptation: once, or in the stages of its method."""

import json

import torch.distributed as dist
from torch import Tensor

from sslzoo import build, weights
from sslzoo.adapt.job import MEND, AdaptJob, build_adapt, new_in
from sslzoo.run import Run, write_json
from sslzoo.tasks.base import TaskObjective
from sslzoo.train import launch
from sslzoo.train.cluster import first_rank


def train(job: AdaptJob, run: Run, folder: Run, shared: Run) -> bool:
    """Train what a method learns, in `folder`, resuming what was stopped. True on the first rank, when done. shared:
    see `Method.train`."""
    stages = job.method.stages(job.config)
    if len(stages) == 1:
        return job.method.train(job, run, folder, shared)
    before: list[Run] = []
    done = False
    for number, config in enumerate(stages):
        mine = Run(folder.folder / f"stage_{number + 1}")
        build.write_config(mine, config)
        with mine.attempt():
            if not mine.done:
                job = build_adapt(config, run)
                if before:
                    _restore(job, before[-1])
                job.method.begin(number, job.encoder, job.objective)
                done = launch.pretrain(job, mine)
                if dist.is_initialized():
                    dist.barrier()  # the other ranks read what the first one wrote
            else:
                done = first_rank(job.trainer)
        before.append(mine)
    if done:
        _join(before, job.objective, folder)
    return done


def _restore(job: AdaptJob, before: Run) -> None:
    """Set encoder and objective to what an earlier stage reached."""
    saved = weights.load(before.adapted_weights, MEND.format(before.folder))
    for part, module in (("encoder", job.encoder), ("objective", job.objective)):
        state = {k.removeprefix(f"{part}."): x for k, x in saved.items() if k.startswith(f"{part}.")}
        module.load_state_dict(state, strict=False)


def _join(stages: list[Run], objective: TaskObjective, folder: Run) -> None:
    """Write what all stages trained as one adaptation; the scores of validation are the last stage's."""
    tensors: dict[str, Tensor] = {}
    said, spent = [], []
    for stage in stages:
        tensors |= weights.load(stage.adapted_weights, MEND.format(stage.folder))
        said.append(json.loads(stage.adapted.read_text(encoding="utf-8")))
        spent.append(json.loads(stage.summary.read_text(encoding="utf-8")))
    trained = {name: count for one in said for name, count in one["trained"].items()}
    weights.save(folder.adapted_weights, tensors)
    write_json(
        folder.adapted,
        {
            **said[-1],
            "trained": trained,
            "trained_parameters": sum(trained.values()),
            "head_parameters": sum(count for name, count in trained.items() if new_in(objective, name)),
            "saved": {name: tensor.numel() for name, tensor in tensors.items()},
            "stages": [{"chosen": one["chosen"], "validation": one["validation"]} for one in said],
        },
    )
    peaks = {k: max(one[k] for one in spent if k in one) for k in spent[-1] if k.startswith("peak_")}
    totals = {name: sum(one[name] for one in spent) for name in ("steps", "minutes")}
    write_json(folder.summary, {**spent[-1], **peaks, **totals})
    folder.finish()
