"""Fixed sinusoidal position embeddings."""

import torch
from torch import Tensor


def sinusoids(size: int, dim: int) -> Tensor:
    """Sinusoidal embeddings [size, dim] (Vaswani et al. 2017, section 3.5): sines, then cosines."""
    half = dim // 2
    angle = torch.arange(size)[:, None] / 10000 ** (torch.arange(half) / half)
    return torch.cat([angle.sin(), angle.cos()], dim=1)


def sinusoids_2d(grid: int, dim: int) -> Tensor:
    """2-d sinusoidal embeddings [grid * grid, dim], half of dim per axis (MAE's reference; Chen et al. 2021)."""
    quarter = dim // 4
    omega = 1 / 10000 ** (torch.arange(quarter, dtype=torch.float64) / quarter)
    angle = torch.arange(grid, dtype=torch.float64)[:, None] * omega
    axis = torch.cat([angle.sin(), angle.cos()], dim=1)
    rows = axis[:, None].expand(grid, grid, -1)
    columns = axis[None].expand(grid, grid, -1)
    return torch.cat([columns, rows], dim=-1).reshape(grid * grid, dim).float()


def grid_sinusoids(size: int, columns: int, dim: int) -> Tensor:
    """Sinusoidal embeddings [size, dim] of a grid of any number of rows: half of dim for the row, half for the column;
    of a sequence (one column), all of it."""
    if columns == 1:
        return sinusoids(size, dim)
    rows = sinusoids(-(-size // columns), dim // 2).repeat_interleave(columns, 0)[:size]
    return torch.cat([rows, sinusoids(columns, dim // 2).repeat(-(-size // columns), 1)[:size]], dim=1)
