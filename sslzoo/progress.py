"""How far something long is: said by what does it, shown by what called it."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

Progress = Callable[[str, int, int], None]  # what is done, how much of it, of how much


def quiet(what: str, done: int, total: int) -> None:
    """Show nothing."""


@contextmanager
def bars() -> Iterator[Progress]:
    """A bar for each thing that is said to progress, on a terminal only."""
    from rich.console import Console
    from rich.progress import Progress as Bar

    console = Console(stderr=True)
    with Bar(console=console, transient=True, disable=not console.is_terminal) as bar:
        rows: dict[str, int] = {}

        def progress(what: str, done: int, total: int) -> None:
            if what not in rows:
                rows[what] = bar.add_task(what)
            bar.update(rows[what], completed=done, total=total)

        yield progress
