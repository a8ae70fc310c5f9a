"""Images as networks read them."""

import torch
from torch import Tensor


def pixels(images: Tensor) -> Tensor:
    """uint8 or float images as floats in 0..1."""
    return images.float() / 255 if images.dtype == torch.uint8 else images
