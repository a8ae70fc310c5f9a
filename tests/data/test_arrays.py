import gzip
import pickle
import struct

import numpy as np
import pytest
import torch
from given import own_cache  # noqa: F401

from sslzoo.data import arrays
from sslzoo.data.arrays import Cifar, Idx
from sslzoo.data.sampler import ByCount
from sslzoo.errors import UserError

GREY = {"batch": ByCount(4), "size": 28, "channels": 1, "mean": [0.5], "std": [0.25]}
COLOUR = {"batch": ByCount(4), "size": 32, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}


def idx(array):
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()


def write_mnist(folder, zipped=False, count=60):
    g = np.random.default_rng(0)
    folder.mkdir(parents=True)
    made = {}
    for stem, n in (("train", count), ("t10k", 20)):
        images, labels = g.integers(0, 256, (n, 28, 28), np.uint8), np.arange(n, dtype=np.uint8) % 10
        made[stem] = images, labels
        for name, array in ((f"{stem}-images-idx3-ubyte", images), (f"{stem}-labels-idx1-ubyte", labels)):
            if zipped:
                (folder / f"{name}.gz").write_bytes(gzip.compress(idx(array)))
            else:
                (folder / name).write_bytes(idx(array))
    return made


@pytest.mark.parametrize("inside, zipped", [("MNIST/raw", True), ("raw", False), ("", True)])
def test_idx_wherever_it_lies(tmp_path, inside, zipped):
    made = write_mnist(tmp_path / "here" / inside, zipped)
    data = Idx(str(tmp_path / "here"), **GREY)
    found = {name: data.split(name) for name in ("train", "valid", "test")}
    assert len(found["train"]) + len(found["valid"]) == 60 and len(found["valid"]) > 0 and len(found["test"]) == 20
    for name, split in found.items():
        images, labels = made["t10k" if name == "test" else "train"]
        for i in (0, len(split) - 1):
            place = int(split.names[i].split()[-1])
            assert (split.read(i).numpy()[0] == images[place]).all()
            assert split.columns["label"][i] == labels[place]
    resized = Idx(str(tmp_path / "here"), **{**GREY, "size": 32, "channels": 3, "mean": [0.5] * 3, "std": [1.0] * 3})
    assert resized.split("test").read(0).shape == (3, 32, 32)


def test_idx_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="there is no folder .*nowhere — set data.path"):
        Idx(str(tmp_path / "nowhere"), **GREY).split("train")
    with pytest.raises(
        UserError, match="has no train-images-idx3-ubyte.* in FashionMNIST/raw/ — set data.download=true"
    ):
        Idx(str(tmp_path), **GREY, family="FashionMNIST").split("train")


def test_bad_idx_files_are_named(tmp_path):
    write_mnist(tmp_path / "raw", zipped=True)
    path = tmp_path / "raw" / "train-images-idx3-ubyte.gz"
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(UserError, match="train-images-idx3-ubyte.gz cannot be read"):
        Idx(str(tmp_path), **GREY).split("train")
    path.write_bytes(gzip.compress(gzip.decompress(whole)[:-1]))
    with pytest.raises(UserError, match=r"ubyte.gz is cut off: 47039 bytes, but its header says 60 x 28 x 28"):
        Idx(str(tmp_path), **GREY).split("train")
    path.write_bytes(gzip.compress(b"something else"))
    with pytest.raises(UserError, match="is not an IDX file of bytes in 3 dimensions"):
        Idx(str(tmp_path), **GREY).split("train")
    path.write_bytes(whole)
    labels = tmp_path / "raw" / "train-labels-idx1-ubyte.gz"
    labels.write_bytes(gzip.compress(idx(np.full(60, 11, np.uint8))))
    with pytest.raises(UserError, match="the train labels go to 11, but MNIST has 0 to 9"):
        Idx(str(tmp_path), **GREY).split("train")
    labels.write_bytes(gzip.compress(idx(np.zeros(59, np.uint8))))
    with pytest.raises(UserError, match="60 train images, but 59 labels"):
        Idx(str(tmp_path), **GREY).split("train")


def test_a_download_puts_the_files_where_they_are_found(tmp_path, monkeypatch):
    import torchvision

    def fetch(path, download):
        assert download
        write_mnist(tmp_path / "new" / "KMNIST" / "raw")

    monkeypatch.setattr(torchvision.datasets, "KMNIST", fetch)
    assert len(Idx(str(tmp_path / "new"), **GREY, family="KMNIST", download=True).split("test")) == 20

    def fail(path, download):
        raise OSError("no network")

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", fail)
    with pytest.raises(UserError, match="cannot download CIFAR10 to .*other: no network"):
        Cifar(str(tmp_path / "other"), **COLOUR, download=True).split("train")


def batch(n, labels, seed=0):
    data = np.random.default_rng(seed).integers(0, 256, (n, 3072), np.uint8)
    return {b"data": data, b"filenames": [b"x.png"] * n, **{k: [i % 3 for i in range(n)] for k in labels}}


def write_pickle(path, value):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(pickle.dumps(value, protocol=2))


@pytest.fixture
def cifar10(tmp_path):
    root = tmp_path / "cifar-10-batches-py"
    for i in range(1, 6):
        write_pickle(root / f"data_batch_{i}", batch(12, [b"labels"], i))
    write_pickle(root / "test_batch", batch(9, [b"labels"]))
    write_pickle(root / "batches.meta", {b"label_names": [b"airplane", b"bird", b"cat"]})
    return root


def test_cifar10(tmp_path, cifar10):
    data = Cifar(str(tmp_path), **COLOUR)
    found = {name: data.split(name) for name in ("train", "valid", "test")}
    assert len(found["train"]) + len(found["valid"]) == 60 and len(found["valid"]) > 0
    assert found["test"].columns["label"].tolist() == ["airplane", "bird", "cat"] * 3
    want = batch(9, [])[b"data"][4].reshape(3, 32, 32)
    assert torch.equal(found["test"].read(4), torch.from_numpy(want))
    assert len(Cifar(str(cifar10), **COLOUR).split("test")) == 9


def test_cifar100_as_numpy_2_and_python_3_pickle_it(tmp_path):
    root = tmp_path / "cifar-100-python"
    labels = [b"fine_labels", b"coarse_labels"]
    write_pickle(root / "train", {k.decode(): v for k, v in batch(30, labels).items()})
    write_pickle(root / "test", batch(6, labels))
    write_pickle(root / "meta", {b"fine_label_names": ["a", "b", "c"], b"coarse_label_names": ["x", "y", "z"]})
    split = Cifar(str(tmp_path), **COLOUR, classes=100).split("test")
    assert split.columns["label"].tolist() == ["a", "b", "c"] * 2
    assert split.columns["coarse"].tolist() == ["x", "y", "z"] * 2
    assert len(Cifar(str(tmp_path), **COLOUR, classes=100).split("train")) > 10


class Evil:
    def __reduce__(self):
        return print, ("code of a file was run",)


def test_a_pickle_that_would_run_code_is_refused(tmp_path, cifar10, capsys):
    write_pickle(cifar10 / "test_batch", {b"data": Evil()})
    with pytest.raises(UserError, match=r"test_batch is not a CIFAR file: it asks for (__builtin__|builtins).print"):
        Cifar(str(tmp_path), **COLOUR).split("test")
    assert "run" not in capsys.readouterr().out


def test_bad_cifar_files_are_named(tmp_path, cifar10):
    path = cifar10 / "test_batch"
    whole = path.read_bytes()

    def refused(words):
        with pytest.raises(UserError, match=words):
            Cifar(str(tmp_path), **COLOUR).split("test")

    path.write_bytes(whole[:1000])
    refused("test_batch is not a CIFAR file")
    path.unlink()
    refused("cannot read .*test_batch: No such file")
    write_pickle(path, [1, 2])
    refused("test_batch is not a CIFAR file: it holds a list")
    write_pickle(path, {b"data": np.zeros((3, 100), np.uint8), b"labels": [0] * 3})
    refused("test_batch is not a CIFAR batch")
    write_pickle(path, batch(4, []))
    refused("test_batch has not one label for each of its 4 pictures")
    write_pickle(path, {**batch(2, []), b"labels": [0, 3]})
    refused("test_batch has a label outside the classes")
    (cifar10 / "data_batch_1").unlink()
    refused("has no data_batch_1, so is no cifar-10-batches-py — set data.download=true")


def test_only_harmless_names_are_unpickled():
    assert all(module in ("numpy", "_codecs") or module.endswith("multiarray") for module, _ in arrays._HARMLESS)
