"""What a kill or a power cut left in a run's folder, put right before the run goes on."""

from pathlib import Path

from sslzoo.disk import remove_unfinished
from sslzoo.run import Run


def recover(run: Run, say) -> None:
    """Remove files that were being written, and cut what is no whole line from the end of those that grow, saying so."""
    for folder in (run.folder, run.checkpoints):
        remove_unfinished(folder)
    for path in (run.metrics, run.events):
        if path.exists() and (lost := cut_torn_end(path)):
            say(f"cut {lost} bytes from the end of {path.name}, which are no whole line, as after a power cut")


def cut_torn_end(path: Path) -> int:
    """Keep a text file up to the end of its last whole line before any NUL (what a file system puts where a length was
    stored, and not yet the content) or byte that is no UTF-8. Returns the bytes that are gone."""
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
