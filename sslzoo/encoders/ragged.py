"""Processing padded batches row by row, which is faster on a CPU with long rows."""

import torch
import torch.nn.functional as F
from torch import Tensor

LONG = 128  # mean tokens per row from which batching brings no speed-up on a CPU


def rows_apart(lengths: Tensor, size: int, device: torch.device, grain: int = 1) -> list[int] | None:
    """The rows' lengths if they should be processed one by one, without mask and padding; None if the batch should be
    processed as a whole: no padding, short rows, or a device other than a CPU, where kernel launches cost more than
    padding. lengths: int64 [B], with `grain` units per token. size: of the padded dimension."""
    if device.type != "cpu" or torch.compiler.is_exporting():
        return None
    rows = lengths.tolist()
    ragged = bool(rows) and 0 < min(rows) < size
    return rows if ragged and sum(rows) >= LONG * grain * len(rows) else None


def joined(rows: list[Tensor], size: int) -> Tensor:
    """Rows [1, T_i, D] as a batch [B, size, D], padded with zeros."""
    return torch.cat([F.pad(row, (0, 0, 0, size - row.shape[1])) for row in rows])
