"""What a command's process is to its surroundings: its streams, its signals, where it finds modules. Imports no torch."""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

PIPE_CLOSED = 128 + signal.SIGPIPE  # as of a program that SIGPIPE ended


def no_reader(descriptor: int) -> bool:
    """Whether a pipe's other end is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class Unread:
    """A stream of messages that need not be read: nothing fails where it is closed or its disk is full, and what is written
    from then on is lost."""

    def __init__(self, stream: TextIO):
        self._stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def write(self, text: str) -> int:
        try:
            return self._stream.write(text)
        except OSError:
            self._drop()
            return len(text)

    def flush(self) -> None:
        try:
            self._stream.flush()
        except OSError:
            self._drop()

    def _drop(self) -> None:
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self._stream.fileno())  # for what is still held, too, and for libraries of C
        os.close(nowhere)


def open_closed() -> None:
    """Open what was closed for this process (`2>&-`), to write nowhere: else the next file would have its number, and get
    what is written to it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115 (for as long as the process)


@contextmanager
def streams() -> Iterator[None]:
    """Write what a terminal's encoding lacks as its escapes, and end quietly where no one reads the results; who does not
    read the messages, on stderr, stops nothing."""
    open_closed()
    before = sys.stderr
    sys.stderr = Unread(before)
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
    finally:
        sys.stderr = before


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
