"""Who may write in a folder, while who lives."""

import os
import signal
import socket
from contextlib import contextmanager

import pytest

from sslzoo.errors import UserError
from sslzoo.lock import HELD, holder, sole_writer


@contextmanager
def another(folder, **more):
    """A process that holds a folder until it is killed, without a word to anyone; gives its id."""
    ready, told = os.pipe()
    if (child := os.fork()) == 0:
        try:
            with sole_writer(folder, **more):
                os.write(told, b"x")
                signal.pause()
        finally:
            os._exit(1)
    assert os.read(ready, 1) == b"x"
    try:
        yield child
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_a_second_process_is_refused_and_a_killed_one_leaves_nothing_locked(tmp_path):
    run = tmp_path / "run"
    with another(run) as child:
        words = f"pid {child} on {socket.gethostname()}"
        assert holder(run) == words
        refused = pytest.raises(UserError, match=rf"run is being written by another process \({words}\): wait for it")
        with refused, sole_writer(run):
            raise AssertionError
        with sole_writer(tmp_path / "other"):
            pass
    assert holder(run) is None
    with sole_writer(run):
        (run / "written").touch()
    assert [path.name for path in run.iterdir()] == ["written"]  # without what was killed
    assert not (tmp_path / "other").exists()  # nothing was written to it


def test_other_ranks_and_what_is_begun_within_are_let_through(tmp_path, monkeypatch):
    with another(tmp_path):
        with sole_writer(tmp_path, first=False):
            pass
        monkeypatch.setenv(HELD, f"/elsewhere\n{(tmp_path / '.lock').resolve()}")
        with sole_writer(tmp_path):
            pass
    monkeypatch.delenv(HELD)
    with sole_writer(tmp_path):
        assert os.environ[HELD] == str((tmp_path / ".lock").resolve())
    assert not os.environ.get(HELD)


def test_files_of_one_folder_are_written_beside_each_other(tmp_path):
    with another(tmp_path, name="digit"):
        with sole_writer(tmp_path, name="word"):
            pass
        with pytest.raises(UserError, match="digit is being written"), sole_writer(tmp_path, name="digit"):
            raise AssertionError
    assert tmp_path.exists()  # it was there before


def test_a_file_system_without_locks_and_a_folder_that_cannot_be(tmp_path, monkeypatch):
    monkeypatch.setattr("sslzoo.lock.FileLock.acquire", lambda *_, **__: (_ for _ in ()).throw(OSError(37, "No locks")))
    with sole_writer(tmp_path / "run"):
        pass
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot make .*file/run"), sole_writer(tmp_path / "file" / "run"):
        raise AssertionError
