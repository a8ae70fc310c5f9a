"""Comparing sums of floats, whose last digits depend on a processor's kernels and on the number of threads."""

import torch
from torch import Tensor

ROUNDINGS = 64  # of the largest magnitude; float32: 7.6e-6 of it


def assert_sum_close(actual: Tensor, expected: Tensor, scale: float | Tensor | None = None, what: str = "") -> None:
    """Hold sums to other sums of the same terms, added in another order.

    A sum is exact to some roundings (the dtype's eps) of the largest magnitude that was added, however small
    what is left of it: each element may differ by ROUNDINGS of them. `scale` is that magnitude: a number, or a
    tensor of terms, of which the largest is taken. Without it, it is the largest of `expected`, which is right
    where an element of the tensor is about as large as the terms of all its sums.
    """
    if scale is None:
        scale = expected
    eps = torch.finfo(expected.dtype).eps if expected.is_floating_point() else 0  # counts are exact
    atol = ROUNDINGS * eps * float(torch.as_tensor(scale).detach().abs().max())
    torch.testing.assert_close(
        actual, expected, atol=atol, rtol=0, msg=lambda said: f"{what}: {said}" if what else said
    )
