"""Conversion of images for networks."""

import torch
from torch import Tensor


def to_float(images: Tensor) -> Tensor:
    """uint8 images (or floats, unchanged) to floats in 0..1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images


LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in torchvision and PIL
