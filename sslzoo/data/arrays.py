"""Image sets stored as arrays in a few files: IDX (the MNIST family) and CIFAR's pickles."""

import gzip
import pickle
import zlib
from pathlib import Path
from typing import Literal

import numpy as np
from PIL import Image

from sslzoo.data import files, splits
from sslzoo.data.image import ImageData, ImageSplit
from sslzoo.data.sampler import ByCount
from sslzoo.data.stored import digest
from sslzoo.errors import UserError

# globals that a pickled array refers to, named as before and after numpy 2; none of them runs code from the file
_HARMLESS = {
    ("numpy", "ndarray"),
    ("numpy", "dtype"),
    ("numpy.core.multiarray", "_reconstruct"),
    ("numpy._core.multiarray", "_reconstruct"),
    ("_codecs", "encode"),
}


class _ArraySplit(ImageSplit):
    """Images from an array, uint8 [N, H, W] or [N, H, W, 3]; rows [M] are the split's indices into it."""

    def __init__(self, array: np.ndarray, rows: np.ndarray, names, columns, size: int, channels: int):
        super().__init__(names, columns, size, channels)
        self.array, self.rows = array, rows

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.array[self.rows[index]])

    def stamp(self) -> str | None:
        return digest(np.asarray(self.array[self.rows]), f"{self.size} {self.channels}")


class ArrayData(ImageData):
    """Image sets read whole from a few files; valid is split off the training images by a hash of their index.

    A subclass implements `arrays`. download: whether torchvision downloads missing files to `path`.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount,
        size: int,
        channels: int,
        mean: list[float],
        std: list[float],
        download: bool = False,
    ):
        super().__init__(path, batch, size, channels, mean, std)
        self.download = download
        self._arrays: dict[str, tuple[np.ndarray, dict[str, np.ndarray]]] = {}

    def arrays(self, part: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        """Images uint8 [N, H, W] or [N, H, W, 3] and label columns [N] of the official train or test split."""
        raise NotImplementedError

    def split(self, name: str) -> ImageSplit:
        part = "test" if name == "test" else "train"
        if part not in self._arrays:
            self._arrays[part] = self.arrays(part)
        array, columns = self._arrays[part]
        names = [f"{part} image {i}" for i in range(len(array))]
        rows = np.arange(len(array))
        if part == "train":
            # the official test images are in another file: only valid has to be split off here
            split = splits.fill(["train"] * len(array) + ["test"], [*names, "test"], self.path)[:-1]
            rows = np.flatnonzero(split == name)
        columns = {key: values[rows] for key, values in columns.items()}
        return _ArraySplit(array, rows, [names[i] for i in rows], columns, self.size, self.channels)


class Idx(ArrayData):
    """The MNIST family: {train,t10k}-{images-idx3,labels-idx1}-ubyte[.gz]. Label: label, 0 to 9.

    Searched in this order: <path>/<family>/raw (torchvision's place), <path>/raw, <path>.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount,
        size: int,
        channels: int,
        mean: list[float],
        std: list[float],
        download: bool = False,
        family: Literal["MNIST", "FashionMNIST", "KMNIST"] = "MNIST",
    ):
        super().__init__(path, batch, size, channels, mean, std, download)
        self.family = family

    def arrays(self, part: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        stem = "train" if part == "train" else "t10k"
        images = read_idx(self._file(f"{stem}-images-idx3-ubyte"), 3)
        labels = read_idx(self._file(f"{stem}-labels-idx1-ubyte"), 1)
        if len(images) != len(labels):
            raise UserError(f"{self.path}: {len(images)} {part} images, but {len(labels)} labels")
        if labels.max() > 9:
            raise UserError(f"{self.path}: the {part} labels go to {labels.max()}, but {self.family} has 0 to 9")
        return images, {"label": labels.astype(np.int64)}

    def _file(self, name: str) -> Path:
        folders = [Path(self.path) / inside for inside in (f"{self.family}/raw", "raw", "")]
        found = [f for folder in folders for f in (folder / name, folder / f"{name}.gz") if f.is_file()]
        if found:
            return found[0]
        if self.download:
            download(self.family, self.path)
            self.download = False
            return self._file(name)
        files.rooted(self.path)
        raise UserError(
            f"{self.path} has no {name}[.gz] in it, in raw/ or in {self.family}/raw/ — set data.download=true"
        )


_CIFAR = {  # folder, training files, test files, file of class names; the keys of each label and its class names
    10: (
        "cifar-10-batches-py",
        [f"data_batch_{i}" for i in range(1, 6)],
        ["test_batch"],
        "batches.meta",
        {"label": (b"labels", b"label_names")},
    ),
    100: (
        "cifar-100-python",
        ["train"],
        ["test"],
        "meta",
        {
            "label": (b"fine_labels", b"fine_label_names"),
            "coarse": (b"coarse_labels", b"coarse_label_names"),
        },
    ),
}


class Cifar(ArrayData):
    """CIFAR-10 or CIFAR-100 as official Python pickles. Labels, as class names: label; with 100 classes also coarse.

    Searched in <path>/cifar-10-batches-py or <path>/cifar-100-python, then in <path>.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount,
        size: int,
        channels: int,
        mean: list[float],
        std: list[float],
        download: bool = False,
        classes: Literal[10, 100] = 10,
    ):
        super().__init__(path, batch, size, channels, mean, std, download)
        self.classes = classes

    def arrays(self, part: str) -> tuple[np.ndarray, dict[str, np.ndarray]]:
        folder, train, test, meta, keys = _CIFAR[self.classes]
        root = self._root(folder, train[0])
        words = read_pickle(root / meta)
        images, columns = [], {key: [] for key in keys}
        for name in train if part == "train" else test:
            batch = read_pickle(root / name)
            rows = batch.get(b"data")
            if not isinstance(rows, np.ndarray) or rows.dtype != np.uint8 or rows.shape[1:] != (3072,):
                raise UserError(f"{root / name} is not a CIFAR batch: it has no rows of 3072 bytes")
            images.append(rows.reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1))
            for key, (numbers, names) in keys.items():
                columns[key] += _words(root / name, batch.get(numbers), words.get(names), len(rows))
        return np.ascontiguousarray(np.concatenate(images)), {key: np.array(values) for key, values in columns.items()}

    def _root(self, folder: str, first: str) -> Path:
        inside = Path(self.path) / folder
        if self.download and not inside.is_dir():
            download(f"CIFAR{self.classes}", self.path)
        root = files.rooted(self.path, folder)
        if not (root / first).is_file():
            raise UserError(
                f"{root} has no {first}, so is no {folder} — set data.download=true, or use data=image_folder"
            )
        return root


def read_idx(path: Path, dimensions: int) -> np.ndarray:
    """A uint8 array from an IDX file, raw or gzipped: 0, 0, 8, dimensions, big-endian sizes, bytes."""
    try:
        with gzip.open(path) if path.suffix == ".gz" else open(path, "rb") as file:
            content = file.read()
    except (OSError, EOFError, zlib.error) as error:
        raise UserError(f"{path} cannot be read: {error}") from error
    if len(content) < 4 + 4 * dimensions or content[:4] != bytes([0, 0, 8, dimensions]):
        raise UserError(f"{path} is not an IDX file of bytes in {dimensions} dimensions")
    shape = np.frombuffer(content, ">u4", dimensions, 4).astype(np.int64)
    data = np.frombuffer(content, np.uint8, offset=4 + 4 * dimensions)
    if len(data) != shape.prod() or not len(data):
        raise UserError(f"{path} is cut off: {len(data)} bytes, but its header says {' x '.join(map(str, shape))}")
    return data.reshape(shape)


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str):
        if (module, name) not in _HARMLESS:
            raise pickle.UnpicklingError(f"it asks for {module}.{name}, which no CIFAR file does")
        return super().find_class(module, name)


def read_pickle(path: Path) -> dict[bytes, object]:
    """Load one of CIFAR's pickles; only numbers, strings, containers and numpy arrays are allowed."""
    try:
        with open(path, "rb") as file:
            found = _Unpickler(file, encoding="bytes").load()
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except Exception as error:  # a corrupt pickle can raise any exception
        raise UserError(f"{path} is not a CIFAR file: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} is not a CIFAR file: it holds a {type(found).__name__}")
    return {key if isinstance(key, bytes) else str(key).encode(): value for key, value in found.items()}


def _words(path: Path, numbers, names, count: int) -> list[str]:
    """The class name of each image."""
    if not isinstance(numbers, list) or len(numbers) != count:
        raise UserError(f"{path} has not one label for each of its {count} pictures")
    if not isinstance(names, list) or not all(0 <= number < len(names) for number in numbers):
        raise UserError(f"{path} has a label outside the classes of the set")
    return [names[number].decode() if isinstance(names[number], bytes) else names[number] for number in numbers]


def download(dataset: str, path: str) -> None:
    """Let torchvision's `dataset` download itself to `path`."""
    import torchvision

    Path(path).mkdir(parents=True, exist_ok=True)
    try:
        getattr(torchvision.datasets, dataset)(path, download=True)
    except Exception as error:  # network, checksum, disk: the downloader has no exception class
        raise UserError(f"cannot download {dataset} to {path}: {error}") from error
