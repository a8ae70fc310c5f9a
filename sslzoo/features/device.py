"""Choosing the device that features are computed on."""

import torch

from sslzoo.errors import ConfigError


def chosen_device(name: str) -> str:
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError) as error:  # an unknown name or a missing device
        raise ConfigError(
            f"device={name} cannot be used here: {str(error).splitlines()[0]} — set device=auto"
        ) from error
    return name
