"""Rotation's labels, as torch.rot90 turns, and its loss against a slow one."""

import math

import pytest
import torch
from conftest import tiny

from sslzoo import rng
from sslzoo.build import build
from sslzoo.data.base import Batch


def batch(n: int = 3) -> Batch:
    images = torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Batch(images, torch.ones(n).long(), torch.tensor([rng.derive_seed(0, i) for i in range(n)]), torch.arange(n))


def test_labels_count_quarter_turns_to_the_left():
    """A mark in the top left corner goes down, to the right, up, as its label says."""
    job, given = build(tiny("rotation", "objective.views=null")), batch(2)
    given.inputs[:] = 0
    given.inputs[:, :, 0, 0] = 255
    images, angles = job.objective.rotated(given)
    assert angles.tolist() == [0, 1, 2, 3] * 2
    corners = {0: (0, 0), 1: (-1, 0), 2: (-1, -1), 3: (0, -1)}
    for image, angle in zip(images, angles.tolist(), strict=True):
        assert (image[:, corners[angle][0], corners[angle][1]] == 255).all() and int(image.long().sum()) == 3 * 255


def test_turning_back_gives_the_image():
    job, given = build(tiny("rotation", "objective.views=null")), batch()
    images, angles = job.objective.rotated(given)
    for number, (image, angle) in enumerate(zip(images, angles.tolist(), strict=True)):
        assert torch.equal(torch.rot90(image, -angle, (1, 2)), given.inputs[number // 4])


@torch.no_grad()
def test_the_loss_is_the_papers():
    """Equation 2: the mean over images and angles of -log F(g(x|y))_y, each image run by itself."""
    job, given = build(tiny("rotation", "objective.views=null")), batch()
    encoder, objective = job.encoder.eval(), job.objective.eval()
    total, right = 0.0, 0
    for image in given.inputs:
        for angle in range(4):
            turned = torch.rot90(image, angle, (1, 2))[None]
            pooled = encoder(turned, torch.ones(1).long()).pooled[0].double()
            scores = (objective.head.weight.double() @ pooled + objective.head.bias.double()).tolist()
            total -= math.log(math.exp(scores[angle]) / sum(map(math.exp, scores)))
            right += scores[angle] == max(scores)
    loss = objective(encoder, given, 0)
    assert loss.count == 12
    assert float(loss.value) == pytest.approx(total / 12, abs=1e-5)
    assert float(loss.logs()["accuracy"]) == pytest.approx(right / 12) and loss.logs()["chance"] == 0.25


def test_views_come_before_the_turn():
    views = "objective.views={_target_: sslzoo.augment.image_views.ImageViews, jitter: 0.5}"
    job, given = build(tiny("rotation", views)), batch()
    images, _ = job.objective.rotated(given)
    torch.testing.assert_close(images[::4], job.objective.views(given.inputs, given.row_seeds, "view"))
    assert torch.equal(torch.rot90(images[0], 1, (1, 2)), images[1])
