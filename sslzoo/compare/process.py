"""Running `sslzoo` commands in subprocesses: checked beforehand, with their progress shown, terminated with us."""

import codecs
import copy
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
from collections.abc import Callable, Sequence
from contextlib import contextmanager
from pathlib import Path

from sslzoo.config import CONF, fingerprint, protocol
from sslzoo.errors import ConfigError, UserError
from sslzoo.hints import one_line
from sslzoo.recipes import settled
from sslzoo.run import Run
from sslzoo.schema import settings

_ESCAPES = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]")  # colours and cursor moves
_PLAIN = re.compile(r"[A-Za-z0-9_./:-]+")
_NUMBER = re.compile(r"[+-]?([\d._]+(e[+-]?[\d_]+)?|inf|nan)|true|false|null", re.IGNORECASE)


def override(key: str, value) -> str:
    """key=value in Hydra's grammar, quoted if the value has special characters or is a string that Hydra would parse as
    another type: 7, 1e3, true."""
    text = str(value)
    plain = _PLAIN.fullmatch(text) and not (isinstance(value, str | Path) and _NUMBER.fullmatch(text))
    return f"{key}={text if plain else quoted(text)}"


def quoted(text: str) -> str:
    """A text in Hydra's quotes, in which a backslash is an escape only before a quote."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text) + "'"


def task_words(name: str, more: list[str]) -> list[str]:
    """The overrides of `sslzoo probe` for a comparison's task `name`: the task of conf with this name, or the one
    chosen by the overrides `more`, renamed."""
    if not more:
        return [override("task", name)]
    chosen = any(word.startswith("task=") for word in more)
    return [*([] if chosen else [override("task", name)]), override("task.name", name), *more]


def keys_in(overrides: list[str]) -> list[str]:
    """The dotted keys that overrides set."""
    return [word.lstrip("+~").partition("=")[0] for word in overrides]


def last_error_line(text: str, code: int) -> str:
    """The error message of a command. text: the end of its stderr. code: its exit code."""
    lines = [line.strip() for line in re.split(r"[\r\n]+", _ESCAPES.sub("", text)) if line.strip()]
    for line in reversed(lines):
        if line.startswith("sslzoo: "):
            return line.removeprefix("sslzoo: ")
    if code < 0:
        why = " (most often: out of memory)" if code == -signal.SIGKILL else ""
        return f"it was ended by signal {-code}{why}"
    return lines[-1] if lines else f"it ended with code {code} and said nothing"


@contextmanager
def signals_as_interrupt():
    """A context in which SIGTERM and SIGHUP raise KeyboardInterrupt, so that children are ended as by Ctrl-C."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def interrupt(number, _):
        raise KeyboardInterrupt

    before = {number: signal.signal(number, interrupt) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


class Command:
    """Runs `sslzoo` commands with the user's config folders. threads: CPU threads per command, if several run in
    parallel; they then print lines, not a progress bar. words: what the command line makes of a command's overrides
    before they are composed. launcher: Hydra's words that choose and set a launcher, by which each command then goes
    out as a job, in `queue`, a folder for the launcher's files; none to run commands on this machine."""

    program = (sys.executable, "-m", "sslzoo")

    def __init__(
        self,
        config_dirs: Sequence[Path] = (),
        words: Callable[[str, list[str]], list[str]] = lambda _, x: x,
        launcher: Sequence[str] = (),
    ):
        self.config_dirs, self.words, self.launcher = [Path(folder) for folder in config_dirs], words, list(launcher)
        self.queue: Path | None = None
        self.kept_open: tuple[int, ...] = ()  # file descriptors that children inherit, such as a lock
        self.threads: int | None = None
        self.children: set[subprocess.Popen] = set()  # running ones
        self.ended = False  # start no more
        self.turn = threading.Lock()  # held while starting one or ending all
        self.checked: dict[Path, dict] = {}  # folder -> config of a checked run
        self.probes: dict[tuple[str, ...], dict] = {}  # (task, its overrides) -> config of `probe`, of any run

    def compose(self, name: str, overrides: list[str]) -> dict:
        """The plain config that a command would get. Raises ConfigError."""
        from hydra import compose, initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        overrides = self.words(name, overrides)
        overrides = settled(overrides, self.config_dirs) if name == "pretrain" else overrides
        try:
            if GlobalHydra.instance().is_initialized():  # within a command, with its config folders
                return settings(name, compose(name, overrides), self.config_dirs)
            folders = ",".join(f"'file://{folder.resolve()}'" for folder in self.config_dirs)
            with initialize_config_dir(str(CONF), version_base="1.3"):
                overrides = [*([f"hydra.searchpath=[{folders}]"] if folders else []), *overrides]
                return settings(name, compose(name, overrides), self.config_dirs)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(one_line(error, self.config_dirs, name, overrides)) from error

    def check(self, run: Run, overrides: list[str], tasks: dict[str, list[str]], labels=None) -> None:
        """Raise, before anything runs, the errors that `sslzoo pretrain`, `sslzoo probe` or `sslzoo label` would.

        overrides: of `pretrain`. tasks: overrides of `probe`, by task. labels: a `plan.Labels`, the targets to be
        made; if from a run, then one that was checked before.
        """
        from sslzoo import build
        from sslzoo.features.compatible import agreeing_task
        from sslzoo.initial import pinned, with_codes

        config = self.compose("pretrain", overrides)
        root = Path(str(config["root"]))
        config["init"] = pinned(config["init"], root, config["objective"])
        config["encoder"] = with_codes(config["encoder"], root, self.checked)
        del config["root"], config["name"], config["metric"]
        job = build.build(config, self._planned_targets(labels) if labels else None)
        self.checked[run.folder] = config
        if run.config.exists():
            build.write_config(run, config)
        for name, more in tasks.items():
            config = self._probe(run, name, more)
            settings = protocol(config, {}, ["task.name"] if more else [])
            for node, setting in settings.items():
                build.check(setting, node)
            path = run.probes / f"{name}.json"
            if _protocol(path) not in (None, fingerprint(settings)):
                raise ConfigError(
                    f"{path} was measured with other settings of task {name} or of the probe — "
                    "choose another name=… or delete it"
                )
            build.make(config["probe"])
            if settings["task"].get("name") != name:
                raise ConfigError(
                    f"task {name} is called '{settings['task'].get('name')}' inside: a task has the name of its file"
                )
            task = build.make(agreeing_task(settings["task"], job.encoder, job.data, config, keys_in(more))[0])
            task.check(job.encoder, job.data)

    def _probe(self, run: Run, name: str, more: list[str]) -> dict:
        """The config of `probe` of a run: that of the task, which is composed once for all runs."""
        key = (name, *more)
        if key not in self.probes:
            self.probes[key] = self.compose("probe", [*task_words(name, more), override("run", run.folder)])
        return {**copy.deepcopy(self.probes[key]), "run": str(run.folder)}

    def check_adapt(self, run: Run, overrides: list[str]) -> None:
        """Raise, before anything runs, the errors of `sslzoo adapt` on a run that was checked before."""
        from sslzoo.adapt.job import check_composed

        check_composed(self.compose("adapt", overrides), self.checked[run.folder]["encoder"])

    def _planned_targets(self, labels):
        """The planned targets. Raises ConfigError if they cannot be made or the folder has other labels."""
        from sslzoo import build
        from sslzoo.data.targets import PlannedTargets, Targets
        from sslzoo.label.command import planned_targets

        config, of = self.compose("label", labels.overrides), self.checked[labels.of.folder] if labels.of else None
        expected = (
            planned_targets(config, build.make(of["encoder"]), build.make(of["data"]))
            if of
            else planned_targets(config)
        )
        if labels.done:
            existing = Targets(labels.folder)
            for key, value in expected.items():
                if getattr(existing, key) != value:
                    raise ConfigError(
                        f"{labels.folder} holds other labels ({key}: {getattr(existing, key)} -> {value}) — "
                        "choose another name=… or delete it"
                    )
        return PlannedTargets(labels.folder, **expected)

    def __call__(self, *arguments: str) -> None:
        """Run `sslzoo <arguments>`, showing its progress. Raises UserError with its error message if it fails,
        ConfigError for exit code 2. An interrupt terminates the child and waits for its checkpoint."""
        with self.turn:
            if self.ended:
                raise UserError("not begun: the comparison was stopped")
            child, ours = self._begin(arguments)
            self.children.add(child)
        output = ""
        try:
            output = _relay(ours)
            child.wait()
        except BaseException:
            child.terminate()
            try:
                _relay(ours)
                child.wait()
            finally:
                child.kill()
            raise
        finally:
            self.children.discard(child)
            os.close(ours)
        if child.returncode:
            kind = ConfigError if child.returncode == 2 else UserError
            raise kind(last_error_line(output, child.returncode))

    def _begin(self, arguments: tuple[str, ...]) -> tuple[subprocess.Popen, int]:
        """(the started process, the file descriptor to read its stderr from)."""
        terminal = sys.stderr.isatty() and self.threads is None and not self.launcher
        ours, theirs = os.openpty() if terminal else os.pipe()
        if terminal:  # so that its progress bar is drawn, with our width
            size = fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
        folders = [word for folder in self.config_dirs for word in ("--config-dir", str(folder))]
        child = subprocess.Popen(
            [*self.program, *self.as_job(arguments), *folders],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # its "next:" advice does not apply here
            stderr=theirs,
            start_new_session=True,  # Ctrl-C reaches only us; we terminate the child
            pass_fds=self.kept_open,
            env=os.environ if self.threads is None else {**os.environ, "OMP_NUM_THREADS": str(self.threads)},
        )
        os.close(theirs)
        return child, ours

    def as_job(self, arguments: tuple[str, ...]) -> list[str]:
        """A command's words, by which it goes out by the launcher, if there is one."""
        if not self.launcher:
            return list(arguments)
        multirun = [] if "--multirun" in arguments else ["--multirun"]
        return [*arguments, *multirun, *self.launcher, override("hydra.sweep.dir", self.queue)]

    def end(self) -> None:
        """Terminate all running commands, of any thread, and start no more."""
        with self.turn:
            self.ended = True
            for child in list(self.children):
                child.terminate()


def _protocol(path: Path) -> str | None:
    """The fingerprint of a probe's settings; None if there is no result or it has none."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["pretrained"].get("protocol")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _relay(source: int) -> str:
    """Copy the child's output to stderr until it ends; return its last 8192 characters."""
    decoder, output = codecs.getincrementaldecoder("utf-8")("replace"), ""
    while True:
        try:
            block = os.read(source, 4096)
        except OSError:  # a closed pseudo-terminal
            block = b""
        if not block:
            return output
        text = decoder.decode(block)
        sys.stderr.write(text)
        sys.stderr.flush()
        output = (output + text)[-8192:]
