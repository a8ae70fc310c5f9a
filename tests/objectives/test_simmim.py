"""SimMIM: which patches are masked and how, and the loss and its gradient against a slow loop in float64."""

import copy

import pytest
import torch
from conftest import tiny

from sslzoo import rng
from sslzoo.build import build
from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError


def batch_of(n: int = 3, size: int = 16) -> Batch:
    images = torch.randint(0, 256, (n, 3, size, size), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    seeds = torch.tensor([rng.derive_seed(7, i) for i in range(n)])
    return Batch(images, torch.ones(n).long(), seeds, torch.arange(n))


def job(*overrides: str):
    return build(tiny("simmim", "objective.views=null", *overrides))


def test_whole_squares_are_masked_and_as_many_in_each_row():
    mask = job("data.size=32", "objective.ratio=0.6").objective.mask(batch_of(200).row_seeds)
    grid = mask.view(200, 4, 2, 4, 2)
    assert (grid == grid[:, :, :1, :, :1]).all(), "two patches by two"
    assert (mask.sum(1) == 4 * 10).all(), "the ceiling of .6 of 16 squares"
    assert mask.float().mean(0).std() < 0.06, "everywhere as often"


def test_what_is_masked_reaches_the_target_alone(monkeypatch):
    made, given = job(), batch_of()
    seen, whole = [], made.encoder.contextualize
    monkeypatch.setattr(made.encoder, "contextualize", lambda x, *more: seen.append(x) or whole(x, *more))
    first = made.objective(made.encoder, given, 0)
    grid = made.objective.mask(given.row_seeds).view(3, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    given.inputs = torch.where(grid, 255 - given.inputs, given.inputs)
    second = made.objective(made.encoder, given, 0)
    assert torch.equal(seen[0], seen[1]) and seen[0].shape == (3, 17, 16), "the trunk sees every place"
    assert float(first.value) != float(second.value)


def test_loss_and_gradient_are_the_slow_loop():
    """Patch by patch in float64: a mask token at its patch's position, and the mean over masked pixels alone."""
    made, given = job(), batch_of()
    encoder, objective = made.encoder, made.objective
    slow, head = copy.deepcopy(encoder).double(), copy.deepcopy(objective.head).double()
    token = objective.mask_token.detach().double().requires_grad_()
    mask = objective.mask(given.row_seeds)
    images = (given.inputs.double() / 255 - slow.frontend.mean) / slow.frontend.std
    total, pixels = torch.zeros((), dtype=torch.float64), 0
    for image, hidden in zip(images, mask.tolist(), strict=True):
        tokens, patches = [slow.frontend.cls_token + slow.frontend.position_embedding[0]], []
        for place, out in enumerate(hidden):
            top, left = place // 4 * 4, place % 4 * 4
            patches.append(image[:, top : top + 4, left : left + 4].permute(1, 2, 0).reshape(-1))
            embedded = token if out else slow.frontend.linear(patches[-1])
            tokens.append(embedded + slow.frontend.position_embedding[1 + place])
        last = slow.contextualize(torch.stack(tokens)[None], torch.tensor([17])).last[0]
        for place, out in enumerate(hidden):
            if out:
                for guess, value in zip(head(last[1 + place]), patches[place], strict=True):
                    total, pixels = total + (guess - value).abs(), pixels + 1
    (total / pixels).backward()
    loss = objective(encoder, given, 0)
    loss.value.backward()
    assert loss.count == int(mask.sum()) and float(loss.value) == pytest.approx(float(total) / pixels, rel=1e-5)
    pairs = [(objective.mask_token, token), *zip(encoder.parameters(), slow.parameters(), strict=True)]
    for fast, exact in [*pairs, *zip(objective.head.parameters(), head.parameters(), strict=True)]:
        torch.testing.assert_close(fast.grad.double(), exact.grad, atol=2e-6, rtol=1e-3)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.ratio=1.0"], "masks 4 of 4 squares"),
        (["objective.unit=3"], r"does not divide the 4 patches of an image's side: choose one of \[1, 2, 4\]"),
        (["encoder=tiny_resnet"], "needs an encoder with patches and tokens"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build(tiny("simmim", *overrides))
