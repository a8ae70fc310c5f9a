"""Working off planned runs: several at a time, each with its share of the cores, and the folder locked meanwhile."""

import fcntl
import os
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager
from pathlib import Path
from typing import Protocol

from rich.console import Console

from sslzoo.compare.process import Command
from sslzoo.errors import UserError
from sslzoo.run import Run


class Planned(Protocol):
    """after: the folder of the run that must be done before, None for none."""

    @property
    def name(self) -> str: ...
    @property
    def run(self) -> Run: ...
    @property
    def after(self) -> Path | None: ...
    def steps(self, command: Command) -> Iterator[str]:
        """Run its missing commands, yielding a description before each."""
        ...


def work_off(
    runs: Sequence[Planned],
    jobs: int,
    stop: bool,
    command: Command,
    say: Console,
    ended: Callable[[dict[str, UserError]], object] | None = None,
) -> dict[str, UserError]:
    """Do all runs, up to `jobs` at a time, each with its share of the cores, or as a job of the command's launcher;
    return {run: error}. stop: start none after a failure. ended: called with the errors so far after each run."""
    if jobs > 1 and not command.launcher:
        command.threads = max(1, len(os.sched_getaffinity(0)) // jobs)
    errors: dict[str, UserError] = {}
    waiting, running = list(enumerate(runs, 1)), dict[Future, tuple[int, Planned]]()

    def one(number: int, planned: Planned) -> None:
        for doing in planned.steps(command):
            say.print(f"[{number}/{len(runs)}] {planned.name}: {doing}", style="bold", markup=False)

    with ThreadPoolExecutor(jobs) as pool:
        submit = pool.submit if jobs > 1 else _here
        try:
            while running or (waiting and not (errors and stop)):
                ahead = [planned.run.folder for _, planned in [*running.values(), *waiting]]
                for job in [job for job in waiting if not (errors and stop)]:
                    if len(running) < jobs and job[1].after not in ahead:
                        waiting.remove(job)
                        running[submit(one, *job)] = job
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    _, planned = running.pop(future)
                    try:
                        future.result()
                    except UserError as error:
                        errors[planned.name] = type(error)(f"{planned.name}: {error}")
                        say.print(f"{errors[planned.name]}", style="red", markup=False)
                    if ended is not None:
                        ended(errors)
        except BaseException:
            command.end()
            raise
    return {planned.name: errors[planned.name] for planned in runs if planned.name in errors}


def raise_first(errors: dict[str, UserError], of: str) -> None:
    """Raise the first of the errors that `work_off` returned, if there is one, and say how many there are. of:
    of what."""
    if not errors:
        return
    first = next(iter(errors.values()))
    if len(errors) > 1:
        first = type(first)(f"{len(errors)} {of} failed; the first: {first}")
    raise first


def _here(work, *arguments) -> Future:
    """`submit` that runs in this thread, the main one, which gets the signals."""
    future: Future = Future()
    try:
        future.set_result(work(*arguments))
    except UserError as error:
        future.set_exception(error)
    return future


@contextmanager
def alone(folder: Path, command: Command, name: str):
    """Lock the folder of `sslzoo <name>`. Children inherit the lock,
    so that one that outlives us is not started twice."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        lock = open(folder / ".lock", "ab")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise UserError(f"cannot write in {folder}: {error.strerror} — choose another root=…") from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise UserError(
                f"{folder} is being worked on by another `sslzoo {name}`, or by a run that one of them "
                "left — wait for it, or end it"
            ) from None
        command.kept_open, command.queue = (lock.fileno(),), folder / ".jobs"
        yield
