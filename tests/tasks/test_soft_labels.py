"""`SoftLabels`: the loss against a slow sum; the temperature is applied to the logits alone."""

import inspect
import math

import pytest
import torch
from test_contracts import batch_of
from tiny_tasks import tiny_run, tiny_task

from sslzoo.adapt.job import build_adapt
from sslzoo.errors import ConfigError
from sslzoo.tasks.classification import Classification
from sslzoo.tasks.soft_labels import SoftLabels


def soft(**settings):
    """(objective, encoder, batch with soft labels) of a tiny text task."""
    job = build_adapt(tiny_task("text-full"), tiny_run("tiny_text", "text"))
    objective = SoftLabels(job.encoder, job.data, dropout=0.0, **settings)
    batch = batch_of(job, 0)
    q = torch.softmax(torch.randn(len(batch), len(job.data.classes), generator=torch.Generator().manual_seed(0)), 1)
    batch.targets = {"probabilities": q}
    return objective.eval(), job.encoder.eval(), batch


@pytest.mark.parametrize("temperature", [1.0, 2.0])
def test_the_loss_is_the_divergence_at_one_temperature(temperature):
    """A temperature applied to the targets a second time would give another value."""
    objective, encoder, batch = soft(temperature=temperature)
    with torch.no_grad():
        loss, z = objective(encoder, batch, 0), objective.logits(encoder, batch)
    expected = 0.0
    for row, q in zip(z.tolist(), batch.targets["probabilities"].tolist(), strict=True):
        total = sum(math.exp(x / temperature) for x in row)
        expected += sum(
            a * (math.log(a) - math.log(math.exp(x / temperature) / total)) for a, x in zip(q, row, strict=True)
        )
    assert float(loss.value) == pytest.approx(temperature**2 * expected / len(z), rel=1e-4)
    assert loss.count == len(z)


def test_a_hard_target_gives_the_cross_entropy_and_its_own_distribution_nothing():
    objective, encoder, batch = soft(temperature=1.0)
    with torch.no_grad():
        z = objective.logits(encoder, batch)
        batch.targets = {"probabilities": torch.nn.functional.one_hot(z.argmin(1), z.shape[1]).float()}
        hard = objective(encoder, batch, 0)
        expected = torch.nn.functional.cross_entropy(z, z.argmin(1))
        assert float(hard.value) == pytest.approx(float(expected), rel=1e-5)
        assert float(hard.logs()["accuracy"]) == 0 and float(hard.logs()["uniform_loss"]) == pytest.approx(math.log(2))
        batch.targets = {"probabilities": torch.softmax(z, 1)}
        assert abs(float(objective(encoder, batch, 0).value)) < 1e-6


def test_it_takes_every_setting_of_a_classification():
    """Whose node it is made from."""
    own, theirs = (list(inspect.signature(kind).parameters) for kind in (SoftLabels, Classification))
    assert own == [*theirs, "temperature"]


def test_settings_that_do_not_fit_are_refused():
    with pytest.raises(ConfigError, match="soft labels are smooth"):
        soft(label_smoothing=0.1)
    with pytest.raises(ConfigError, match="a temperature is above 0, got 0"):
        soft(temperature=0.0)
