"""Context prediction: which patches are cut, what of their colours is kept, and the loss against a slow one."""

import math

import pytest
import torch
from conftest import tiny

from sslzoo import rng
from sslzoo.build import build
from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError

STEPS = [(-1, -1), (-1, 0), (-1, 1), (0, -1), (0, 1), (1, -1), (1, 0), (1, 1)]  # down, right


def job(*overrides: str):
    return build(tiny("context", "data.size=32", *overrides))


def keys_of(n: int) -> torch.Tensor:
    return torch.tensor([rng.derive_seed(0, row) for row in range(n)])


def batch_of(images: torch.Tensor) -> Batch:
    n = len(images)
    return Batch(images, torch.ones(n).long(), keys_of(n), torch.arange(n))


def noise(n: int, size: int = 32) -> Batch:
    generator = torch.Generator().manual_seed(0)
    return batch_of(torch.randint(0, 256, (n, 3, size, size), generator=generator, dtype=torch.uint8))


def coordinates(n: int, size: int = 32) -> Batch:
    """Images whose first channel says how far down a pixel is, and the second how far to the right."""
    at = torch.arange(size) / size
    image = torch.stack([at[:, None].expand(size, size), at.expand(size, size), torch.zeros(size, size)])
    return batch_of(image.expand(n, -1, -1, -1))


def corners(patches: torch.Tensor, size: int = 32) -> torch.Tensor:
    """Where in `coordinates` patches begin [N, 2], once they are found to be whole."""
    where = (patches[:, :2] * size).round().long()
    inside = torch.arange(patches.shape[-1])
    first = where[:, :, 0, 0]
    assert torch.equal(where[:, 0], (first[:, 0, None, None] + inside[:, None]).expand_as(where[:, 0]))
    assert torch.equal(where[:, 1], (first[:, 1, None, None] + inside).expand_as(where[:, 1]))
    return first


@pytest.mark.parametrize(("patch", "gap", "jitter"), [(7, 3, 1), (8, 4, 0), (5, 4, 2), (10, 0, 0)])
def test_a_neighbour_lies_where_its_label_says(patch, gap, jitter):
    sizes = [f"objective.patch={patch}", f"objective.gap={gap}", f"objective.jitter={jitter}"]
    a, b, place = job(*sizes, "objective.drop=false").objective.pairs(coordinates(4000))
    centre, neighbour = corners(a), corners(b)
    expected = torch.tensor(STEPS)[place] * (patch + gap)
    moved = neighbour - centre - expected
    assert sorted(moved.unique().tolist()) == list(range(-2 * jitter, 2 * jitter + 1)), "both move by themselves"
    assert torch.corrcoef(moved.T.float())[0, 1].abs() < 0.06 or jitter == 0, "down and right as well"
    apart = (neighbour - centre).abs().amax(1)
    assert apart.min() >= patch, "patches never overlap"
    assert neighbour.min() >= 0 and neighbour.max() + patch <= 32
    # the centre is where a whole grid around it fits, wherever that is
    low, high = jitter + patch + gap, 32 - jitter - gap - 2 * patch
    assert centre.amin(0).tolist() == [low - jitter] * 2 and centre.amax(0).tolist() == [high + jitter] * 2


def test_every_side_is_as_likely_and_nothing_else_tells_it():
    a, _, place = job("objective.drop=false").objective.pairs(coordinates(16_000))
    share = place.bincount(minlength=8) / len(place)
    assert share.tolist() == pytest.approx([1 / 8] * 8, abs=0.01)
    centre = corners(a).float()
    means = torch.stack([centre[place == side].mean(0) for side in range(8)])
    assert (means - centre.mean(0)).abs().max() < 0.15, "the centre's place in the image says nothing"


def test_of_each_patch_one_channel_is_kept():
    made, given = job("data.mean=[0.2,0.5,0.7]"), noise(3000)
    plain, dropped = (
        job(f"objective.drop={drop}", "data.mean=[0.2,0.5,0.7]").objective.pairs(given)[:2]
        for drop in ("false", "true")
    )
    kept_of = []
    for whole, patches in zip(plain, dropped, strict=True):
        same = (whole == patches).flatten(2).all(2)
        assert (same.sum(1) == 1).all(), "the one that is kept is as it was"
        kept_of.append(kept := same.long().argmax(1))
        assert (kept.bincount(minlength=3) / 3000).tolist() == pytest.approx([1 / 3] * 3, abs=0.03)
        scale = whole.std((2, 3), correction=0)[same].view(-1, 1, 1, 1)
        z = (patches - made.objective.mean) / (0.01 * scale)
        z = z[~same]
        assert float(z.mean()) == pytest.approx(0, abs=0.01) and float(z.std()) == pytest.approx(1, abs=0.01)
        assert z.abs().max() < 7 and (z[0::2] != z[1::2]).any(), "noise, and not the same in both channels"
    agree = (kept_of[0] == kept_of[1]).float().mean()
    assert float(agree) == pytest.approx(1 / 3, abs=0.03), "drawn for each patch"


def test_grey_images_have_nothing_to_drop():
    made = build(tiny("context", "data.size=32", "data.channels=1"))
    given = batch_of(noise(5).inputs[:, :1])
    a, b, _ = made.objective.pairs(given)
    assert a.shape == b.shape == (5, 1, 7, 7)
    assert torch.equal(a * 255, (a * 255).round()), "its own values"
    assert torch.isfinite(made.objective(made.encoder, given, 0).value)


def test_a_pair_does_not_depend_on_the_batch():
    made, given = job(), noise(9)
    whole = made.objective.pairs(given)
    for row in (0, 5, 8):
        alone = Batch(
            given.inputs[row : row + 1], torch.ones(1).long(), given.row_seeds[row : row + 1], torch.tensor([row])
        )
        for one, all_ in zip(made.objective.pairs(alone), whole, strict=True):
            torch.testing.assert_close(one[0], all_[row], atol=1e-6, rtol=0)


@torch.no_grad()
def test_the_loss_is_the_papers():
    """Pair by pair: both patches through one encoder, both features side by side to the head, in float64."""
    made, given = job(), noise(6)
    encoder, objective = made.encoder.eval(), made.objective.eval()
    up, norm, _, out = objective.head
    norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
    a, b, place = objective.pairs(given)
    total, right = 0.0, 0
    for centre, neighbour, side in zip(a, b, place.tolist(), strict=True):
        x, y = (encoder(patch[None], torch.ones(1).long()).pooled[0].double() for patch in (centre, neighbour))
        hidden = up.weight.double() @ torch.cat([x, y]) + up.bias.double()
        hidden = (hidden - norm.running_mean) / (norm.running_var.double() + norm.eps).sqrt() * norm.weight + norm.bias
        scores = (out.weight.double() @ hidden.clamp(min=0) + out.bias.double()).tolist()
        total -= scores[side] - math.log(sum(map(math.exp, scores)))
        right += scores[side] == max(scores)
    loss = objective(encoder, given, 0)
    assert loss.count == 6 and float(loss.value) == pytest.approx(total / 6, abs=1e-5)
    assert float(loss.logs()["accuracy"]) == pytest.approx(right / 6)
    assert loss.logs()["chance"] == 1 / 8 and loss.logs()["uniform_loss"] == math.log(8)
    assert torch.equal(objective.visualize(encoder, given, 0)["target"], place)


def test_patches_can_be_stretched():
    given = noise(4)
    small, large = (job(f"objective.size={size}", "objective.drop=false").objective.pairs(given)[0] for size in (7, 16))
    stretched = torch.nn.functional.interpolate(small, 16, mode="bilinear", align_corners=False)
    assert large.shape == (4, 3, 16, 16) and torch.equal(large, stretched)


@pytest.mark.parametrize("size", [16, 28, 32, 64, 96, 224])
def test_patches_that_fit_are_found_for_any_image(size):
    """The paper's proportions: a gap of half a patch, a jitter of 7 of 96; 96, 48 and 7 for the paper's own."""
    objective = job(f"data.size={size}").objective
    assert objective.room in range(7) and objective.gap == objective.patch // 2
    assert abs(objective.jitter - objective.patch * 7 / 96) <= 1
    paper = job("data.size=399").objective
    assert (paper.patch, paper.gap, paper.jitter) == (96, 48, 7)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        (["patch=10", "gap=2", "jitter=1"], "are 36 pixels, more than the image's 32: set objective.patch=8 or less"),
        (["patch=1", "gap=20", "jitter=0"], "set a smaller objective.gap and objective.jitter"),
        (["patch=6", "gap=1", "jitter=2"], "can overlap: set objective.gap=4 or objective.jitter=0"),
        (["patch=0", "gap=1", "jitter=0"], "objective.patch must be at least 1, got 0"),
        (["patch=7", "gap=-1", "jitter=0"], "patch >= 1, gap >= 0, jitter >= 0, size >= 1"),
        (["patch=7", "gap=1", "jitter=-1"], "patch >= 1, gap >= 0, jitter >= 0, size >= 1"),
        (["size=-8"], "patch >= 1, gap >= 0, jitter >= 0, size >= 1"),
    ],
)
def test_refuses_patches_that_cannot_be_cut(bad, said):
    with pytest.raises(ConfigError, match=said):
        job(*(f"objective.{b}" for b in bad))


def test_a_vision_transformer_takes_pieces_that_its_patches_divide():
    vit = "encoder=tiny_image"
    for good in ("objective.size=8", "objective.patch=4"):
        made = job(vit, good)
        made.objective(made.encoder, noise(4), 0).value.backward()
        assert all(p.grad is not None for p in made.encoder.parameters())
    with pytest.raises(ConfigError, match="4-pixel patches cannot take images of 7 pixels here: set objective.size=8$"):
        job(vit)
    with pytest.raises(ConfigError, match="cannot take images of 36 pixels here: set objective.size=32$"):
        job(vit, "objective.size=36")
