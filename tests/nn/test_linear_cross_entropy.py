"""The chunked cross-entropy against torch's over all logits: value, gradients, what is ignored, precision."""

import pytest
import torch
import torch.nn.functional as F

from sslzoo.nn.linear_cross_entropy import LinearCrossEntropy

N, D, V = 23, 8, 37


def given(dtype=torch.float32, bias=True):
    g = torch.Generator().manual_seed(0)
    hidden, weight = (torch.randn(n, D, generator=g, dtype=torch.float64).to(dtype) for n in (N, V))
    shift = torch.randn(V, generator=g, dtype=torch.float64).to(dtype) if bias else None
    target = torch.randint(0, V, (N,), generator=g)
    target[[0, 5, 6, 22]] = -100
    return hidden.requires_grad_(), weight.requires_grad_(), target, shift if shift is None else shift.requires_grad_()


def slow(hidden, weight, target, bias):
    logits = F.linear(hidden, weight, bias).float()
    return F.cross_entropy(logits, target, reduction="sum")


@pytest.mark.parametrize("bias", [True, False])
@pytest.mark.parametrize("chunk", [1, 4, N, 100])
def test_value_and_gradients_are_those_of_all_logits(bias, chunk):
    a, b = given(bias=bias), given(bias=bias)
    total, expected = LinearCrossEntropy(chunk * V)(*a), slow(*b)
    assert total.dtype == torch.float32 and total.shape == ()
    torch.testing.assert_close(total, expected)
    (3 * total).backward(), (3 * expected).backward()
    for x, y in zip(a, b, strict=True):
        if x is not None and x.is_floating_point():
            torch.testing.assert_close(x.grad, y.grad, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize(
    "needs", [(True, True, True), (True, False, False), (False, True, False), (False, False, True)]
)
def test_gradients_in_float64_where_they_are_needed(needs):
    a, b = given(torch.float64), given(torch.float64)
    for hidden, weight, _, bias in (a, b):
        for x, need in zip((hidden, weight, bias), needs, strict=True):
            x.requires_grad_(need)
    total = LinearCrossEntropy(5 * V)(*a)
    F.cross_entropy(F.linear(b[0], b[1], b[3]), b[2], reduction="sum").backward()
    total.backward(retain_graph=True)
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x.grad, y.grad, atol=1e-12, rtol=1e-12)
    with pytest.raises(RuntimeError, match="inplace"):  # the gradients were scaled in place
        total.backward()


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_is_torchs(dtype):
    """Half products, float32 softmax: as near to float32 as torch's own under autocast; gradients are float32."""
    a, b, exact = given(), given(), given()
    with torch.autocast("cpu", dtype):
        total, expected = LinearCrossEntropy(5 * V)(*a), slow(*b)
    slow(*exact).backward(), total.backward(), expected.backward()
    torch.testing.assert_close(total, expected, atol=0, rtol=1e-3)
    for x, y, z in zip(a, b, exact, strict=True):
        if x.is_floating_point():
            assert x.grad.dtype == torch.float32
            assert (x.grad - z.grad).abs().max() < 2 * (y.grad - z.grad).abs().max()
            assert (x.grad - z.grad).abs().max() > 0


def test_large_logits_and_tiny_chances_are_finite():
    hidden, weight = torch.tensor([[1e4, 0.0]]).requires_grad_(), torch.tensor([[1.0, 0.0], [-1.0, 0.0], [0.9, 0.0]])
    total = LinearCrossEntropy()(hidden, weight, torch.tensor([1]))
    assert float(total) == pytest.approx(2e4)
    total.backward()
    torch.testing.assert_close(hidden.grad, torch.tensor([[2.0, 0.0]]))


@pytest.mark.parametrize("kept", [0, N])
def test_nothing_or_no_gradient(kept):
    """No target at all costs nothing; without gradients none is formed."""
    hidden, weight, target, bias = given()
    total = LinearCrossEntropy()(hidden[:kept], weight, target[:kept].fill_(-100), bias)
    assert float(total) == 0
    total.backward()
    assert (weight.grad == 0).all() and (bias.grad == 0).all()
    with torch.no_grad():
        assert not LinearCrossEntropy()(*given()).requires_grad


def test_a_chunk_of_logits_is_all_that_is_held(monkeypatch):
    """No tensor of more than `max_logits` elements is made but the weight's gradient."""
    from torch.utils._python_dispatch import TorchDispatchMode

    sizes = []

    class Sizes(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, args=(), kwargs=None):
            made = function(*args, **(kwargs or {}))
            sizes.append(made.numel() if isinstance(made, torch.Tensor) else 0)
            return made

    args = given()
    with Sizes():
        LinearCrossEntropy(9 * V)(*args).backward()
    assert max(sizes) == 8 * V < N * V  # three chunks of up to 8 tokens
