"""A command among others: its streams, and the modules that it finds."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from sslzoo.cli import terminal

ROOT = Path(terminal.__file__).parents[2]
ENVIRONMENT = {**os.environ, "PYTHONPATH": str(ROOT)}


def begin(*words, **more) -> subprocess.Popen:
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "env": ENVIRONMENT}
    return subprocess.Popen([sys.executable, "-m", "sslzoo", *words], **{**pipes, **more})


def test_a_reader_that_goes_away_is_no_failure():
    ours, theirs = os.pipe()
    child = begin("list", stdout=theirs)
    os.close(ours)
    os.close(theirs)
    assert child.communicate(timeout=60)[1] == b""
    assert child.returncode == 128 + signal.SIGPIPE


@pytest.mark.parametrize("messages", ["closed", pytest.param("no reader", marks=pytest.mark.slow), "full"])
def test_messages_that_go_nowhere_stop_no_training(tmp_path, messages):
    ours, unread = os.pipe()
    os.close(ours)
    full = os.open("/dev/full", os.O_WRONLY)
    child = begin(
        *("pretrain", "--config-dir", str(ROOT / "tests" / "tiny"), "name=a", "trainer.max_steps=1"),
        *("objective=rotation", "data=tiny_image", "encoder=tiny_resnet"),
        cwd=tmp_path,
        stderr={"closed": None, "no reader": unread, "full": full}[messages],
        preexec_fn=(lambda: os.close(2)) if messages == "closed" else None,
    )
    os.close(unread)
    os.close(full)
    out, _ = child.communicate(timeout=120)
    assert child.returncode == 0 and b"wrote runs/a" in out and (tmp_path / "runs" / "a" / "DONE").exists()


def test_a_closed_stream_leaves_its_number_to_no_file(tmp_path):
    """Else what is written to stderr would be in the next file that is opened."""
    code = f"""
import os
from sslzoo.cli.terminal import streams
with streams(), open({str(tmp_path / "file")!r}, "w") as file:
    os.write(2, b"a message")
    assert file.fileno() > 2, file.fileno()
"""
    closed = {"env": ENVIRONMENT, "preexec_fn": lambda: os.closerange(0, 3)}
    subprocess.run([sys.executable, "-c", code], check=True, **closed)
    assert (tmp_path / "file").read_bytes() == b""


@pytest.mark.parametrize("encoding", ["ascii", "latin-1"])
def test_a_terminal_that_lacks_letters(encoding):
    child = begin(env={**ENVIRONMENT, "PYTHONIOENCODING": encoding})
    out, err = child.communicate(timeout=60)
    assert b"[key=value \\u2026]" in out and err == b""  # the usage, in escapes


def test_modules_beside_the_runs_are_not_the_standard_library(tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    for folder in (tmp_path, mine):
        for name in ("random", "tokenize", "argparse", "copy", "yaml"):
            (folder / f"{name}.py").write_text("raise SystemExit('not the library')\n", encoding="utf-8")
    child = begin("pretrain", "--config-dir", "mine", "--cfg", "job", cwd=tmp_path)
    out, err = child.communicate(timeout=60)
    assert (child.returncode, err) == (0, b"") and b"max_steps: 1000" in out


def test_own_modules_are_found_last_by_children_too(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [str(tmp_path), str(ROOT), "/elsewhere"])
    monkeypatch.delenv("PYTHONSAFEPATH", raising=False)
    monkeypatch.setenv("PYTHONPATH", "/before")
    terminal.modules_last([tmp_path / "mine"])
    assert sys.path == [str(ROOT), "/elsewhere", str(tmp_path / "mine"), str(tmp_path)]
    assert os.environ["PYTHONSAFEPATH"] == "1" and os.environ["PYTHONPATH"] == "/before"
    sys.path[:] = ["/elsewhere"]  # run from the folder that holds sslzoo
    terminal.modules_last([])
    assert os.environ["PYTHONPATH"] == os.pathsep.join([str(ROOT), "/before"])


@pytest.fixture
def handlers():
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_signal_unwinds_and_an_ignored_one_stays_ignored(handlers):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    terminal.end_on_signals()
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    with pytest.raises(SystemExit) as stop:
        signal.raise_signal(signal.SIGTERM)
    assert stop.value.code == 128 + signal.SIGTERM
