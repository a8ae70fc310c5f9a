"""Handwritten digits at random positions, sizes and colours, on textured clutter."""

import numpy as np
from PIL import Image

from sslzoo.data.base import SPLITS
from sslzoo.data.builtin import cached_arrays
from sslzoo.data.image import ImageData, ImageSplit
from sslzoo.data.sampler import ByCount
from sslzoo.errors import ConfigError
from sslzoo.nn.images import LUMA
from sslzoo.progress import track

SEED = 1797
SHARES = (0.70, 0.12, 0.18)  # of the scans, for train, valid and test


class Digits(ImageData):
    """The 1797 8 x 8 scans of scikit-learn's `load_digits`, each drawn several times into a cluttered scene.

    A digit is rotated by up to 15 degrees, 50 to 82 % of the image high, and lighter or darker than the background.
    Colours are muted, so that after colour jitter images differ in shape, not colour. Label: digit, 0 to 9.

    train, valid, test: number of images in each split; each scan is in one split only. size: pixels a side.
    """

    def __init__(
        self,
        batch: ByCount,
        size: int = 32,
        channels: int = 3,
        mean: list[float] = [0.5, 0.5, 0.5],  # noqa: B006 (read, never written)
        std: list[float] = [0.31, 0.31, 0.31],  # noqa: B006
        train: int = 6000,
        valid: int = 1000,
        test: int = 1500,
    ):
        super().__init__("", batch, size, channels, mean, std)
        if size < 32:
            raise ConfigError(f"data.size must be at least 32 for a digit to be legible, got {size}")
        if min(train, valid, test) < 1:
            raise ConfigError(
                f"data.train, data.valid and data.test are numbers of pictures, got {train}, {valid}, {test}"
            )
        self.counts = dict(zip(SPLITS, (train, valid, test), strict=True))
        self._arrays: dict[str, np.ndarray] | None = None

    def split(self, name: str) -> ImageSplit:
        if self._arrays is None:
            self._arrays = cached_arrays(
                "digits", [__file__], (self.counts, self.size), lambda: make(self.counts, self.size)
            )
        images, digits = self._arrays[f"{name}_images"], self._arrays[f"{name}_digits"]
        return _Scenes(name, images, {"digit": digits}, self.channels)


class _Scenes(ImageSplit):
    def __init__(self, name: str, images: np.ndarray, columns: dict[str, np.ndarray], channels: int):
        names = [f"digits {name} {i}" for i in range(len(images))]
        super().__init__(names, columns, images.shape[1], channels)
        self.images = images

    def picture(self, index: int) -> Image.Image:
        return Image.fromarray(self.images[index])


def make(counts: dict[str, int], size: int) -> dict[str, np.ndarray]:
    """<split>_images uint8 [N, size, size, 3], <split>_digits int64 [N] and <split>_scans int64 [N], the scan of each.

    Image i of a split depends on i alone, so a smaller split is a prefix of a larger one.
    """
    from sklearn.datasets import load_digits  # slow to import, and needed only if nothing is cached

    scans = load_digits()
    shapes = np.pad(scans.images / 16, ((0, 0), (2, 2), (2, 2)))
    shares = _shares(scans.target)
    chosen = [(k, i) for k, name in enumerate(SPLITS) for i in range(counts[name])]
    pictures = {name: np.empty((counts[name], size, size, 3), np.uint8) for name in SPLITS}
    for k, i in track(chosen, "drawing digits", len(chosen)):
        rng = np.random.default_rng([SEED, k, i])
        others = shapes[rng.choice(shares[k], 2)]
        pictures[SPLITS[k]][i] = scene(shapes[shares[k][i % len(shares[k])]], others, size, rng)
    arrays: dict[str, np.ndarray] = {}
    for name, share in zip(SPLITS, shares, strict=True):
        rows = np.resize(share, counts[name])
        arrays |= {
            f"{name}_images": pictures[name],
            f"{name}_scans": rows,
            f"{name}_digits": scans.target[rows],
        }
    return arrays


def _shares(digits: np.ndarray) -> list[np.ndarray]:
    """The scans of each split; all digits have equal shares of a split and of any prefix of it."""
    rng, place = np.random.default_rng(SEED), np.empty(len(digits))
    for digit in np.unique(digits):
        rows = np.flatnonzero(digits == digit)
        place[rng.permutation(rows)] = (np.arange(len(rows)) + rng.uniform()) / len(rows)
    order = np.argsort(place)
    return np.split(order, np.searchsorted(place[order], np.cumsum(SHARES[:2])))


def scene(shape: np.ndarray, others: np.ndarray, size: int, rng: np.random.Generator) -> np.ndarray:
    """uint8 [size, size, 3]: texture, strokes, pieces of other digits, and the digit on top."""
    ink, paper = _colours(rng)
    texture = sum(_noise(size, rng)[..., None] * rng.uniform(-0.1, 0.1, 3) for _ in range(2))
    picture = paper + texture
    for _ in range(rng.integers(2, 5)):
        picture = _over(picture, _stroke(size, rng) * rng.uniform(0.3, 0.7), rng.uniform(0, 1, 3))
    for other in others:
        piece = _window(size, rng) * _drawn(
            other, size, rng.uniform(0.3, 0.65), rng.uniform(0, 360), rng.uniform(0, 1, 2)
        )
        picture = _over(picture, piece * rng.uniform(0.3, 0.7), rng.uniform(0, 1, 3))
    height = rng.uniform(0.5, 0.82)
    centre = rng.uniform(height / 2, 1 - height / 2, 2)
    digit = _drawn(shape, size, height, rng.uniform(-15, 15), centre)
    picture = _over(picture, digit, ink + 0.3 * texture)
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)


def _colours(rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Two muted colours that differ strongly in lightness."""
    while True:
        ink, paper = rng.uniform(0, 1, (2, 1)) + rng.uniform(-0.18, 0.18, (2, 3))
        if abs((ink - paper) @ LUMA) > 0.3:
            return ink, paper


def _noise(size: int, rng: np.random.Generator) -> np.ndarray:
    """Gaussian noise with a spectrum of 1 / f^0.8, mean 0 and deviation 1."""
    frequency = np.hypot(*np.meshgrid(np.fft.fftfreq(size), np.fft.fftfreq(size)))
    frequency[0, 0] = np.inf
    noise = np.fft.ifft2(np.fft.fft2(rng.standard_normal((size, size))) / frequency**0.8).real
    return noise / noise.std()


def _drawn(shape: np.ndarray, size: int, height: float, degrees: float, centre: np.ndarray) -> np.ndarray:
    """[size, size] in 0..1: a padded scan, rotated; height and centre (x, y) are fractions of the image."""
    scale = 8 / (height * size)
    c, s = scale * np.cos(np.radians(degrees)), scale * np.sin(np.radians(degrees))
    x, y = centre * size
    middle = len(shape) / 2
    inverse = (c, s, middle - c * x - s * y, -s, c, middle + s * x - c * y)
    image = Image.fromarray(shape.astype(np.float32))
    drawn = image.transform((size, size), Image.Transform.AFFINE, inverse, Image.Resampling.BICUBIC)
    return np.clip((np.asarray(drawn) - 0.25) / 0.45, 0, 1)  # sharpens edges blurred by upscaling


def _stroke(size: int, rng: np.random.Generator) -> np.ndarray:
    """[size, size] in 0..1: a straight line at a random position and angle."""
    y, x = np.mgrid[:size, :size] - rng.uniform(0, size, (2, 1, 1))
    angle, length, width = (
        rng.uniform(0, np.pi),
        size * rng.uniform(0.06, 0.19),
        size / 32 * rng.uniform(0.5, 1.2),
    )
    along, across = x * np.cos(angle) + y * np.sin(angle), y * np.cos(angle) - x * np.sin(angle)
    return np.clip(width + 0.5 - abs(across), 0, 1) * np.clip(length + 0.5 - abs(along), 0, 1)


def _window(size: int, rng: np.random.Generator) -> np.ndarray:
    """[size, size]: 1 in a random square with a quarter of the side, else 0."""
    side = size // 4
    y, x = rng.integers(0, size - side, 2)
    window = np.zeros((size, size))
    window[y : y + side, x : x + side] = 1
    return window


def _over(picture: np.ndarray, cover: np.ndarray, colour: np.ndarray) -> np.ndarray:
    return picture + cover[..., None] * (colour - picture)
