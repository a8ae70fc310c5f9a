"""SimCLR's projection head."""

import torch

from sslzoo.nn.heads import projector


def test_shape_and_norm():
    torch.manual_seed(0)
    head = projector(6, 10, 4, layers=3)
    linear = [m for m in head if isinstance(m, torch.nn.Linear)]
    assert [(m.in_features, m.out_features) for m in linear] == [(6, 10), (10, 10), (10, 4)]
    y = head(torch.randn(50, 6) * 3 + 1)
    torch.testing.assert_close(y.mean(0), torch.zeros(4), atol=1e-5, rtol=0)
    torch.testing.assert_close(y.var(0, unbiased=False), torch.ones(4), atol=1e-3, rtol=0)
    assert isinstance(head[2], torch.nn.ReLU) and not isinstance(head[-1], torch.nn.ReLU)
