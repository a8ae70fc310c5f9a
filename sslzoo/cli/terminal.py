"""What a command's process is to its surroundings: its streams, its signals, where it finds modules. Imports no torch."""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

PIPE_CLOSED = 128 + signal.SIGPIPE  # as of a program that SIGPIPE ended


def no_reader(descriptor: int) -> bool:
    """Whether a pipe's other end is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


@contextmanager
def streams() -> Iterator[None]:
    """Write what a terminal's encoding lacks as its escapes, and end quietly where no one reads on."""
    for stream in (sys.stdout, sys.stderr):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(errors="backslashreplace")
    try:
        yield
        sys.stdout.flush()
    except BrokenPipeError:
        if not no_reader(1):
            raise
        # what is still held would be written, and fail again, as Python ends
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(PIPE_CLOSED)


def end_on_signals() -> None:
    """Let SIGTERM, SIGUSR1 and a closed terminal unwind what is begun, so that nothing half written stays; what is ignored, as
    under nohup, stays ignored."""

    def end(number, _):
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        return
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


def modules_last(folders: list[Path]) -> None:
    """Find a user's own modules beside their configs or where they stand, after all that is installed: a random.py or
    types.py among them is not the standard library's. Processes begun by this one do the same."""
    own = [*(str(folder.resolve()) for folder in folders), os.getcwd()]
    others, home = [path for path in sys.path if path not in ("", *own)], str(Path(__file__).parents[2])
    sys.path[:] = others + own
    os.environ["PYTHONSAFEPATH"] = "1"
    if home not in others:  # not installed, but run from its own folder
        found = [home, os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in found if path)
