"""Set-up of a command's process: standard streams, signals, module search path. Imports no torch."""

import os
import select
import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, TextIO

from sslzoo.signal_stack import use_signal_stack

PIPE_CLOSED = 128 + signal.SIGPIPE  # exit code, as of a program ended by SIGPIPE


def no_reader(descriptor: int) -> bool:
    """Whether a pipe's other end is closed."""
    poll = select.poll()
    poll.register(descriptor, 0)
    return any(event & select.POLLERR for _, event in poll.poll(0))


class Unread:
    """A stream for messages: if it is closed or its disk is full, nothing fails and further messages are dropped."""

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
        os.dup2(nowhere, self._stream.fileno())  # for buffered text and C libraries, too
        os.close(nowhere)


def open_closed() -> None:
    """Open closed standard streams (`2>&-`) to /dev/null: else the next opened file would get their descriptor and
    their output."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            try:
                os.fstat(number)
            except OSError:
                os.open(os.devnull, os.O_RDWR)  # takes the lowest number that is free
            setattr(sys, name, open(os.devnull, "w" if number else "r", encoding="utf-8"))  # noqa: SIM115 (for as long as the process)


@contextmanager
def streams() -> Iterator[None]:
    """A context that writes characters which the terminal cannot encode as escapes, exits quietly if stdout is a closed
    pipe, and ignores a closed stderr."""
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
        # else Python would flush the buffer at exit, and fail again
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        sys.exit(PIPE_CLOSED)
    finally:
        sys.stderr = before


def end_on_signals() -> None:
    """Exit by an exception on SIGTERM, SIGUSR1 and SIGHUP, so that unfinished files are removed; ignored signals, as
    under nohup, stay ignored."""

    def end(number, _):
        sys.exit(128 + number)

    if threading.current_thread() is not threading.main_thread():
        return
    use_signal_stack()
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1):
        if signal.getsignal(number) == signal.SIG_DFL:
            signal.signal(number, end)


def modules_last(folders: list[Path]) -> None:
    """Put the config folders and the current folder last in sys.path, so that a user's random.py or types.py does not
    hide the standard library's. Also for child processes."""
    own = [*(str(folder.resolve()) for folder in folders), os.getcwd()]
    others, home = [path for path in sys.path if path not in ("", *own)], str(Path(__file__).parents[2])
    sys.path[:] = others + own
    os.environ["PYTHONSAFEPATH"] = "1"
    if home not in others:  # not installed, but run from its source folder
        found = [home, os.environ.get("PYTHONPATH")]
        os.environ["PYTHONPATH"] = os.pathsep.join(path for path in found if path)
