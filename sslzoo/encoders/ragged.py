"""Padded batches taken row by row, where that is less work: on a CPU, with long rows."""

import torch
import torch.nn.functional as F
from torch import Tensor

LONG = 128  # tokens of a row, on average, from which its layers are no faster in a batch


def rows_apart(lengths: Tensor, size: int, device: torch.device, grain: int = 1) -> list[int] | None:
    """Each row's length, or None where a batch is better taken as one: nothing is padded, rows are short, or it is
    not on a CPU, where a launch costs more than padding. lengths int64 [B], in `grain` units a token; size: that of
    the padded dimension. A row by itself needs no mask, and nothing is computed of its padding."""
    if device.type != "cpu":
        return None
    rows = lengths.tolist()
    ragged = bool(rows) and 0 < min(rows) < size
    return rows if ragged and sum(rows) >= LONG * grain * len(rows) else None


def joined(rows: list[Tensor], size: int) -> Tensor:
    """Rows [1, T_i, D] as a batch [B, size, D], with zeros behind each."""
    return torch.cat([F.pad(row, (0, 0, 0, size - row.shape[1])) for row in rows])
