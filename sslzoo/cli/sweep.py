"""Sweeps: jobs of one command that differ in some settings, which name each job's folder; a table shows the results.
Jobs may run in other processes (Hydra's launchers), which return their values and errors.

    runs/<sweep>/
        multirun.yaml       what was swept
        lr=0.001/           one run per job
        lr=0.003/
"""

import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from unittest.mock import patch

from sslzoo.cli.sweep_names import UNNAMED, bare, is_swept, job_name, key_of, name, short
from sslzoo.cli.sweep_scores import Reached, on_test, over_seeds
from sslzoo.cli.terminal import modules_last
from sslzoo.compare.process import quoted
from sslzoo.config import options
from sslzoo.errors import ConfigError, Stopped, UserError, one_line_error
from sslzoo.report.runs import aligned, figure, row
from sslzoo.run import Run


class SweepStopped(BaseException):
    """A signal stopped a job and so the sweep. Not an Exception, which Hydra would catch to start the next job."""


@dataclass
class Job:
    """A job with its result: a value, or an error in one line."""

    words: list[str]
    value: float | None = None
    error: UserError | None = None
    returned: bool = False


def plan(command: str, words: list[str]) -> list[str]:
    """Overrides of Hydra's settings for a sweep: its folder, and the settings that all jobs share."""
    fixed = [word for word in words if not is_swept(word)]
    swept = [word for word in words if word not in fixed]
    found = [f"hydra.job.config.override_dirname.exclude_keys=[{','.join(repr(key_of(w)) for w in fixed)}]"]
    if not any(word.startswith("hydra.sweep.dir=") for word in words):
        found.append(f"hydra.sweep.dir='${{root}}/{name(command, fixed, swept)}'")
    return found


def here() -> list[str] | None:
    """The overrides of the current job that vary in its sweep; None outside a sweep."""
    from hydra.core.hydra_config import HydraConfig
    from hydra.types import RunMode

    hydra = HydraConfig.get()
    if hydra.mode != RunMode.MULTIRUN:
        return None
    return [word for word in hydra.overrides.task if key_of(word) not in hydra.job.config.override_dirname.exclude_keys]


def name_here(command: str, config: dict, choices: dict) -> str | None:
    """The name of the run of a sweep's job; None if its config has it."""
    from hydra.core.hydra_config import HydraConfig

    words = here()
    if command == "pretrain" and words:
        folder = Path(HydraConfig.get().sweep.dir)
        if folder.name != UNNAMED and folder.is_relative_to(config["root"]):
            return f"{folder.relative_to(config['root'])}/{job_name(words)}"
    if command == "adapt" and words and config["name"] is None:
        own = [word for word in words if key_of(word) not in ("run", "task", "method")]
        if any(key_of(word) not in ("seed", "untrained", "task.shots", "task.split_seed") for word in own):
            return f"{choices['task']}-{choices['method']}-{job_name(own)}"
    return None


def raised(error: Exception) -> UserError:
    """An error that can be passed between processes: a UserError or ConfigError with one line."""
    if isinstance(error, Stopped):
        raise SweepStopped(str(error)) from error
    kind = ConfigError if isinstance(error, ConfigError) else UserError
    return kind(one_line_error(error))


@contextmanager
def recorded() -> Iterator[list[Job]]:
    """A context with a list in which the results of all jobs, of any sweeper and launcher, are recorded."""
    from hydra.core.plugins import Plugins
    from hydra.core.utils import JobReturn, JobStatus

    class Returned(JobReturn):
        """Hydra's JobReturn, without the line that it prints before it raises."""

        @property  # type: ignore[misc]
        def return_value(self):
            if self.status == JobStatus.FAILED:
                raise self._return_value
            return self._return_value

    jobs, instantiate = [], Plugins.instantiate_launcher

    def instantiate_launcher(*args, **kwargs):
        launcher = instantiate(*args, **kwargs)
        launch = launcher.launch

        def kept(job_overrides, *more, **named):
            begun = [Job([w for w in words if not w.startswith("hydra.")]) for words in job_overrides]
            jobs.extend(begun)
            returned = list(launch(job_overrides, *more, **named))
            for job, result in zip(begun, returned, strict=True):
                job.returned = True
                if result.status == JobStatus.FAILED:
                    error = result._return_value
                    job.error = error if isinstance(error, UserError) else UserError(one_line_error(error))
                else:
                    job.value = result._return_value
            return [Returned(**vars(result)) for result in returned]

        launcher.launch = kept
        return launcher

    with patch.object(Plugins, "instantiate_launcher", instantiate_launcher):
        yield jobs


def choices() -> dict:
    """{top-level group: option} of the current job."""
    from hydra.core.hydra_config import HydraConfig

    return {k: v for k, v in HydraConfig.get().runtime.choices.items() if "/" not in k}


def run(command: str, perform, words: list[str], flags: list[str], folders: list[Path], run_hydra) -> None:
    """Run `sslzoo <command> --multirun`: print the table of its jobs and a line for each further failure, and raise the
    first. words: the overrides. perform(config, adjust): runs a job. run_hydra: Hydra's main."""
    saved_argv, alone = sys.argv, [flag for flag in flags if flag not in ("-m", "--multirun")]

    def task(config):
        from hydra.core.hydra_config import HydraConfig

        def adjust(found: dict) -> None:
            own = list(HydraConfig.get().overrides.task)
            if (given := name_here(command, found, choices())) is not None:
                found["name"] = given
                own = [*(word for word in own if key_of(word) != "name"), f"name={quoted(given)}"]
            sys.argv = [saved_argv[0], command, *own, *alone]  # re-executed by Lightning's other ranks

        modules_last(folders)  # this may be a new process
        try:
            return perform(config, adjust)
        except Exception as error:
            raise raised(error) from error

    root = next((Path(word.partition("=")[2].strip("'\"")) for word in words if key_of(word) == "root"), Path("runs"))
    ended, fixed = None, [word for word in words if not is_swept(word)]
    folder = root / name(command, fixed, [word for word in words if word not in fixed])
    several = len(fixed) < len(words) or any(key_of(word) == "hydra/sweeper" for word in words)
    if several and (folder / "config.yaml").exists():
        raise ConfigError(f"{folder} is a run already, and no sweep — choose another name=… or delete it")
    with recorded() as jobs:
        try:
            run_hydra(command, flags, [*words, *plan(command, words)], folders, task, jobs)
        except (Exception, SweepStopped) as error:  # noqa: BLE001 (jobs' errors are recorded)
            ended = error
    tidy(folder)
    failed = failures(jobs, words)
    if not all(job.error for job in jobs) and (text := summary(command, jobs, words, root)):
        print(text)
    for failure in failed[1:]:
        print(f"sslzoo: {one_line_error(failure)}", file=sys.stderr)
    if isinstance(ended, SweepStopped):
        raise Stopped(str(ended)) from ended
    if failed:
        raise failed[0]
    if ended is not None:
        raise ended


def failures(jobs: list[Job], words: list[str]) -> list[UserError]:
    """One error per distinct message, with the varied settings of the first job that had it. ConfigErrors if all jobs
    failed with one."""
    fixed = {key_of(word) for word in words if not is_swept(word)}
    kind = ConfigError if all(isinstance(job.error, ConfigError) for job in jobs) else UserError
    alike: dict[str, list[Job]] = {}
    for job in jobs:
        if job.error is not None:
            alike.setdefault(str(job.error), []).append(job)
    if [len(of) for of in alike.values()] == [len(jobs)]:
        return [kind(text) for text in alike]
    found = []
    for text, of in alike.items():
        label = " ".join(word for word in of[0].words if key_of(word) not in fixed)
        found.append(kind(f"{label}{f' and {len(of) - 1} more' if len(of) > 1 else ''}: {text}"))
    return found


def tidy(folder: Path) -> None:
    """Remove Hydra's multirun.yaml and folder if the sweep wrote nothing else."""
    with suppress(OSError):
        if folder.name == UNNAMED or [path.name for path in folder.iterdir()] == ["multirun.yaml"]:
            (folder / "multirun.yaml").unlink(missing_ok=True)
        folder.rmdir()
        folder.parent.rmdir()


def summary(command: str, jobs: list[Job], words: list[str], root: Path) -> str:
    """The table of a sweep's jobs: varied settings, status, results."""
    fixed = {key_of(word) for word in words if not is_swept(word)}
    varied = [[word for word in job.words if key_of(word) not in fixed] for job in jobs]
    names = short([word for own in varied for word in own])
    if not names:
        return ""
    columns = {
        shown: [next((w.partition("=")[2].strip("'\"") for w in own if bare(w) == key), "") for own in varied]
        for key, shown in names.items()
    }
    folder = root / name(
        command, [w for w in words if key_of(w) in fixed], [w for w in words if key_of(w) not in fixed]
    )
    rows = [
        row(Run(folder / job_name(own))) if command == "pretrain" and own and folder.name != UNNAMED else None
        for own in varied
    ]
    there = [found if found and Path(found.folder).is_dir() else None for found in rows]
    columns["status"] = [
        "failed" if job.error else found.status if found else "done" if job.returned else "not begun"
        for job, found in zip(jobs, there, strict=True)
    ]
    for column in ("loss", "val_loss"):
        columns[column] = [figure(getattr(found, column)) if found else "" for found in there]
    metric = next((w.partition("=")[2] for w in words if key_of(w) == "metric"), "null")
    value = metric if metric in options("task") else "valid" if command in ("probe", "adapt") else None
    if value:
        columns[f"{value} (valid)" if value == metric else value] = [
            "" if job.value is None else f"{100 * job.value:.1f}" for job in jobs
        ]
    if command == "adapt":
        columns["test"] = [f"{100 * on_test(job.value):.1f}" if isinstance(job.value, Reached) else "" for job in jobs]
    for task in dict.fromkeys(task for found in there if found for task in found.scores):
        columns[task] = [f"{100 * found.scores[task]:.1f}" if found and task in found.scores else "" for found in there]
    columns["minutes"] = [f"{found.minutes:.1f}" if found and found.minutes is not None else "" for found in there]
    columns["error"] = [str(job.error or "") for job in jobs]
    text = aligned(columns, left=(*names.values(), "status", "error"))
    known = [(job.value, own) for job, own in zip(jobs, varied, strict=True) if job.value is not None]
    if metric != "null" and len(known) > 1:
        lower = metric in ("loss", "val_loss")
        best, own = (min if lower else max)(known, key=lambda one: one[0])
        shown = figure(best) if lower else f"{100 * best:.1f} on validation"
        text += f"\n{'lowest' if lower else 'highest'} {metric}: {shown}, {' '.join(own)}"
    if table := over_seeds([(own, job.value) for job, own in zip(jobs, varied, strict=True)]):
        text += f"\n\n{table}"
    if any(there):
        text += f"\nwrote {folder}\nnext:  sslzoo runs root={folder}"
    return text
