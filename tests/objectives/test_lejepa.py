"""LeJEPA and VISReg from a batch to a loss; their regularisers are held to slow loops in tests/nn/test_sketching.py."""

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of, gradients

from sslzoo.augment.base import Drawn
from sslzoo.build import build
from sslzoo.errors import ConfigError
from sslzoo.nn.sketching import sigreg, slices, visreg


@pytest.mark.parametrize("objective", ["lejepa", "visreg"])
def test_loss_is_the_papers(objective):
    job = build(tiny(objective, "objective.weight=0.3"))
    batch = batch_of(job, 0)
    loss = job.objective(job.encoder, batch, 0)
    views = job.objective.views.draw(job.encoder, batch).views
    pooled = job.encoder(torch.cat(views), batch.lengths.repeat(2)).pooled
    z = torch.stack(job.objective.projector(pooled).chunk(2))
    along, spread = slices(batch.seed, 16, 16, z.device), 0.0
    for row in z.transpose(0, 1).double():  # item by item
        centre = (row[0] + row[1]) / 2
        spread += sum(float((view - centre).square().mean()) for view in row) / 2 / z.shape[1]
    terms = [sigreg(z, along)] if objective == "lejepa" else visreg(z, along)
    assert float(loss.value) == pytest.approx(0.7 * spread + 0.3 * float(sum(terms)), rel=1e-5)
    assert [float(x) for x in loss.logs().values()] == pytest.approx([spread, *map(float, terms)], rel=1e-5)
    assert loss.count == len(batch)


def test_the_centre_is_of_global_views_alone():
    """Smaller views, such as local crops, are drawn to it and do not move it."""
    job = build(tiny("lejepa", "objective.weight=0"))
    batch = batch_of(job, 0)
    drawn = job.objective.views.draw(job.encoder, batch)
    small = [view[..., :8, :8] for view in drawn.views]
    job.objective.views.draw = lambda encoder, batch: Drawn([*drawn.views, *small], drawn.lengths)
    _, _, z = job.objective.project(job.encoder, batch)
    assert z.shape == (4, len(batch), 16)
    expected = (z - z[:2].mean(0)).square().mean()
    assert float(job.objective(job.encoder, batch, 0).value) == pytest.approx(float(expected), rel=1e-5)


def test_directions_are_of_the_step_and_the_same_on_every_rank():
    job = build(tiny("lejepa"))
    one, other, later = batch_of(job, 0, 0, 2), batch_of(job, 0, 1, 2), batch_of(job, 1, 0, 2)
    assert torch.equal(one.seed, other.seed) and not torch.equal(one.row_seeds[:1], other.row_seeds[:1])
    assert not torch.equal(one.seed, later.seed)


@pytest.mark.parametrize("objective", ["lejepa", "visreg"])
def test_they_take_spectrograms_with_their_views(objective):
    views = "objective.views={_target_: sslzoo.augment.spectrogram_views.SpectrogramViews, frames: 24}"
    job = build(tiny(objective, "data=tiny_speech", "encoder=tiny_speech", "~objective.views", f"+{views}"))
    logs, grads = gradients(job, batch_of(job, 0))
    assert logs["loss"] == logs["loss"] and any(bool(g.abs().sum() > 0) for g in grads.values())


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match="weight is between 0 and 1"):
        build(tiny("lejepa", "objective.weight=1.5"))
