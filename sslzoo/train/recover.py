"""Repairing a run's folder after a kill or a power cut, before the run is resumed."""

from pathlib import Path

from sslzoo.disk import remove_unfinished
from sslzoo.run import Run


def recover(run: Run, say) -> None:
    """Remove unfinished files, and cut an incomplete last line from files that are appended to, with a message."""
    for folder in (run.folder, run.checkpoints):
        remove_unfinished(folder)
    for path in run.folder.glob(".rank-*"):  # of ranks that were killed
        path.unlink(missing_ok=True)
    for path in (run.metrics, run.events):
        if path.exists() and (lost := cut_torn_end(path)):
            say(f"cut {lost} bytes from the end of {path.name}, which are no whole line, as after a power cut")


def cut_torn_end(path: Path) -> int:
    """Truncate a text file after its last whole line before any NUL (which a file system leaves if the length was
    stored but not the content) or invalid UTF-8. Returns the number of bytes removed."""
    held = path.read_bytes()
    whole = held.partition(b"\0")[0]
    try:
        whole.decode("utf-8")
    except UnicodeDecodeError as error:
        whole = whole[: error.start]
    whole = whole[: whole.rfind(b"\n") + 1]
    if len(whole) < len(held):
        with open(path, "r+b") as file:
            file.truncate(len(whole))
    return len(held) - len(whole)
