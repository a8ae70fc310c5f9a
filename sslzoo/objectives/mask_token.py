"""Masking tokens before the trunk: a mask token in their place."""

import torch
import torch.nn.functional as F
from torch import Tensor


def with_mask_token(encoder, tokens: Tensor, mask: Tensor, mask_token: Tensor) -> Tensor:
    """Projected tokens [B, prefix + T, D], those in the mask (bool [B, T], on the host) replaced by the mask token [D]
    with the absolute position of its place, if the encoder has such. The prefix is never masked."""
    instead = mask_token
    if hasattr(encoder, "frontend"):
        instead = encoder.frontend.placed(instead, mask.shape[1])
    if instead.ndim > 1:
        instead = F.pad(instead, (0, 0, encoder.prefix, 0))
    hidden = F.pad(mask, (encoder.prefix, 0)).to(tokens.device, non_blocking=True)
    return torch.where(hidden[..., None], instead.to(tokens.dtype), tokens)
