import os
import shutil

import pytest
from given import own_cache  # noqa: F401

from sslzoo.data import tree
from sslzoo.errors import UserError


@pytest.fixture
def root(tmp_path):
    for name in (
        "b/2.wav",
        "a/1.WAV",
        "a.wav",
        "a/._1.wav",
        ".hidden/3.wav",
        "notes.txt",
        "empty/x.txt",
        "a/deep/4.wav",
    ):
        (tmp_path / "set" / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "set" / name).touch()
    return tmp_path / "set"


def old(root):
    """As if every folder had last changed an hour ago."""
    for folder, _, _ in os.walk(root):
        os.utime(folder, (1e9, 1e9))


def listed(monkeypatch) -> list[str]:
    """The names of the folders that are listed from now on."""
    seen, real = [], tree._listed
    monkeypatch.setattr(tree, "_listed", lambda path, s: (seen.append(os.path.relpath(path)), real(path, s))[1])
    return seen


def test_a_walk_is_sorted_and_leaves_out_what_is_hidden(root):
    for _ in range(2):
        assert tree.walk(root, (".wav",)) == ["a.wav", "a/1.WAV", "a/deep/4.wav", "b/2.wav"]
    with pytest.raises(UserError, match="set has no .flac .mp3 files"):
        tree.walk(root, (".flac", ".mp3"))
    with pytest.raises(UserError, match="cannot read .*nowhere"):
        tree.walk(root / "nowhere", (".wav",))


def test_only_a_folder_that_changed_is_listed_again(root, monkeypatch):
    old(root)
    monkeypatch.chdir(root)
    first = tree.look(root, (".wav",))
    seen = listed(monkeypatch)
    again = tree.look(root, (".wav",))
    assert not seen and again.version == first.version and again.names() == first.names()
    (root / "a" / "5.wav").touch()
    grown = tree.look(root, (".wav",))
    assert seen == ["a"] and grown.version != first.version
    assert grown.names() == ["a.wav", "a/1.WAV", "a/5.wav", "a/deep/4.wav", "b/2.wav"]
    old(root)
    shutil.rmtree(root / "a" / "deep")
    (root / "empty" / "new").mkdir()
    (root / "empty" / "new" / "6.wav").touch()
    assert tree.look(root, (".wav",)).names() == ["a.wav", "a/1.WAV", "a/5.wav", "b/2.wav", "empty/new/6.wav"]


def test_a_file_of_another_kind_is_no_change(root):
    old(root)
    first = tree.look(root, (".wav",)).version
    (root / "a" / "notes.txt").touch()
    assert tree.look(root, (".wav",)).version == first


def test_what_is_added_at_once_is_seen(root):
    """Within the clock's grain of the first listing a folder's time of change may stay what it was."""
    tree.look(root, (".wav",))
    before = os.stat(root / "b").st_mtime_ns
    (root / "b" / "7.wav").touch()
    os.utime(root / "b", ns=(before, before))
    assert "b/7.wav" in tree.look(root, (".wav",)).names()
