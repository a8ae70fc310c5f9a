"""SimSiam, Barlow Twins and VICReg from a batch to a loss; the losses themselves are held to slow loops in
tests/parts/test_siamese.py."""

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of, gradients

from sslzoo.build import build
from sslzoo.nn.siamese import barlow_twins, vicreg


def projections(job, batch):
    """Each view by itself through encoder and projector, in training mode."""
    views = job.objective.views.draw(job.encoder, batch).views
    return [job.objective.projector(job.encoder(view, batch.lengths).pooled) for view in views]


def test_simsiams_loss_is_the_papers():
    job = build(tiny("simsiam"))
    batch, objective = batch_of(job, 0), job.objective
    loss = objective(job.encoder, batch, 0)
    z1, z2 = projections(job, batch)
    total = 0.0
    for one, other in ((z1, z2), (z2, z1)):
        for p, z in zip(objective.predictor(one).double(), other.double(), strict=True):
            total -= float(p @ z) / float(p.norm() * z.norm()) / 2
    assert float(loss.value) == pytest.approx(total / len(batch), abs=1e-5)
    assert loss.count == len(batch) and loss.features.shape == (len(batch), job.encoder.dim)


def test_simsiam_stops_the_gradient_at_the_target():
    """As if the targets were numbers."""
    job = build(tiny("simsiam"))
    a, b = (torch.randn(6, 16, generator=torch.Generator().manual_seed(i), requires_grad=True) for i in (0, 1))
    value, _ = job.objective.loss(a, b, None)
    value.backward()
    p = job.objective.predictor(a)
    first = torch.nn.functional.cosine_similarity(p, b.detach()).mean() / -2
    [expected] = torch.autograd.grad(first, a)
    torch.testing.assert_close(a.grad, expected)


def test_simsiams_heads_are_the_references():
    """Three layers that end in a norm without weights, and a predictor that ends in none."""
    job = build(tiny("simsiam"))
    projector, predictor = job.objective.projector, job.objective.predictor
    assert [m.out_features for m in projector if isinstance(m, torch.nn.Linear)] == [32, 32, 16]
    assert projector[-1].weight is None and projector[1].weight is not None
    assert [m.out_features for m in predictor if isinstance(m, torch.nn.Linear)] == [8, 16]
    assert isinstance(predictor[-1], torch.nn.Linear)


@pytest.mark.parametrize("objective", ["barlow", "vicreg"])
def test_the_terms_are_weighed(objective):
    weights = {"barlow": ["redundancy=0.3"], "vicreg": ["invariance=5.0", "variance=7.0", "covariance=2.0"]}[objective]
    job = build(tiny(objective, *(f"objective.{weight}" for weight in weights)))
    batch = batch_of(job, 0)
    loss = job.objective(job.encoder, batch, 0)
    a, b = projections(job, batch)
    terms = barlow_twins(a, b) if objective == "barlow" else vicreg(a, b)
    expected = sum(w * x for w, x in zip({"barlow": (1, 0.3), "vicreg": (5, 7, 2)}[objective], terms, strict=True))
    assert float(loss.value) == pytest.approx(float(expected), rel=1e-5)
    assert [float(x) for x in loss.logs().values()] == pytest.approx([float(x) for x in terms], rel=1e-5)


@pytest.mark.parametrize("objective", ["barlow", "vicreg"])
def test_the_projector_ends_without_norm_or_bias(objective):
    head = build(tiny(objective)).objective.projector
    assert [m.out_features for m in head if isinstance(m, torch.nn.Linear)] == [32, 32, 16]
    assert isinstance(head[-1], torch.nn.Linear) and head[-1].bias is None


@pytest.mark.parametrize("objective", ["simsiam", "barlow", "vicreg"])
def test_they_take_spectrograms_with_their_views(objective):
    views = "objective.views={_target_: sslzoo.augment.spectrogram_views.SpectrogramViews, frames: 24}"
    job = build(tiny(objective, "data=tiny_speech", "encoder=tiny_speech", "~objective.views", f"+{views}"))
    logs, grads = gradients(job, batch_of(job, 0))
    assert logs["loss"] == logs["loss"] and any(bool(g.abs().sum() > 0) for g in grads.values())
