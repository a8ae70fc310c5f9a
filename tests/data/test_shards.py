"""Shards: what is read from them is what they were written from, for any number of ranks and workers; and what is wrong
with them is one line."""

import io
import json
import os
import pickle
import re
import resource
import shutil
import signal
import tarfile

import numpy as np
import pytest
import soundfile
import torch
from given import noise, own_cache, write_audio  # noqa: F401
from PIL import Image

from sslzoo.data import shard_writing
from sslzoo.data.audio import AudioFolder
from sslzoo.data.builtin.digits import Digits
from sslzoo.data.image import ImageFolder
from sslzoo.data.loader import train_loader
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.shard_sets import AudioShards, ImageShards, TextShards
from sslzoo.data.shard_writing import write_shards
from sslzoo.data.targets import fingerprint
from sslzoo.data.text_folder import TextFolder
from sslzoo.errors import ConfigError, UserError, one_line_error

SPLITS = ["train", "valid", "test"]
RGB = {"channels": 3, "mean": [0.5] * 3, "std": [0.2] * 3}
FORMATS = ["tar", pytest.param("parquet", marks=pytest.mark.skipif("not pyarrow", reason="pyarrow is not installed"))]

try:
    import pyarrow
except ImportError:
    pyarrow = None


def plan(size: float, kind: str = "tar", made: str = "set") -> dict:
    return {"made_from": made, "format": kind, "shard_mb": size, "splits": SPLITS}


def audio(root):
    for number in range(14):
        part = SPLITS[min(number // 8, 1) + (number > 10)]
        write_audio(
            root / part / f"s{number}.{'flac' if number % 2 else 'wav'}", 0.2 + 0.05 * number, 8000, seed=number
        )
    return AudioFolder(str(root), BySeconds(seconds=2.0, buckets=2), 16000, max_seconds=0.4)


def images(root):
    rng = np.random.default_rng(0)
    for number in range(15):
        path = root / SPLITS[number % 3] / f"class{number % 2}" / f"{number}.{'jpg' if number % 4 else 'png'}"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 255, (40 + number, 50, 3), np.uint8)).save(path)
    return ImageFolder(str(root), ByCount(2), 16, **RGB)


def texts(root):
    words = ["the", "cat", "sat", "on", "a", "mat", "and", "saw", "dogs", "run", "far", "away", "from", "home"]
    for number in range(30):
        path = root / ("train" if number < 20 else "test") / ("pos" if number % 2 else "neg") / f"{number}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(" ".join(words[(number * k) % len(words)] for k in range(3, 5 + number % 7)))
    return TextFolder(str(root), ByCount(4), vocab_size=200, max_tokens=16)


MAKE = {"audio": audio, "images": images, "texts": texts}


def again(data, path, **how):
    """The same set, read from its shards."""
    if data.modality == "speech":
        return AudioShards(str(path), BySeconds(seconds=2.0, buckets=2), 16000, max_seconds=0.4, **how)
    if data.modality == "image":
        return ImageShards(str(path), ByCount(2), 16, **RGB, **how)
    return TextShards(str(path), ByCount(4), vocab_size=200, max_tokens=16, **how)


def batches(data, start=0, rank=0, world=1, workers=0):
    return list(train_loader(data.split("train"), data.batch, 3, start, 6, rank, world, workers=workers))


def same(ours, theirs) -> None:
    assert len(ours) == len(theirs)
    for a, b in zip(ours, theirs, strict=True):
        for name in ("inputs", "lengths", "row_seeds", "index"):
            assert torch.equal(getattr(a, name), getattr(b, name)), name


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    """A set of each kind, and its shards: two or more of the training split."""
    held = {}
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLZOO_CACHE", str(tmp_path_factory.mktemp("cache")))
        for kind, make in MAKE.items():
            data, out = make(tmp_path_factory.mktemp(kind) / "set"), tmp_path_factory.mktemp(kind) / "shards"
            write_shards(data, out, plan(0.02))
            held[kind] = data, out
        yield held


@pytest.fixture
def shards(sets, tmp_path):
    """Shards of audio that a test may spoil."""
    return shutil.copytree(sets["audio"][1], tmp_path / "shards")


@pytest.mark.parametrize("kind", MAKE)
def test_batches_are_those_of_the_set(sets, kind):
    data, out = sets[kind]
    read = again(data, out)
    manifest = json.loads((out / "manifest.json").read_text())
    assert len(manifest["splits"]["train"]["shards"]) > 1 and not (out / ".making").exists()
    same(batches(data), batches(read))
    for name in SPLITS:
        ours, theirs = data.split(name), read.split(name)
        assert fingerprint(ours) == fingerprint(theirs)  # targets of one are targets of the other
        assert manifest["splits"][name]["items"] == len(ours) == len(theirs)
        assert manifest["splits"][name]["units"] == int(ours.lengths.sum())
        assert set(ours.columns) == set(theirs.columns)
        for column in ours.columns:
            assert list(ours.columns[column]) == list(theirs.columns[column])


@pytest.mark.parametrize("kind", MAKE)
def test_ranks_workers_and_a_resumed_run_read_the_same_rows(sets, kind):
    data, out = sets[kind]
    whole = batches(again(data, out))
    same(batches(again(data, out), workers=2), whole)
    same(batches(again(data, out), start=4), whole[4:])
    parts = [batches(again(data, out), rank=rank, world=2) for rank in range(2)]
    for step, batch in enumerate(whole):
        for rank in range(2):
            assert torch.equal(parts[rank][step].index, batch.index[rank::2])
            width = parts[rank][step].inputs.shape[-1]
            assert torch.equal(parts[rank][step].inputs, batch.inputs[rank::2][..., :width])


@pytest.mark.parametrize("kind", FORMATS)
def test_a_remote_folder_and_either_format(sets, kind, tmp_path):
    import fsspec

    data, _ = sets["images"]
    write_shards(data, tmp_path / "out", plan(0.01, kind))
    fsspec.filesystem("memory").put(str(tmp_path / "out"), f"/{tmp_path.name}-{kind}", recursive=True)
    want = batches(data)
    for path in (tmp_path / "out", f"memory://{tmp_path.name}-{kind}", f"file://{tmp_path / 'out'}"):
        read = again(data, path)
        same(batches(read), want)
        split = pickle.loads(pickle.dumps(read.split("train")))  # as a spawned worker gets it
        assert torch.equal(split.read(1), data.split("train").read(1))


def test_items_that_are_no_files_lose_nothing(tmp_path):
    data = Digits(ByCount(4), train=6, valid=2, test=2)
    write_shards(data, tmp_path / "out", plan(0.005))
    read = ImageShards(str(tmp_path / "out"), ByCount(4), 32, 3, [0.5] * 3, [0.3] * 3)
    for i in range(6):
        assert torch.equal(data.split("train").read(i), read.split("train").read(i))
    with tarfile.open(tmp_path / "out" / "train-000000.tar") as held:
        assert held.getnames()[:2] == ["000000000.png", "000000000.json"]
        said = json.load(held.extractfile("000000000.json"))
    assert said == {"name": "digits train 0", "digit": data.split("train").column("digit")[0]}


def test_writing_goes_on_where_it_was_stopped(sets, tmp_path, monkeypatch):
    data, whole = sets["audio"]
    out, seen = tmp_path / "out", []

    def failing(split, index, rate):
        seen.append(index)
        if len(seen) == 6:
            raise KeyboardInterrupt
        return before(split, index, rate)

    before = shard_writing.encoded
    monkeypatch.setattr(shard_writing, "encoded", failing)
    with pytest.raises(KeyboardInterrupt):
        write_shards(data, out, plan(0.02))
    kept = {path.name for path in out.glob("*.tar")}
    assert kept and not (out / "manifest.json").exists()
    with pytest.raises(UserError, match=r"has no manifest|no manifest\.json"):
        TextShards(str(out), ByCount(4)).split("train")
    with pytest.raises(ConfigError, match="shard_mb: 0.02 -> 7"):
        write_shards(data, out, plan(7))
    again_from = len(seen)
    write_shards(data, out, plan(0.02))
    assert seen[again_from] > 0  # not from the first item
    assert {p.name: p.read_bytes() for p in out.glob("*.*")} == {p.name: p.read_bytes() for p in whole.glob("*.*")}
    assert write_shards(data, out, plan(0.02))[1]  # done already
    with pytest.raises(ConfigError, match="made_from: set -> other"):
        write_shards(data, out, plan(0.02, made="other"))
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").touch()
    with pytest.raises(UserError, match="is not an empty folder"):
        write_shards(data, tmp_path / "full", plan(0.02))


def files(folder) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*.*")}


def test_a_process_that_is_killed_within_a_shard_is_gone_on_from(sets, tmp_path, monkeypatch):
    data, whole = sets["audio"]
    out, before = tmp_path / "out", shard_writing.encoded
    child = os.fork()
    if child == 0:

        def dying(split, index, rate):
            if index == 5:
                os.kill(os.getpid(), signal.SIGKILL)
            return before(split, index, rate)

        shard_writing.encoded = dying
        try:
            write_shards(data, out, plan(0.02))
        finally:
            os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL
    assert [path.name for path in out.iterdir() if path.name.endswith(".unfinished")], "a shard that is begun"
    kept = files(out)
    assert kept.items() <= files(whole).items() and len(kept) < len(files(whole))
    write_shards(data, out, plan(0.02))
    assert files(out) == files(whole) and not list(out.glob(".*"))


def test_a_disk_that_fills_is_said_and_gone_on_from(sets, tmp_path):
    data, whole = sets["audio"]
    out, (soft, hard) = tmp_path / "out", resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (15_000, hard))
    try:
        with pytest.raises(UserError, match=r"cannot write .*train-000000\.tar: .*File too large") as caught:
            write_shards(data, out, plan(0.02))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert "\n" not in str(caught.value) and not list(out.glob("*.tar"))
    write_shards(data, out, plan(0.02))
    assert files(out) == files(whole)


@pytest.mark.parametrize("workers", [0, 1])
def test_a_shard_that_vanishes_during_an_epoch(sets, shards, workers):
    data = sets["audio"][0]
    read = again(data, shards)
    loader = iter(train_loader(read.split("train"), read.batch, 3, 0, 1000, workers=workers))
    next(loader)
    for path in shards.glob("train-*.tar"):
        path.rename(path.with_suffix(".away"))
    with pytest.raises(UserError) as caught:
        list(loader)
    assert re.fullmatch(r"cannot read \S+/train-\d+\.tar: No such file", one_line_error(caught.value))


def cut(path):
    path.write_bytes(path.read_bytes()[:-600])


def lengthen(path):
    path.write_bytes(path.read_bytes() + bytes(512))


def flip(path):
    content = bytearray(path.read_bytes())
    content[700] ^= 1
    path.write_bytes(content)


SPOILED = {
    "cut short": (lambda f: cut(f / "train-000001.tar"), "train-000001.tar is cut short"),
    "gone": (lambda f: (f / "train-000001.tar").unlink(), "lacks train-000001.tar"),
    "doubled": (lambda f: shutil.copy(f / "train-000000.tar", f / "x.tar"), "x.tar is a copy of train-000000.tar"),
    "doubled, the second": (
        lambda f: shutil.copy(f / "train-000001.tar", f / "x.tar"),
        "x.tar is a copy of train-000001.tar",
    ),
    "of another set": (lambda f: write_strange(f / "x.tar"), "x.tar is of another set"),
    "newer, longer": (lambda f: lengthen(f / "train-000000.tar"), "the index is older than its shards"),
    "a flipped byte": (lambda f: flip(f / "train-000000.tar"), "its SHA-256 is not the manifest's"),
    "another index": (lambda f: shutil.copy(f / "test.index", f / "train.index"), "is not the index"),
    "no index": (lambda f: (f / "train.index").unlink(), r"train\.index cannot be read"),
    "listed twice": (lambda f: rename(f, "train-000001.tar"), "lists train-000001.tar twice"),
    "a manifest that leads out": (lambda f: rename(f, "../train-000000.tar"), "leads out of its folder"),
}


def write_strange(path):
    with tarfile.open(path, "w") as held:
        held.addfile(tarfile.TarInfo("a.wav"))


def rename(folder, name):
    found = json.loads((folder / "manifest.json").read_text())
    found["splits"]["train"]["shards"][0]["name"] = name
    (folder / "manifest.json").write_text(json.dumps(found))


@pytest.mark.parametrize("what", SPOILED)
def test_shards_that_are_not_those_of_the_manifest(shards, what):
    spoil, message = SPOILED[what]
    spoil(shards)
    with pytest.raises(UserError, match=message) as caught:
        again(type("", (), {"modality": "speech"}), shards).split("train")
    assert "\n" not in str(caught.value)


def test_bytes_that_changed_are_found_when_they_are_read(sets, shards):
    data = sets["audio"][0]
    flip(shards / "train-000000.tar")
    split = again(data, shards, check="headers").split("train")
    with pytest.raises(UserError, match="has other bytes than when the index was made"):
        split.read(0)
    assert len(batches(again(data, shards, check="none", on_error="skip"))) == 6  # another item is read instead
    for path in shards.glob("train-*.tar"):
        path.unlink()
    with pytest.raises(UserError, match="No such file"):
        split.read(len(split) - 1)


def test_settings_that_the_shards_are_not_of(sets, tmp_path):
    _, out = sets["texts"]
    with pytest.raises(ConfigError, match=r"set data\.vocab_size="):
        TextShards(str(out), ByCount(4), vocab_size=20).split("train")
    with pytest.raises(UserError, match=r"set data\.max_tokens="):
        TextShards(str(out), ByCount(4), vocab_size=200, max_tokens=8).split("train")
    with pytest.raises(UserError, match="shards of text: set data=text_shards"):
        AudioShards(str(out), BySeconds()).split("train")
    with pytest.raises(UserError, match="there is no folder"):
        AudioShards(str(tmp_path / "nowhere"), BySeconds()).split("train")
    with pytest.raises(UserError, match="cannot read nosuch://x"):
        AudioShards("nosuch://x", BySeconds()).split("train")


def tar_of(path, members: dict[str, bytes], kind=tarfile.REGTYPE):
    path.parent.mkdir(parents=True, exist_ok=True)
    with tarfile.open(path, "w") as held:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size, member.type = len(content), kind
            held.addfile(member, io.BytesIO(content))


def wav(seed: int, seconds: float = 0.3) -> bytes:
    held = io.BytesIO()
    soundfile.write(held, noise(round(16000 * seconds), 1, seed), 16000, format="WAV")
    return held.getvalue()


def test_tar_files_of_others_are_scanned_once(tmp_path):
    for part, first in (("train", 0), ("val", 4), ("test", 6)):
        members = {}
        for i in range(first, first + 2):
            members |= {f"x/{i}.wav": wav(i), f"x/{i}.cls": b"7", f"x/{i}.json": b'{"speaker": "ann", "age": 30}'}
        tar_of(tmp_path / f"speech-{part}-0000.tar", members)
    read = AudioShards(str(tmp_path), BySeconds(seconds=2.0))
    split = read.split("train")
    assert list(split.names) == ["x/0.wav", "x/1.wav"] and list(split.column("label")) == ["7", "7"]
    assert list(split.column("speaker")) == ["ann", "ann"] and list(split.column("age")) == ["30", "30"]
    assert list(read.split("valid").names) == ["x/4.wav", "x/5.wav"] and len(read.split("test")) == 2
    want, _ = soundfile.read(io.BytesIO(wav(1)), dtype="float32")
    assert np.array_equal(split.read(1).numpy(), want)


STRANGE = {
    "..": ({"../../evil.wav": b"x"}, tarfile.REGTYPE, "leads out of its folder"),
    "absolute": ({"/etc/evil.wav": b"x"}, tarfile.REGTYPE, "leads out of its folder"),
    "a link": ({"a.wav": b""}, tarfile.SYMTYPE, "is no plain file but a link"),
    "two items": ({"a.wav": wav(0), "a.flac": wav(1)}, tarfile.REGTYPE, "two items of the key a"),
    "nothing": ({"a.txt": b"x"}, tarfile.REGTYPE, "hold no audio files"),
    "no sound": ({"a.wav": b"RIFF"}, tarfile.REGTYPE, "is not audio, or is cut off"),
}


@pytest.mark.parametrize("what", STRANGE)
def test_archives_that_are_refused(tmp_path, what):
    members, kind, message = STRANGE[what]
    tar_of(tmp_path / "set" / "train-0.tar", members, kind)
    with pytest.raises(UserError, match=message):
        AudioShards(str(tmp_path / "set"), BySeconds()).split("train")
    assert not list(tmp_path.rglob("*evil*"))


@pytest.mark.parametrize("lost", [512, 1024, 10240, 12000])
def test_an_archive_of_others_that_is_cut_short_or_doubled(tmp_path, lost):
    tar_of(tmp_path / "a.tar", {f"{i}.wav": wav(i) for i in range(4)})
    content = (tmp_path / "a.tar").read_bytes()
    (tmp_path / "b.tar").write_bytes(content)
    with pytest.raises(UserError, match="is a copy of"):
        AudioShards(str(tmp_path), BySeconds()).split("train")
    end = len(content.rstrip(b"\0"))
    (tmp_path / "b.tar").write_bytes(content[: max(end - lost + 512, 1)])
    with pytest.raises(UserError, match="cut short|no tar file"):
        AudioShards(str(tmp_path), BySeconds()).split("train")
