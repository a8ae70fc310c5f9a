"""The weighted sum of layers, against the formula."""

import torch

from sslzoo.nn.weighted_sum import WeightedSum


def test_it_is_the_softmax_weighted_sum():
    mix = WeightedSum(3)
    hidden = [torch.randn(2, 5, 4, generator=torch.Generator().manual_seed(i)) for i in range(3)]
    assert torch.allclose(mix(hidden), torch.stack(hidden).mean(0), atol=1e-6)  # at first
    with torch.no_grad():
        mix.logits.copy_(torch.tensor([0.5, -1.0, 2.0]))
    expected = (torch.stack(hidden) * mix.logits.softmax(0)[:, None, None, None]).sum(0)
    assert torch.allclose(mix(hidden), expected, atol=1e-6)
    mix(hidden).sum().backward()
    assert mix.logits.grad.abs().sum() > 0
