"""Holding back a front end's gradient."""

import pytest
import torch

from sslzoo.nn.gradient import scale_gradient


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_the_features_to_the_bit_and_a_share_of_the_gradient(dtype):
    x = torch.randn(64, 8, generator=torch.Generator().manual_seed(0)).to(dtype).requires_grad_()
    y = scale_gradient(x, 0.1)
    assert torch.equal(x, y) and y.dtype == dtype
    weight = torch.randn(64, 8, generator=torch.Generator().manual_seed(1)).to(dtype)
    (y * weight).sum().backward()
    assert torch.equal(x.grad, weight * 0.1)
    fixed = x.detach()
    assert scale_gradient(fixed, 0.1) is fixed
