"""`sslzoo` commands in processes of their own: checked beforehand, watched while they run, ended with us."""

import codecs
import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import termios
import threading
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
    """key=value in Hydra's grammar, quoted where the value has characters that mean something to it, or would be
    another value than its text: 7, 1e3, true."""
    text = str(value)
    plain = _PLAIN.fullmatch(text) and not (isinstance(value, str | Path) and _NUMBER.fullmatch(text))
    return f"{key}={text if plain else quoted(text)}"


def quoted(text: str) -> str:
    """A text as it stands, in Hydra's quotes, where a backslash means something before a quote only."""
    return "'" + re.sub(r"(\\*)('|\Z)", lambda found: 2 * found[1] + found[2].replace("'", "\\'"), text) + "'"


def task_words(name: str, more: list[str]) -> list[str]:
    """The overrides of `sslzoo probe` for a comparison's task: that of conf of this name, or the one that `more`
    chooses, under this name."""
    if not more:
        return [override("task", name)]
    chosen = any(word.startswith("task=") for word in more)
    return [*([] if chosen else [override("task", name)]), override("task.name", name), *more]


def keys_in(overrides: list[str]) -> list[str]:
    """The dotted keys that overrides set."""
    return [word.lstrip("+~").partition("=")[0] for word in overrides]


def last_error_line(text: str, code: int) -> str:
    """The line in which a command said why it ended, from the end of what it wrote to its stderr."""
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
    """Let a SIGTERM or a closed terminal raise KeyboardInterrupt, so that a child is ended as by Ctrl-C."""
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
    """Runs `sslzoo` commands with the user's own config folders. threads: for each, where several run beside
    each other; they then write lines where a terminal would show one bar."""

    program = (sys.executable, "-m", "sslzoo")

    def __init__(self, config_dirs: list[Path] = ()):
        self.config_dirs = [Path(folder) for folder in config_dirs]
        self.kept_open: tuple[int, ...] = ()  # file descriptors that a child keeps, such as a lock
        self.threads: int | None = None
        self.children: set[subprocess.Popen] = set()  # those that run
        self.ended = False  # no more are begun
        self.turn = threading.Lock()  # one begins, or all are ended
        self.checked: dict[Path, dict] = {}  # configs of the runs that were checked, by folder

    def compose(self, name: str, overrides: list[str]) -> dict:
        """The plain config that a command would get. Raises ConfigError in one line."""
        from hydra import compose, initialize_config_dir
        from hydra.core.global_hydra import GlobalHydra
        from hydra.errors import HydraException
        from omegaconf.errors import OmegaConfBaseException

        overrides = settled(overrides, self.config_dirs) if name == "pretrain" else overrides
        try:
            if GlobalHydra.instance().is_initialized():  # within a command, whose config folders hold
                return settings(name, compose(name, overrides), self.config_dirs)
            folders = ",".join(f"'file://{folder.resolve()}'" for folder in self.config_dirs)
            with initialize_config_dir(str(CONF), version_base="1.3"):
                overrides = [*([f"hydra.searchpath=[{folders}]"] if folders else []), *overrides]
                return settings(name, compose(name, overrides), self.config_dirs)
        except (HydraException, OmegaConfBaseException) as error:
            raise ConfigError(one_line(error, self.config_dirs, name, overrides)) from error

    def check(self, run: Run, overrides: list[str], tasks: dict[str, list[str]], labels=None) -> None:
        """Refuse, before anything runs, what `sslzoo pretrain`, `sslzoo probe` or `sslzoo label` would refuse
        of these.

        overrides: of `pretrain`. tasks: overrides of `probe`, by task. labels: a `plan.Labels`, targets that
        will have been made; if they are of a run, then of one that was checked before.
        """
        from sslzoo import build
        from sslzoo.features.compatible import agreeing_task

        config = self.compose("pretrain", overrides)
        del config["root"], config["name"], config["metric"]
        job = build.build(config, self._planned_targets(labels) if labels else None)
        self.checked[run.folder] = config
        if run.config.exists():
            build.write_config(run, config)
        for name, more in tasks.items():
            config = self.compose("probe", [*task_words(name, more), override("run", run.folder)])
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

    def _planned_targets(self, labels):
        """What targets will be. Raises ConfigError where they cannot be made, or others lie there."""
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
        """Run `sslzoo <arguments>`, showing its progress. Raises UserError with its own last line if it
        fails, ConfigError if it ended with 2; an interrupt is passed on, and waits for its checkpoint."""
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
        """A process, and what its stderr is read from."""
        terminal = sys.stderr.isatty() and self.threads is None
        ours, theirs = os.openpty() if terminal else os.pipe()
        if terminal:  # so that its progress bar is one, and as wide as ours
            size = fcntl.ioctl(sys.stderr.fileno(), termios.TIOCGWINSZ, bytes(8))
            fcntl.ioctl(theirs, termios.TIOCSWINSZ, size)
        folders = [word for folder in self.config_dirs for word in ("--config-dir", str(folder))]
        child = subprocess.Popen(
            [*self.program, *arguments, *folders],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,  # what it advises next is not what comes next here
            stderr=theirs,
            start_new_session=True,  # Ctrl-C reaches us alone, and it from us, once
            pass_fds=self.kept_open,
            env=os.environ if self.threads is None else {**os.environ, "OMP_NUM_THREADS": str(self.threads)},
        )
        os.close(theirs)
        return child, ours

    def end(self) -> None:
        """Tell every command that runs in another thread to end, as an interrupt would, and begin no other."""
        with self.turn:
            self.ended = True
            for child in list(self.children):
                child.terminate()


def _protocol(path: Path) -> str | None:
    """The fingerprint of the settings that a probe was measured with; None where there is none, or it does not say."""
    try:
        return json.loads(path.read_text(encoding="utf-8"))["pretrained"].get("protocol")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None


def _relay(source: int) -> str:
    """Pass on what comes until the other end is closed; return the end of it."""
    decoder, output = codecs.getincrementaldecoder("utf-8")("replace"), ""
    while True:
        try:
            block = os.read(source, 4096)
        except OSError:  # how a pseudo-terminal says that it is closed
            block = b""
        if not block:
            return output
        text = decoder.decode(block)
        sys.stderr.write(text)
        sys.stderr.flush()
        output = (output + text)[-8192:]
