"""A run's folder: the layout, and writing files atomically.

runs/<name>/
    config.yaml            the composed config
    overrides.yaml         the overrides as typed by the user
    metrics.csv            one row per logged step
    events.jsonl           warnings (collapse), one JSON object per line
    items.json             how many training items it was begun on, and hashes of their names and lengths
    heartbeat.json         how far it is, while it is trained
    visualization.pt       the objective's inputs and outputs on one batch (in older runs: show.pt)
    trace.json             a profile of a few steps, with trainer.profile=true
    checkpoints/step=00000100.ckpt, .sha256; of a sharded run a folder (see `train.sharded_checkpoint`)
    encoder.safetensors, encoder.json    the trained encoder, and the config to rebuild it
    objective.safetensors, objective.json    the same for the objective: its heads, its teacher
    imported.json          for an encoder of another library: the source, and the parts that were not imported
    probe/<task>.json, analysis/<kind>.json    results of probes and analyses
    adapted/<task>-<method>/             a run's folder for the fine-tuned encoder and its head
        adapted.safetensors, adapted.json    the trained tensors of both, and the names of the classes
        result.json        the scores
    summary.json           steps, minutes, peak memory, machine
    FAILED                 why its command failed, until it is run again
    DONE                   written last, marks a finished run
"""

import fcntl
import hashlib
import json
import os
import platform
import re
import secrets
import stat
import subprocess
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from sslzoo.disk import UNFINISHED, move_into_place
from sslzoo.errors import ConfigError, Stopped, UserError, one_line_error


@dataclass(frozen=True)
class Run:
    """Paths of one run's folder."""

    folder: Path

    @property
    def name(self) -> str:
        return self.folder.name

    @property
    def config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def overrides(self) -> Path:
        return self.folder / "overrides.yaml"

    @property
    def failure(self) -> Path:
        return self.folder / "FAILED"

    @property
    def metrics(self) -> Path:
        return self.folder / "metrics.csv"

    @property
    def events(self) -> Path:
        return self.folder / "events.jsonl"

    @property
    def heartbeat(self) -> Path:
        return self.folder / "heartbeat.json"

    @property
    def trace(self) -> Path:
        return self.folder / "trace.json"

    @property
    def visualization(self) -> Path:
        path, before = self.folder / "visualization.pt", self.folder / "show.pt"  # its former name
        return before if before.exists() and not path.exists() else path

    @property
    def checkpoints(self) -> Path:
        return self.folder / "checkpoints"

    @property
    def weights(self) -> Path:
        return self.folder / "encoder.safetensors"

    @property
    def encoder(self) -> Path:
        return self.folder / "encoder.json"

    @property
    def objective_weights(self) -> Path:
        return self.folder / "objective.safetensors"

    @property
    def objective(self) -> Path:
        return self.folder / "objective.json"

    @property
    def adapted_weights(self) -> Path:
        return self.folder / "adapted.safetensors"

    @property
    def adapted(self) -> Path:
        return self.folder / "adapted.json"

    @property
    def result(self) -> Path:
        return self.folder / "result.json"

    @property
    def probes(self) -> Path:
        return self.folder / "probe"

    @property
    def analyses(self) -> Path:
        return self.folder / "analysis"

    @property
    def items(self) -> Path:
        return self.folder / "items.json"

    @property
    def summary(self) -> Path:
        return self.folder / "summary.json"

    @property
    def done(self) -> bool:
        return (self.folder / "DONE").exists()

    def check_finished(self) -> None:
        """Raise UserError if the run has no trained encoder yet."""
        if not self.encoder.exists():
            raise UserError(f"{self.folder} has no finished encoder yet — finish it: run its `sslzoo pretrain` again")

    def finish(self) -> None:
        write_atomic(self.folder / "DONE", Path.touch)

    def forget(self) -> None:
        """Remove the config if no step was made, so that the corrected command can use the same name."""
        if not (self.done or self.metrics.exists() or self.checkpoints.exists()):
            for path in (self.config, self.overrides, self.failure):
                path.unlink(missing_ok=True)
            if self.folder.is_dir() and not any(self.folder.iterdir()):
                self.folder.rmdir()

    @contextmanager
    def attempt(self, overrides: Collection[str] = ()) -> Iterator[None]:
        """A context around training: stores the overrides of the first attempt and, on failure, the reason."""
        try:
            if overrides and not self.overrides.exists():
                text = yaml.safe_dump(list(overrides), sort_keys=False, allow_unicode=True)
                write_atomic(self.overrides, lambda path: path.write_text(text, encoding="utf-8"))
            self.failure.unlink(missing_ok=True)
            yield
        except BaseException as error:
            self.forget()
            if isinstance(error, Exception) and not isinstance(error, Stopped) and self.config.exists():
                with suppress(OSError):
                    self.failure.write_text(one_line_error(error) + "\n", encoding="utf-8", errors="replace")
            raise

    @staticmethod
    def find(name: str | Path, root: Path = Path("runs")) -> "Run":
        """Find a run by its folder, its name under `root`, or a unique start of its name."""
        name = str(name)
        if not name.strip():
            raise UserError("the run's name is blank: give a run's folder, its name, or the start of its name")
        for folder in (Path(name), root / name):
            if (folder / "config.yaml").exists():
                return Run(folder)
        found = sorted(p.parent for p in root.glob("*/config.yaml") if p.parent.name.startswith(str(name)))
        if len(found) == 1:
            return Run(found[0])
        if found:
            raise UserError(f"'{name}' is the start of {len(found)} runs: {', '.join(p.name for p in found[:5])}")
        if Path(name).is_dir():
            raise UserError(f"{name} is a folder, but no run: it has no config.yaml")
        some = ", ".join(sorted(p.parent.name for p in root.glob("*/config.yaml"))[:5]) or "none"
        raise UserError(f"no run '{name}' — the runs in {root}/ are: {some}")


def checked_name(name: object) -> str:
    """The name of a new folder as a string. Raises ConfigError for names that shells, file systems or commands cannot
    handle."""
    text = str(name)
    for part in text.split("/"):
        bad = not part.strip() or part != part.strip() or part[0] in "-." or part[-1] == "."
        if bad or not part.isprintable() or "\\" in part or len(part.encode("utf-8", "surrogateescape")) > 200:
            raise ConfigError(
                f"name={text!r} cannot name a folder: it may not be blank or longer than 200 bytes, begin with '-' or "
                "'.', end with '.', lead elsewhere ('..', '/…'), nor have blanks at its ends or control characters"
            )
    return text


def sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_atomic(path: Path, write: Callable[[Path], object]) -> None:
    """Let `write` fill a temporary file beside `path`, then rename it to `path`. Its mode follows the user's umask."""
    path, beside = Path(path), None
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        made = path.with_name(f".{path.name}.{secrets.token_hex(4)}{UNFINISHED}")
        held = os.open(made, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
        beside = made
        try:
            with suppress(OSError):  # a file system without locks
                fcntl.flock(held, fcntl.LOCK_EX)  # marks it as being written: see `remove_unfinished`
            mode = stat.S_IMODE(os.fstat(held).st_mode)
            write(beside)
            beside.chmod(mode)  # some `write` functions replace the file
            move_into_place(beside, path)
        finally:
            os.close(held)
    except (OSError, RuntimeError) as error:
        # torch reports a full disk as a RuntimeError, by the place that it did not reach
        why = "no room is left on the disk" if "unexpected pos" in str(error) else error
        raise UserError(f"cannot write {path}: {why} — what was there before is still there") from error
    finally:
        if beside is not None:
            beside.unlink(missing_ok=True)


def write_json(path: Path, value: Any) -> None:
    """Write plain values as JSON, a list of numbers on one line; NaN and infinities become null."""
    value = json.loads(json.dumps(value), parse_constant=lambda _: None)
    text = json.dumps(value, indent=1)
    text = re.sub(r'\[\n[^][{}"]*\]', lambda found: f"[{' '.join(found[0][1:-1].split())}]", text)
    write_atomic(path, lambda p: p.write_text(text + "\n", encoding="utf-8"))


def write_signed(path: Path, write: Callable[[Path], object]) -> None:
    """`write_atomic`, with the file's SHA-256 in `<path>.sha256`."""

    def fill(beside: Path) -> None:
        write(beside)
        sign(path, beside)  # before the file is renamed: a full disk or a kill leaves no file without a signature

    write_atomic(path, fill)


def sign(path: Path, beside: Path | None = None) -> None:
    """Write a file's SHA-256 to `<path>.sha256`. beside: where its content is, by default in its place."""
    said = f"{sha256(beside or path)}  {Path(path).name}\n"
    write_atomic(Path(f"{path}.sha256"), lambda p: p.write_text(said, encoding="utf-8"))


def check_signed(path: Path, mend: str = "delete both to go on without") -> None:
    """Raise UserError if a file does not match its SHA-256: a flipped byte would load silently. mend: the advice."""
    path, signature = Path(path), Path(f"{path}.sha256")
    if not path.exists():
        raise UserError(f"there is no {path}")
    if not signature.exists():
        raise UserError(
            f"{path} has no {signature.name} beside it, so it cannot be trusted — was it copied without it?"
        )
    if sha256(path) != signature.read_text(encoding="utf-8").split()[0]:
        raise UserError(f"{path} is damaged: its SHA-256 is not that of {signature.name} — {mend}")


def machine() -> dict:
    """The machine that a result was measured on."""
    return {
        "system": platform.system(),
        "arch": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
    }


def commit() -> str | None:
    """sslzoo's git commit, with "-dirty" if tracked source or config files are modified; None outside git."""

    def git(*words: str) -> str | None:
        try:
            done = subprocess.run(
                ["git", "-C", Path(__file__).parent, *words], capture_output=True, text=True, check=False
            )
        except OSError:  # git is not installed
            return None
        return done.stdout.strip() if done.returncode == 0 else None

    if git("ls-files", "--error-unmatch", Path(__file__).name) is None:
        return None  # installed in an environment inside another repository
    changed = git("status", "--porcelain", "--untracked-files=no", ".", "../conf")
    return f"{git('rev-parse', '--short=12', 'HEAD')}{'-dirty' if changed else ''}"
