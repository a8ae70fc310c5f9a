"""Adapters against the papers' equations, written out a token at a time."""

import pytest
import torch
import torch.nn.functional as F
from test_methods import base, learning, off_the_start, small
from torch import nn

from sslzoo.adapt.adapters import AdaptedLinear, Adapter, Houlsby, Pfeiffer


def parts(encoder: nn.Module, kind: type) -> int:
    return sum(p.numel() for module in encoder.modules() if isinstance(module, kind) for p in module.parameters())


@pytest.mark.parametrize(
    ("method", "adapters", "norms"), [(Houlsby(), 2_379_264, 36_864), (Pfeiffer(), 894_528, 0)], ids=["two", "one"]
)
def test_parameters_of_adapters_and_of_norms(method, adapters, norms):
    with torch.device("meta"):
        encoder = method(base())
    assert parts(encoder, Adapter) == adapters and learning(encoder) == adapters + norms
    assert norms in (0, parts(encoder.trunk.blocks, nn.LayerNorm))


def bottlenecked(adapter: Adapter, x: torch.Tensor, f) -> torch.Tensor:
    """The adapter's sum for one token."""
    down, up = adapter.down, adapter.up
    return up.weight @ f(down.weight @ x + down.bias) + up.bias


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_houlsby_is_of_both_sublayers_before_they_are_added(norm):
    block = off_the_start(Houlsby(bottleneck=3)(small(norm=norm)).eval()).trunk.blocks[1]
    x, pre = torch.randn(1, 4, 8), norm == "pre"
    attention, mlp, plain = block.attention, block.down.adapter, small(norm=norm).trunk.blocks[1]
    with torch.no_grad():
        mixed, _, _ = plain.attention(block.attention_norm(x) if pre else x, None, False)
        found = []
        for i in range(4):
            y = mixed[0, i] + bottlenecked(attention.out.adapter, mixed[0, i], F.gelu)
            s = x[0, i] + y if pre else block.attention_norm(x[0, i] + y)
            z = plain.mlp(block.mlp_norm(s) if pre else s)
            s = s + z + bottlenecked(mlp, z, F.gelu)
            found.append(s if pre else block.mlp_norm(s))
        got, _, _ = block(x, None, False)
    assert torch.allclose(got[0], torch.stack(found), atol=1e-5)


@pytest.mark.parametrize("norm", ["post", "pre"])
def test_pfeiffer_is_after_the_perceptron(norm):
    block = off_the_start(Pfeiffer(bottleneck=3)(small(norm=norm)).eval()).trunk.blocks[1]
    x, plain = torch.randn(1, 4, 8), small(norm=norm).trunk.blocks[1]
    assert isinstance(block.down, AdaptedLinear) == (norm == "pre")
    with torch.no_grad():
        mixed, _, _ = plain.attention(plain.attention_norm(x) if norm == "pre" else x, None, False)
        found = []
        for i in range(4):
            s = x[0, i] + mixed[0, i]
            if norm == "pre":
                z = plain.mlp(plain.mlp_norm(s))
                found.append(s + z + bottlenecked(block.down.adapter, z, F.relu))
                continue
            s = plain.attention_norm(s)
            s = s + plain.mlp(s)
            found.append(plain.mlp_norm(s + bottlenecked(block.mlp_norm.adapter, plain.mlp_norm(s), F.relu)))
        got, _, _ = block(x, None, False)
    assert torch.allclose(got[0], torch.stack(found), atol=1e-5)


def test_adapters_begin_with_small_weights_and_zeros():
    adapter = Adapter(64, 32, "relu")
    assert 0 < float(adapter.down.weight.detach().abs().max()) <= 0.02
    assert float(adapter.down.weight.detach().std()) == pytest.approx(0.0088, rel=0.1), "cut off at two deviations"
    assert not any(bool(p.any()) for p in (adapter.down.bias, adapter.up.weight, adapter.up.bias))
    x = torch.randn(5, 64)
    assert torch.equal(x + adapter(x), x)
