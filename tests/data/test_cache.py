import multiprocessing
import time

import pytest
from given import own_cache  # noqa: F401

from sslzoo.data import cache
from sslzoo.errors import UserError
from sslzoo.progress import track


def test_made_once(own_cache):  # noqa: F811
    calls = []

    def make(path):
        calls.append(path)
        path.write_text("whole")

    for _ in range(2):
        assert cache.cached_file("thing.txt", make).read_text() == "whole"
    assert len(calls) == 1 and cache.folder() == own_cache


def test_what_failed_is_not_there(own_cache):  # noqa: F811
    def fail(path):
        path.write_text("half")
        raise UserError("no more")

    with pytest.raises(UserError, match="no more"):
        cache.cached_file("thing.txt", fail)
    assert not (own_cache / "thing.txt").exists()
    assert cache.cached_file("thing.txt", lambda path: path.write_text("whole")).read_text() == "whole"


def _slowly(marks):
    def make(path):
        marks.put(1)
        time.sleep(0.3)
        path.write_text("whole")

    assert cache.cached_file("slow.txt", make).read_text() == "whole"


def test_two_processes_make_it_once(own_cache):  # noqa: F811
    context = multiprocessing.get_context("fork")
    marks = context.Queue()
    both = [context.Process(target=_slowly, args=(marks,)) for _ in range(2)]
    for process in both:
        process.start()
    for process in both:
        process.join()
    assert [process.exitcode for process in both] == [0, 0]
    marks.get(timeout=1)
    assert marks.empty()


def test_a_cache_that_cannot_be_made_is_named(tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "file" / "inside"))
    with pytest.raises(UserError, match="set SSLZOO_CACHE to a folder of yours"):
        cache.folder()


def test_progress_gives_what_it_is_given(monkeypatch, capsys):
    assert list(track(range(5), "counting", 5)) == list(range(5))
    assert capsys.readouterr().err == ""
    monkeypatch.setattr("sslzoo.progress.PATIENCE", -1.0)
    assert list(track(iter("abc"), "spelling", 3)) == list("abc")
    assert "spelling" in capsys.readouterr().err
