"""Files of a run: whole or not there, signed, found by name; and the commit that made them."""

import errno
import json
import os
import re
import resource
import signal
import stat
import subprocess
from contextlib import contextmanager

import pytest
import torch

from sslzoo.disk import move_into_place, remove_unfinished
from sslzoo.errors import ConfigError, UserError
from sslzoo.run import (
    Run,
    check_signed,
    checked_name,
    commit,
    sha256,
    write_atomic,
    write_json,
    write_signed,
)


@contextmanager
def small_disk(size: int):
    """No file grows past `size` bytes: the system refuses, as a full disk does, with part of it written."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_file_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "deep" / "file"
    write_atomic(path, lambda p: p.write_text("one"))
    assert path.read_text() == "one" and path.stat().st_mode & 0o777 == 0o644
    with (
        small_disk(1000),
        pytest.raises(UserError, match="cannot write .*file.*what was there before is still there"),
    ):
        write_atomic(path, lambda p: p.write_bytes(b"x" * 5000))
    assert path.read_text() == "one"
    assert [p.name for p in path.parent.iterdir()] == ["file"], "nothing is left beside it"


def test_torchs_word_for_a_full_disk_is_translated(tmp_path):
    with (
        small_disk(1000),
        pytest.raises(UserError, match="cannot write .*weights: no room is left on the disk — what was"),
    ):
        write_atomic(tmp_path / "weights", lambda p: torch.save({"x": torch.zeros(5000)}, p))
    assert not list(tmp_path.iterdir())


def test_what_is_no_fault_of_the_disk_is_not_called_one(tmp_path):
    with pytest.raises(ZeroDivisionError):
        write_atomic(tmp_path / "file", lambda p: 1 / 0)
    assert not list(tmp_path.iterdir())


def test_json_has_a_list_of_numbers_on_a_line(tmp_path):
    value = {
        "a": [1, -2.5e-7, None, True],
        "b": [[1, 2], [3, 4]],
        "c": ["[1,\n2]", "{"],
        "d": [],
        "e": {"f": [{"g": [1]}]},
    }
    write_json(tmp_path / "a.json", value)
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text) == value
    assert ' "a": [1, -2.5e-07, null, true],\n "b": [\n  [1, 2],\n  [3, 4]\n ]' in text and '"g": [1]' in text


def test_nothing_has_its_name_before_it_is_on_the_disk(tmp_path, monkeypatch):
    done = []
    fsync, replace = os.fsync, os.replace
    monkeypatch.setattr(os, "fsync", lambda held: (done.append(os.fstat(held).st_ino), fsync(held)))
    monkeypatch.setattr(os, "replace", lambda a, b: (done.append("renamed"), replace(a, b)))
    write_signed(tmp_path / "weights", lambda p: p.write_bytes(b"abc"))
    made, folder = ((tmp_path / name).stat().st_ino for name in ("weights", "."))
    assert done[-3:] == [made, "renamed", folder]
    (tmp_path / "part").mkdir()
    (tmp_path / "part" / "ids.npy").write_bytes(b"1")
    move_into_place(tmp_path / "part", tmp_path / "whole")
    whole = tmp_path / "whole"
    assert done[-4:] == [(whole / "ids.npy").stat().st_ino, whole.stat().st_ino, "renamed", folder]
    Run(whole).finish()
    assert done[-3:] == [(whole / "DONE").stat().st_ino, "renamed", whole.stat().st_ino] and Run(whole).done


def test_a_folder_that_is_a_file(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises((UserError, OSError)):
        write_json(tmp_path / "runs" / "a.json", {})


def test_signed_files_are_what_was_written(tmp_path):
    path = tmp_path / "weights"
    write_signed(path, lambda p: p.write_bytes(b"abc"))
    assert (tmp_path / "weights.sha256").read_text() == f"{sha256(path)}  weights\n"  # as sha256sum -c reads it
    assert sha256(path) == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    check_signed(path)
    write_signed(path, lambda p: p.write_bytes(b"abd"))
    check_signed(path)


def test_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match="cannot write .*file/run/config.yaml: .*Not a directory"):
        write_atomic(tmp_path / "file" / "run" / "config.yaml", lambda p: p.touch())


def test_damaged_unsigned_and_missing(tmp_path):
    path = tmp_path / "weights"
    with pytest.raises(UserError, match="there is no"):
        check_signed(path)
    write_signed(path, lambda p: p.write_bytes(bytes(1000)))
    content = bytearray(path.read_bytes())
    content[517] ^= 1
    path.write_bytes(content)
    with pytest.raises(UserError, match="damaged.*delete both"):
        check_signed(path)
    (tmp_path / "weights.sha256").unlink()
    with pytest.raises(UserError, match="no weights.sha256 beside it"):
        check_signed(path)


@pytest.mark.parametrize("fails_at", [1, 2], ids=["signature", "file"])
def test_a_disk_that_fills_in_between_leaves_no_file_without_a_signature(fails_at, tmp_path, monkeypatch):
    import os

    replace, calls = os.replace, []

    def full(a, b):
        calls.append(b)
        if len(calls) == fails_at:
            raise OSError(errno.ENOSPC, "No space left on device")
        replace(a, b)

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(UserError, match="No space left"):
        write_signed(tmp_path / "new", lambda p: p.write_bytes(b"abc"))
    assert not (tmp_path / "new").exists()
    assert not [p for p in tmp_path.iterdir() if p.name.startswith(".")]


@pytest.mark.parametrize(("mask", "mode"), [(0o022, 0o644), (0o002, 0o664), (0o077, 0o600)])
def test_a_file_is_as_open_as_the_user_wants(mask, mode, tmp_path):
    before = os.umask(mask)
    try:
        write_json(tmp_path / "a.json", {"x": 1})
        write_signed(tmp_path / "b", lambda p: p.write_bytes(b"b"))
    finally:
        os.umask(before)
    assert {stat.S_IMODE(path.stat().st_mode) for path in tmp_path.iterdir()} == {mode}


def test_what_a_killed_process_had_begun_is_removed_and_what_is_being_written_stays(tmp_path):
    """A forked child is killed in the middle of a save."""
    if (child := os.fork()) == 0:
        write_atomic(tmp_path / "left", lambda p: os.kill(os.getpid(), signal.SIGKILL))
    os.waitpid(child, 0)
    assert len(list(tmp_path.iterdir())) == 1
    counted = []

    def write(beside):
        beside.write_bytes(b"whole")
        counted.append(remove_unfinished(tmp_path))

    write_atomic(tmp_path / "new", write)
    assert counted == [1]
    assert [p.name for p in tmp_path.iterdir()] == ["new"]


def test_what_older_versions_had_begun_is_removed_once_it_is_old(tmp_path):
    kept = [".lock", ".lock.holder", ".gitignore", "metrics.csv", ".texts-0.partial", ".tokenizer-0.json.lock"]
    gone = [".step=00000100.ckpt.k3_x9abz", ".metrics.csv.abcdefgh", ".encoder.safetensors.sha256.00000000"]
    for name in (*kept, *gone):
        (tmp_path / name).touch()
    assert remove_unfinished(tmp_path) == 0, "it may be being written"
    for name in (*kept, *gone):
        os.utime(tmp_path / name, (0, 0))
    assert remove_unfinished(tmp_path) == 3
    assert sorted(path.name for path in tmp_path.iterdir()) == sorted(kept)


@pytest.mark.parametrize("name", ["", " ", ".", "..", "/", "/abs", "a/../b", "-x", "a.", " a", "a\nb", ".x", "a" * 201])
def test_names_that_no_folder_can_have(name):
    with pytest.raises(ConfigError, match="cannot name a folder"):
        checked_name(name)


def test_names_that_look_like_something_else(tmp_path):
    assert [checked_name(name) for name in ("007", 5, "é ü", "a,b=c", "compared/a-s0")][:2] == ["007", "5"]
    write_atomic(tmp_path / "5" / "config.yaml", lambda p: p.touch())
    assert Run.find(5, tmp_path).name == "5"
    with pytest.raises(UserError, match="the run's name is blank"):
        Run.find(" ", tmp_path)


def test_finding_a_run(tmp_path):
    for name in ("simclr-a-1", "simclr-b-2", "bert-c-3"):
        write_atomic(tmp_path / name / "config.yaml", lambda p: p.touch())
    assert Run.find("bert", tmp_path).name == "bert-c-3"
    assert Run.find("simclr-a-1", tmp_path).folder == tmp_path / "simclr-a-1"
    assert Run.find(tmp_path / "simclr-b-2").name == "simclr-b-2"
    with pytest.raises(UserError, match="'simclr' is the start of 2 runs: simclr-a-1, simclr-b-2"):
        Run.find("simclr", tmp_path)
    with pytest.raises(UserError, match="no run 'gpt' — the runs in .* are: bert-c-3"):
        Run.find("gpt", tmp_path)
    with pytest.raises(UserError, match="are: none"):
        Run.find("gpt", tmp_path / "nowhere")
    with pytest.raises(UserError, match="is a folder, but no run: it has no config.yaml"):
        Run.find(str(tmp_path), tmp_path)
    for odd in ("/no/such/run", "[", "../*", ""):
        with pytest.raises(UserError):
            Run.find(odd, tmp_path / "nowhere")


def test_done_is_a_marker(tmp_path):
    run = Run(tmp_path)
    assert not run.done
    run.finish()
    assert run.done


def test_the_commit_is_that_of_this_source(tmp_path, monkeypatch):
    made = tmp_path / "sslzoo" / "run.py"
    made.parent.mkdir()
    made.write_text("")
    monkeypatch.setattr("sslzoo.run.__file__", str(made))
    assert commit() is None

    def git(*words):
        who = ["-c", "user.name=t", "-c", "user.email=t@t"]
        subprocess.run(["git", *who, "-C", tmp_path, *words], check=True, capture_output=True)

    git("init")
    assert commit() is None  # in a repository, but not of it
    (tmp_path / "conf").mkdir()
    for other in ("results.json", "conf/a.yaml"):
        (tmp_path / other).write_text("{}")
    git("add", "sslzoo", "results.json", "conf")
    git("commit", "-m", "x")
    assert re.fullmatch(r"[0-9a-f]{12}", commit())
    (tmp_path / "results.json").write_text("a result that was stored")
    assert re.fullmatch(r"[0-9a-f]{12}", commit())
    (tmp_path / "conf" / "a.yaml").write_text("changed")
    assert commit().endswith("-dirty")
    git("checkout", "conf")
    made.write_text("changed")
    assert commit().endswith("-dirty")


def test_json_has_null_for_what_is_not_finite(tmp_path):
    write_json(tmp_path / "a.json", {"a": float("nan"), "b": [1.5, (float("inf"), -float("inf"))], "c": "NaN"})
    text = (tmp_path / "a.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"a": None, "b": [1.5, [None, None]], "c": "NaN"}
