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
        "__MACOSX/b/2.wav",
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


def test_a_link_to_a_parent_is_not_followed(root):
    (root / "a" / "deep" / "loop").symlink_to(root)
    (root / "b" / "up").symlink_to(root.parent)
    for _ in range(2):
        found = tree.look(root, (".wav",))
        assert found.names() == ["a.wav", "a/1.WAV", "a/deep/4.wav", "b/2.wav"]
        assert found.notes() == [
            f"{root}: 2 links lead to what is in the set already, such as a/deep/loop: it is read once"
        ]


def test_each_real_path_is_followed_once(root):
    """A folder and a file by its own name, not by a link's that comes before it; others from outside."""
    store = root.parent / "store"
    for name in ("c/5.wav", "6.wav"):
        (store / name).parent.mkdir(parents=True, exist_ok=True)
        (store / name).touch()
    (root / "0").symlink_to(root / "b")
    (root / "0.wav").symlink_to(root / "a" / "1.WAV")
    (root / "x").symlink_to(store)
    (root / "y").symlink_to(store / "c")
    (root / "a" / "7.wav").symlink_to(store / "6.wav")
    (root / "a" / "8.wav").symlink_to("nothing.wav")
    names = ["a.wav", "a/1.WAV", "a/8.wav", "a/deep/4.wav", "b/2.wav", "x/6.wav", "x/c/5.wav"]
    for _ in range(2):
        found = tree.look(root, (".wav",))
        assert found.names() == names and "4 links" in found.notes()[0]
        old(root)


def test_a_link_is_followed_once_what_it_led_to_is_gone_by_its_other_name(root, monkeypatch):
    store = root.parent / "store"
    store.mkdir()
    (store / "5.wav").touch()
    (root / "a" / "one").symlink_to(store)
    (root / "b" / "two").symlink_to(store)
    old(root)
    old(store)
    assert "a/one/5.wav" in tree.walk(root, (".wav",))
    seen = listed(monkeypatch)
    assert "a/one/5.wav" in tree.walk(root, (".wav",)) and not seen
    (root / "a" / "one").unlink()
    assert "b/two/5.wav" in tree.walk(root, (".wav",))
