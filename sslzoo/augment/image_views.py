"""Random views of a batch of images, seeded per row: SimCLR's augmentations, on the batch and its device, without
worker processes."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import rng
from sslzoo.augment.base import Drawn, Views
from sslzoo.errors import ConfigError
from sslzoo.nn.images import LUMA, to_float

VIEWS = 2  # views per item
CPU_PIXELS = 2**19  # pixels of views computed at a time on a CPU, so that intermediates stay in its cache


def _column(x: Tensor) -> Tensor:
    return x.view(-1, 1, 1, 1)


def gray(images: Tensor) -> Tensor:
    """Luma [B, 1, H, W]."""
    if images.shape[1] == 1:
        return images
    return (images * images.new_tensor(LUMA).view(1, 3, 1, 1)).sum(1, keepdim=True)


def shift_hue(images: Tensor, turn: Tensor) -> Tensor:
    """Shift the hue of RGB images in 0..1 by `turn` [B], as a fraction of the circle, through HSV."""
    high, low = images.amax(1), images.amin(1)
    chroma = (high - low).clamp(min=1e-8)
    r, g, b = images.unbind(1)
    hue = torch.where(
        high == r, (g - b) / chroma % 6, torch.where(high == g, (b - r) / chroma + 2, (r - g) / chroma + 4)
    )
    hue = hue + 6 * turn.view(-1, 1, 1)
    # HSV to RGB in one form: channel n is v - v s max(0, min(k, 4 - k, 1)), k = (n + h) mod 6
    k = (hue[:, None] + images.new_tensor([5, 3, 1]).view(1, 3, 1, 1)) % 6
    return high[:, None] - (high - low)[:, None] * torch.minimum(k, 4 - k).clamp(0, 1)


def blur(images: Tensor, sigma: Tensor, kernel: int) -> Tensor:
    """Gaussian blur with a sigma per row [B]."""
    x = torch.arange(kernel, device=images.device) - (kernel - 1) / 2
    weight = torch.exp(-x.square() / (2 * sigma[:, None].square()))
    weight = weight / weight.sum(1, keepdim=True)
    b, c, h, w = images.shape
    weight = weight.repeat_interleave(c, 0)
    y = F.pad(images.reshape(1, b * c, h, w), [kernel // 2] * 4, mode="reflect")
    y = F.conv2d(y, weight[:, None, :, None], groups=b * c)
    return F.conv2d(y, weight[:, None, None, :], groups=b * c).view(b, c, h, w)


def solarize(images: Tensor, threshold: float = 0.5) -> Tensor:
    """Invert values of at least `threshold` in images in 0..1 (BYOL, 2006.07733, appendix B)."""
    return torch.where(images < threshold, images, 1 - images)


class ImageViews(Views):
    """Random crop, flip, colour jitter, grey, blur and solarization, drawn per row (Chen et al. 2020, appendix A; Grill
    et al. 2020, appendix B).

    scale, ratio: ranges of the crop's share of the image area and of its aspect ratio. flip, gray, blur, solarize:
    chances, a number or, if the two views differ, a list with one number per view. brightness, contrast, saturation,
    hue: strengths x, multiplied by jitter: a factor in 1 - x to 1 + x, or a hue shift of -x to x of the circle; the
    defaults are SimCLR's at strength `jitter`. Colours are jittered with probability `jitter_chance`, in a fixed order
    (shuffled in the papers). Blur has a sigma of 0.1 to 2 pixels and a kernel of a tenth of the image. size: pixels a
    side of a view, None for `data.size`.
    """

    modality = "image"
    crops = True

    def __init__(
        self,
        scale: list[float] = [0.08, 1.0],  # noqa: B006 (read, never written)
        ratio: list[float] = [0.75, 1.3333333],  # noqa: B006
        flip: float | list[float] = 0.5,
        jitter: float = 1.0,
        brightness: float = 0.8,
        contrast: float = 0.8,
        saturation: float = 0.8,
        hue: float = 0.2,
        jitter_chance: float = 0.8,
        gray: float | list[float] = 0.2,
        blur: float | list[float] = 0.5,
        solarize: float | list[float] = 0.0,
        size: int | None = None,
    ):
        super().__init__()
        if not 0 < scale[0] <= scale[1] <= 1:
            raise ConfigError(f"views.scale must be two shares of the area with 0 < low <= high <= 1, got {scale}")
        chances = {"flip": flip, "gray": gray, "blur": blur, "solarize": solarize}
        self.chances = {name: [x] * VIEWS if isinstance(x, int | float) else x for name, x in chances.items()}
        for name, each in self.chances.items():
            if len(each) != VIEWS or not all(0 <= chance <= 1 for chance in each):
                raise ConfigError(
                    f"views.{name} is a chance between 0 and 1, or a list of {VIEWS}, one a view; got {chances[name]}"
                )
        colors = {"jitter": jitter, "brightness": brightness, "contrast": contrast, "saturation": saturation}
        for name, strength in colors.items():
            if strength < 0:
                raise ConfigError(f"views.{name} must be 0 or more, got {strength}")
        if not 0 <= hue * jitter <= 0.5:
            raise ConfigError(f"views.hue times views.jitter must be between 0 and 0.5, got {hue * jitter:g}")
        if not 0 <= jitter_chance <= 1:
            raise ConfigError(f"views.jitter_chance must be between 0 and 1, got {jitter_chance}")
        self.scale, self.ratio, self.size, self.jitter_chance = scale, ratio, size, jitter_chance
        self.factors = [jitter * x for x in (brightness, contrast, saturation)]
        self.hue = jitter * hue

    def check(self, encoder, data, most: int | None = 2) -> None:
        super().check(encoder, data, most)
        self.size = self.size or data.size  # the images may be larger

    def whole(self, inputs: Tensor) -> Tensor:
        """Images [B, C, H, W] without augmentation, resized to the views' size."""
        if not self.size or inputs.shape[-1] == self.size:
            return inputs
        return F.interpolate(to_float(inputs), self.size, mode="bilinear", antialias=True)

    def draw(self, encoder, batch) -> Drawn:
        names = ("view a", "view b")
        return Drawn([self(batch.inputs, batch.row_seeds, name, i) for i, name in enumerate(names)], batch.lengths)

    def encode(self, encoder, view: Tensor, lengths: Tensor):
        return encoder(view, lengths)

    @torch.no_grad()
    def forward(self, inputs: Tensor, seeds: Tensor, name: str, number: int = 0) -> Tensor:
        """inputs [B, C, H, W] -> float [B, C, S, S] in 0..1. name: distinguishes the random draws of a row's views;
        number: the index of the view in `chances`."""
        on_cpu = inputs.device.type == "cpu"
        rows = max(1, CPU_PIXELS // (self.size or inputs.shape[-1]) ** 2 if on_cpu else len(inputs))
        parts = zip(inputs.split(rows), seeds.split(rows), strict=True)
        return torch.cat([self.augment(some, their, name, number) for some, their in parts])

    def augment(self, inputs: Tensor, seeds: Tensor, name: str, number: int) -> Tensor:
        """As `forward`, for all rows at once."""
        u = rng.uniform(seeds, name, 16, device=inputs.device)
        chance = {name: each[number] for name, each in self.chances.items()}
        images = self.crop(to_float(inputs), *[*u[:, :5].unbind(1), chance["flip"]])
        if any(self.factors) or self.hue:
            images = torch.where(_column(u[:, 6] < self.jitter_chance), self.jittered(images, u[:, 7:11]), images)
        if chance["gray"] and images.shape[1] == 3:
            images = torch.where(_column(u[:, 11] < chance["gray"]), gray(images).expand_as(images), images)
        if chance["blur"]:
            kernel = max(3, images.shape[-1] // 10 | 1)
            blurred = blur(images, 0.1 + 1.9 * u[:, 12], kernel)
            images = torch.where(_column(u[:, 13] < chance["blur"]), blurred, images)
        if chance["solarize"]:
            images = torch.where(_column(u[:, 14] < chance["solarize"]), solarize(images), images)
        return images

    def crop(self, images: Tensor, area: Tensor, aspect: Tensor, x: Tensor, y: Tensor, flip: Tensor, flips: float):
        """Crop a part of each image, resize it bilinearly to the view's size; mirror it with probability `flips`."""
        area = self.scale[0] + (self.scale[1] - self.scale[0]) * area
        low, high = math.log(self.ratio[0]), math.log(self.ratio[1])
        aspect = torch.exp(low + (high - low) * aspect)
        width, height = (area * aspect).sqrt().clamp(max=1), (area / aspect).sqrt().clamp(max=1)
        mirror = torch.where(flip < flips, -1.0, 1.0)
        theta = torch.zeros(len(images), 2, 3, device=images.device)
        theta[:, 0, 0], theta[:, 0, 2] = width * mirror, (1 - width) * (2 * x - 1)
        theta[:, 1, 1], theta[:, 1, 2] = height, (1 - height) * (2 * y - 1)
        size = self.size or images.shape[-1]
        grid = F.affine_grid(theta, [len(images), images.shape[1], size, size], align_corners=False)
        return F.grid_sample(images, grid, padding_mode="reflection", align_corners=False)

    def jittered(self, images: Tensor, u: Tensor) -> Tensor:
        """Jitter brightness, contrast, saturation and hue. u [B, 4]: uniform random numbers."""
        spread = 2 * u - 1
        bright, contrast, saturation = (
            _column((1 + x * spread[:, i]).clamp(min=0)) for i, x in enumerate(self.factors)
        )
        images = (images * bright).clamp(0, 1)
        images = torch.lerp(gray(images).mean((2, 3), keepdim=True), images, contrast).clamp(0, 1)
        if images.shape[1] == 1:
            return images
        images = torch.lerp(gray(images), images, saturation).clamp(0, 1)
        return shift_hue(images, self.hue * spread[:, 3]).clamp(0, 1)
