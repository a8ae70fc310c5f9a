"""A finished module that is used as it is, such as a teacher that is kept in a file of its own."""

from collections.abc import Mapping
from typing import Any, Self

import torch
from torch import nn


class Fixed(nn.Module):
    """Calls `module` without gradient and in eval mode, whatever mode the modules around it are in. It moves with them
    from device to device, but is not in their state dicts, so that checkpoints do not hold what is stored elsewhere."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module.requires_grad_(False).eval()

    @torch.no_grad()
    def forward(self, *inputs: Any) -> Any:
        return self.module(*inputs)

    def train(self, mode: bool = True) -> Self:
        return super().train(False)

    def state_dict(self, *args: Any, destination: Any = None, prefix: str = "", keep_vars: bool = False) -> Any:
        return {} if destination is None else destination

    def _load_from_state_dict(self, state_dict: Mapping, prefix: str, *args: Any) -> None:
        # torch goes on with the children: they find what they have
        own = self.module.state_dict(prefix=f"{prefix}module.")
        state_dict.update(own)  # type: ignore[attr-defined]
        super()._load_from_state_dict(state_dict, prefix, *args)
