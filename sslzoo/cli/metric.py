"""The value that a sweep's job returns to its sweeper, such as Optuna's: a loss, to minimise, or a probe's score, to
maximise. Imports no torch before it probes."""

import json
from pathlib import Path

from sslzoo.compare.process import Command, override
from sslzoo.config import fingerprint, options, protocol
from sslzoo.errors import ConfigError, UserError, nearest
from sslzoo.report.record import at, number, read
from sslzoo.run import Run

LOSSES = ("loss", "val_loss")


def check(metric: str | None, job, config_dirs: list[Path]) -> None:
    """Raise ConfigError, before training, for a metric that the run of a job (`build.Job`) will not have."""
    known = [*LOSSES, *options("task", config_dirs)]
    if metric is None:
        return
    if metric not in known:
        raise ConfigError(
            f"there is no metric '{metric}'{nearest(metric, known)} — metric is loss, val_loss, or a task of `sslzoo list tasks`"
        )
    if metric == "val_loss" and job.trainer.val_every is None:
        raise ConfigError("metric=val_loss is not measured with trainer.val_every=null")
    if metric not in LOSSES:
        from sslzoo import build

        node = Command(config_dirs).compose("probe", ["run=it", override("task", metric)])["task"]
        build.check(node, "task")
        build.make(node).check(job.encoder, job.data)


def measured(run: Run, metric: str | None, config_dirs: list[Path]) -> float:
    """The metric of a finished run: `loss` or `val_loss` after the last step (None: val_loss if measured, else loss),
    or a task: the validation score of a linear probe, which is run if needed."""
    if metric not in (None, *LOSSES):
        return probed(run, metric, config_dirs)
    logs = read(run, pictures=False).summary.get("logs")
    found = [number(at(logs, name)) for name in ([metric] if metric else ["val_loss", "loss"])]
    value = next((value for value in found if value is not None), None)
    if value is None:
        raise UserError(f"{run.folder} has measured no finite {metric or 'loss'}: {run.summary.name} says none")
    return value


def probed(run: Run, task: str, config_dirs: list[Path]) -> float:
    """The validation score of a task; probes the run if not done with these settings."""
    from sslzoo.probe.command import run_probe

    path, words = run.probes / f"{task}.json", [override("run", run.folder), override("task", task)]
    config = Command(config_dirs).compose("probe", words)
    if not path.exists() or at(read_json(path), "pretrained", "protocol") != fingerprint(
        protocol(config, {"task": task})
    ):
        path = run_probe(config, {"task": task})
    return validation(path)


def validation(path: Path) -> float:
    """The validation score on the pretrained encoder, of the linear head or, without one, of nearest neighbours. A
    sweep must not choose by test."""
    scores = read_json(path)
    found = next(
        (x for head in ("linear", "knn") if (x := number(at(scores, "pretrained", head, "valid"))) is not None), None
    )
    if found is None:
        raise UserError(f"{path} has no score on validation")
    return found


def read_json(path: Path):
    return json.loads(path.read_text(encoding="utf-8"))
