"""Jigsaw: which tiles are cut, how they are normalised and shuffled,
and the loss and its gradient against a slow loop."""

import copy
import math

import pytest
import torch
from conftest import tiny

from sslzoo import rng
from sslzoo.build import build
from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError
from sslzoo.nn.permutations import distant_permutations


def job(*overrides: str):
    return build(tiny("jigsaw", "data.size=32", *overrides))


def batch_of(images: torch.Tensor) -> Batch:
    n = len(images)
    seeds = torch.tensor([rng.derive_seed(0, row) for row in range(n)])
    return Batch(images, torch.ones(n).long(), seeds, torch.arange(n))


def noise(n: int, size: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return batch_of(torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8))


def coordinates(n: int, size: int = 32) -> Batch:
    """Images whose first channel says how far down a pixel is, and the second how far to the right."""
    at = torch.arange(size) / size
    image = torch.stack([at[:, None].expand(size, size), at.expand(size, size), at[:, None].expand(size, size)])
    return batch_of(image.expand(n, -1, -1, -1))


def test_permutations_are_those_of_a_slow_search():
    from itertools import permutations

    def apart(a, b):
        return sum(x != y for x, y in zip(a, b, strict=True))

    every, chosen = list(permutations(range(4))), [(0, 1, 2, 3)]
    while len(chosen) < 9:
        rest = [p for p in every if p not in chosen]
        chosen.append(max(rest, key=lambda p: (sum(apart(p, q) for q in chosen), min(apart(p, q) for q in chosen))))
    assert distant_permutations(4, 9).tolist() == [list(p) for p in chosen]
    nine = distant_permutations(9, 9)
    assert all((nine[:, place].sort().values == torch.arange(9)).all() for place in range(9)), "all differ everywhere"


@pytest.mark.parametrize("shift", [0, 2])
def test_tiles_lie_in_their_cells_and_channels_are_shifted(shift):
    made = job("objective.gray=0", f"objective.shift={shift}", "objective.tile=8").objective
    tiles = made.tiles(coordinates(3000)) * 32
    inside = torch.arange(8.0)
    first = torch.stack([tiles[:, :, 0, 0, 0], tiles[:, :, 1, 0, 0], tiles[:, :, 2, 0, 0]], -1)  # down, right, down
    assert torch.equal(tiles[:, :, 0], first[..., 0, None, None] + inside[:, None].expand(8, 8)), "whole tiles"
    place = torch.arange(9)
    cell = torch.stack([place // 3, place % 3, place // 3], -1) * 10
    low, high = (first - cell).amin(0), (first - cell).amax(0)
    assert (low >= -shift).all() and (high <= 2 + shift).all()
    assert (low[4] == -shift).all() and (high[4] == 2 + shift).all(), "every place is reached"
    between = (first[..., 0] - first[..., 2]).abs()
    assert between.max() == 2 * shift and first.min() >= 0 and first.max() + 8 <= 32


def test_each_tile_has_zero_mean_and_unit_deviation_for_the_encoder():
    made = job("data.mean=[0.2,0.5,0.7]", "data.std=[0.1,0.2,0.3]")
    tiles = made.objective.normalized(made.objective.tiles(noise(20)))
    seen = (tiles - made.encoder.mean) / made.encoder.std
    assert seen.mean((3, 4)).abs().max() < 1e-4
    torch.testing.assert_close(seen.var((3, 4), correction=0), torch.ones(20, 9, 3), atol=1e-3, rtol=0)
    flat = made.objective.normalized(torch.full((1, 9, 3, 8, 8), 0.3))
    assert torch.isfinite(flat).all(), "a tile of one colour"


def test_a_share_of_the_images_is_grey():
    tiles = job("objective.gray=0.3").objective.tiles(noise(2000))
    same = (tiles[:, :, 0] == tiles[:, :, 1]).flatten(1).all(1)
    assert float(same.float().mean()) == pytest.approx(0.3, abs=0.03)
    grey = build(tiny("jigsaw", "data.size=32", "data.channels=1"))
    assert grey.objective.tiles(batch_of(noise(3).inputs[:, :1])).shape == (3, 9, 1, 8, 8)


def test_shuffled_tiles_are_in_the_order_that_is_asked():
    made, given = job().objective, noise(50)
    tiles, (shuffled, target) = made.tiles(given), made.shuffled(given)
    for row in range(50):
        for place, tile in enumerate(made.permutations[target[row]].tolist()):
            assert torch.equal(shuffled[row, place], tiles[row, tile])
    assert target.bincount(minlength=5).min() > 0


def test_loss_and_gradient_are_the_slow_loop():
    """Tile by tile in float64, with the head written out."""
    made, given = job(), noise(4)
    encoder, objective = made.encoder.eval(), made.objective.eval()
    _, norm, _, _ = objective.head
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    slow, head = copy.deepcopy(encoder).double(), copy.deepcopy(objective.head).double()
    tiles, target = objective.shuffled(given)
    total, right = torch.zeros((), dtype=torch.float64), 0
    for image, asked in zip(tiles.double(), target.tolist(), strict=True):
        seen = []
        for tile in image:
            centred = torch.stack([(c - c.mean()) / (c.var(correction=0) + 1e-6).sqrt() for c in tile])
            seen.append(slow((centred * objective.std + objective.mean)[None], torch.ones(1).long()).pooled[0])
        up, norm, _, out = head
        hidden = up.weight @ torch.cat(seen) + up.bias
        hidden = (hidden - norm.running_mean) / (norm.running_var + norm.eps).sqrt() * norm.weight + norm.bias
        scores = out.weight @ hidden.clamp(min=0) + out.bias
        total = total - scores[asked] + torch.log(sum(torch.exp(s) for s in scores))
        right += int(scores.argmax()) == asked
    (total / 4).backward()
    loss = objective(encoder, given, 0)
    loss.value.backward()
    assert loss.count == 4 and float(loss.value) == pytest.approx(float(total) / 4, abs=1e-5)
    for (name, fast), exact in zip(encoder.named_parameters(), slow.parameters(), strict=True):
        torch.testing.assert_close(fast.grad.double(), exact.grad, atol=1e-5, rtol=1e-3, msg=name)
    for fast, exact in zip(objective.head.parameters(), head.parameters(), strict=True):
        torch.testing.assert_close(fast.grad.double(), exact.grad, atol=1e-5, rtol=1e-3)
    logs = loss.logs()
    assert float(logs["accuracy"]) == pytest.approx(right / 4) and logs["uniform_loss"] == math.log(5)


@pytest.mark.parametrize("encoder", ["tiny_resnet", "tiny_image"])
def test_it_works_at_32_pixels(encoder):
    made = build(tiny("jigsaw", "data.size=32", f"encoder={encoder}"))
    assert made.objective.tile == 8 and made.objective.shift == 0
    assert torch.isfinite(made.objective(made.encoder, noise(3), 0).value)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.tile=11"], "set objective.tile=10 or less"),
        (["objective.permutations=1"], "choose between 2 and so many, got 1"),
        (["encoder=tiny_image", "objective.tile=7"], "set objective.size=8"),
        (["objective.shift=-1"], "shift >= 0"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        job(*overrides)


def test_the_report_shows_the_picture_that_the_named_order_makes():
    from sslzoo.report.visualizations import layout

    made, given = job(), noise(3)
    shown = made.objective.eval().visualize(made.encoder.eval(), given, 0)
    shown["prediction"] = shown["target"].clone()
    shown["prediction"][0] = (shown["prediction"][0] + 1) % 5
    drawn = layout(shown)
    whole = made.objective.tiles(given)[1].view(3, 3, 3, 8, 8).permute(2, 0, 3, 1, 4).reshape(3, 24, 24)
    assert torch.equal(torch.from_numpy(drawn["images"][3]), whole), "the second image, put together again"
    assert drawn["captions"][3] == "9 of 9 tiles in place" and drawn["right"].tolist()[::2] == [False, True, True]
