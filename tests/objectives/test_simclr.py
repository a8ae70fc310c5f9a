"""SimCLR from images to loss, against a slow loop."""

import math

import pytest
import torch
from conftest import tiny

from sslzoo import rng
from sslzoo.build import build
from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError


def batch(n: int = 6) -> Batch:
    images = torch.randint(0, 256, (n, 3, 16, 16), generator=torch.Generator().manual_seed(0), dtype=torch.uint8)
    return Batch(images, torch.ones(n).long(), torch.tensor([rng.derive_seed(0, i) for i in range(n)]), torch.arange(n))


@torch.no_grad()
def test_the_loss_is_the_papers():
    """Algorithm 1: two views of each image, encoded and projected, and l(2k-1, 2k) + l(2k, 2k-1) over 2N."""
    job, given, t = build(tiny("simclr", "objective.temperature=0.3")), batch(), 0.3
    encoder, objective = job.encoder.eval(), job.objective.eval()
    z = []
    for row in range(6):
        for name in ("view a", "view b"):
            view = objective.views(given.inputs[row : row + 1], given.row_seeds[row : row + 1], name)
            vector = objective.projector(encoder(view, torch.ones(1).long()).pooled)[0].double()
            z.append(vector / vector.norm())
    total, right = 0.0, 0
    for i in range(12):
        scores = [float(z[i] @ z[k]) / t for k in range(12)]
        positive = scores[i ^ 1]
        others = [s for k, s in enumerate(scores) if k != i]
        total -= math.log(math.exp(positive) / sum(map(math.exp, others)))
        right += positive == max(others)
    loss = objective(encoder, given, 1)
    assert loss.count == 12
    assert float(loss.value) == pytest.approx(total / 12, abs=1e-5)
    assert float(loss.logs()["accuracy"]) == pytest.approx(right / 12)


def test_one_batch_norm_sees_both_views():
    job, seen = build(tiny("simclr")), []
    job.encoder.register_forward_hook(lambda m, args, out: seen.append(len(args[0])))
    job.objective(job.encoder.train(), batch(), 0)
    assert seen == [12]


def test_the_representations_whose_health_is_measured_are_those_of_both_views():
    job = build(tiny("simclr"))
    loss = job.objective(job.encoder, batch(), 0)
    assert loss.features.shape == (2 * len(batch()), job.encoder.dim)


@pytest.mark.parametrize("temperature", [0, -0.1])
def test_refuses_a_temperature_of_nothing(temperature):
    with pytest.raises(ConfigError, match="objective.temperature must be above 0"):
        build(tiny("simclr", f"objective.temperature={temperature}"))
