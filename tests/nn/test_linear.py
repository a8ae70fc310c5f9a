"""Products by oneDNN against torch's own: values, gradients of both orders, strides; and when they are used."""

import pytest
import torch
import torch.nn.functional as F

from sslzoo.nn import linear as module
from sslzoo.nn.linear import Linear, product, uses_onednn

needs_onednn = pytest.mark.skipif(not torch.backends.mkldnn.is_available(), reason="torch was built without oneDNN")


def given(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(sum(shape)))


@pytest.fixture
def everywhere(monkeypatch):
    """Every product by oneDNN, whatever the processor and the size."""
    monkeypatch.setattr(module, "ONEDNN_IS_FASTER", True)
    monkeypatch.setattr(module, "LEAST", 0)


@needs_onednn
@pytest.mark.parametrize("turn_a", [False, True])
@pytest.mark.parametrize("turn_b", [False, True])
@pytest.mark.parametrize("part", [False, True])
def test_product_of_any_strides(turn_a, turn_b, part):
    a, b = given(19, 70), given(70, 33)
    a, b = (a.t().contiguous().t() if turn_a else a), (b.t().contiguous().t() if turn_b else b)
    a, b = (a[:, 3:67], b[3:67]) if part else (a, b)
    torch.testing.assert_close(product(a, b), a @ b, atol=1e-4, rtol=1e-5)


@needs_onednn
@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("shape", [(24,), (5, 24), (2, 3, 24)])
def test_values_and_gradients_are_torchs(everywhere, bias, shape):
    ours, theirs = Linear(24, 40, bias), torch.nn.Linear(24, 40, bias)
    theirs.load_state_dict(ours.state_dict())
    x = given(*shape)
    a, b = (x.clone().requires_grad_() for _ in range(2))
    weights = given(*shape[:-1], 40)
    (ours(a) * weights).sum().backward(), (theirs(b) * weights).sum().backward()
    torch.testing.assert_close(ours(a), theirs(b), atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(a.grad, b.grad, atol=1e-5, rtol=1e-5)
    for p, q in zip(ours.parameters(), theirs.parameters(), strict=True):
        torch.testing.assert_close(p.grad, q.grad, atol=1e-5, rtol=1e-5)


@needs_onednn
def test_the_gradient_of_a_gradient_is_torchs(everywhere):
    weight, found = given(40, 24).requires_grad_(), []
    for layer in (module.linear, F.linear):
        x = given(5, 24).requires_grad_()
        [grad] = torch.autograd.grad(layer(x, weight).square().sum(), x, create_graph=True)
        found.append(torch.autograd.grad(grad.square().sum(), (x, weight)))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-2, rtol=1e-4)  # of values of up to 10^5


@needs_onednn
def test_compiled_it_is_one_graph_and_the_same(everywhere):
    torch.library.opcheck(module._opaque_product, (given(5, 24), given(40, 24).t()))
    layer, found = Linear(24, 40), []
    for call in (layer, torch.compile(layer, backend="aot_eager", fullgraph=True)):
        x = given(5, 24).requires_grad_()
        y = call(x)
        found.append((y, *torch.autograd.grad(y.square().sum(), (x, *layer.parameters()))))
    for ours, theirs in zip(*found, strict=True):
        torch.testing.assert_close(ours, theirs, atol=1e-4, rtol=1e-5)


def test_a_frozen_weight_gets_no_gradient(everywhere):
    layer = Linear(24, 40).requires_grad_(False)
    x = given(5, 24).requires_grad_()
    layer(x).sum().backward()
    assert layer.weight.grad is None and layer.bias.grad is None and x.grad.shape == x.shape


def test_where_it_is_used(everywhere):
    x, weight = given(5, 24), given(40, 24)
    assert uses_onednn(x, weight)
    assert not uses_onednn(x.double(), weight.double()) and not uses_onednn(x.half(), weight.half())
    with torch.autocast("cpu", torch.bfloat16):
        assert not uses_onednn(x, weight)


def test_small_products_are_torchs_own(monkeypatch):
    monkeypatch.setattr(module, "ONEDNN_IS_FASTER", True)
    assert not uses_onednn(given(5, 24), given(40, 24))
