"""Progress bars: workers report progress to a function that the caller passes."""

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

Progress = Callable[[str, int, int], None]  # (description, done, total)
PATIENCE = 1.0  # seconds before `track` shows anything


def quiet(what: str, done: int, total: int) -> None:
    """Show nothing."""


def progress_bar(transient: bool = True, info: bool = False, disable: bool = False) -> Any:
    """A rich bar on stderr: description, bar, done/total, time left. info: also show `task.fields["info"]`.
    transient: remove the bar at the end."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total}" + ("  {task.fields[info]}" if info else "")),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=Console(stderr=True), transient=transient, disable=disable)


def track(items: Iterable, what: str, total: int) -> Iterator:
    """Iterate over `items`; after `PATIENCE` seconds show a bar on a terminal, or print a line elsewhere."""
    bar = progress_bar()
    begun, shown, task = time.monotonic(), False, bar.add_task(what, total=total)
    try:
        for done, item in enumerate(items):
            if not shown and time.monotonic() - begun > PATIENCE:
                shown = True
                if bar.console.is_terminal:
                    bar.start()
                else:
                    print(f"{what}: {total} …", file=sys.stderr)
            if shown:
                bar.update(task, completed=done)
            yield item
    finally:
        if bar.live.is_started:
            bar.stop()


@contextmanager
def bars() -> Iterator[Progress]:
    """A context with a function that shows a bar for each description it is called with, on a terminal only."""
    with progress_bar(disable=not sys.stderr.isatty()) as bar:
        rows: dict[str, int] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in rows:
                rows[what] = bar.add_task(what, total=total)
            bar.update(rows[what], completed=done, total=total)

        yield progress
