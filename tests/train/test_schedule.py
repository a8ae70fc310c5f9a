"""Learning rates in closed form."""

import math

import pytest
from conftest import compose

from sslzoo import build
from sslzoo.config import choices, options
from sslzoo.errors import ConfigError
from sslzoo.train import schedule as schedules
from sslzoo.train.schedule import Constant, Cosine, Linear, WarmupStableDecay


def test_warm_up_is_a_straight_line_that_starts_above_zero():
    for schedule in (Constant(0.1), Cosine(0.1), Linear(0.1), WarmupStableDecay(0.1)):
        assert [schedule(step, 1000) for step in (0, 1, 49, 99)] == pytest.approx([0.01, 0.02, 0.5, 1.0])


def test_constant_stays():
    assert {Constant(0.1)(step, 1000) for step in (100, 500, 999)} == {1.0}
    assert Constant()(0, 1000) == 1.0


@pytest.mark.parametrize("final", [0.0, 0.2])
def test_cosine(final):
    schedule = Cosine(0.2, final)
    for step in range(200, 1000, 37):
        expected = final + (1 - final) * (1 + math.cos(math.pi * (step - 200) / 800)) / 2
        assert schedule(step, 1000) == pytest.approx(expected)
    assert schedule(200, 1000) == 1.0
    assert schedule(600, 1000) == pytest.approx((1 + final) / 2)
    assert schedule(999, 1000) == pytest.approx(final, abs=1e-4)


@pytest.mark.parametrize("final", [0.0, 0.2])
def test_linear(final):
    schedule = Linear(0.2, final)
    for step in range(200, 1000, 37):
        assert schedule(step, 1000) == pytest.approx(final + (1 - final) * (1000 - step) / 800)
    assert schedule(200, 1000) == 1.0 and schedule(1000, 1000) == final


@pytest.mark.parametrize("final", [0.0, 0.2])
def test_warmup_stable_decay(final):
    schedule = WarmupStableDecay(0.1, 0.25, final)
    assert {schedule(step, 1000) for step in range(100, 751)} == {1.0}
    for step, left in ((760, 0.8), (790, 0.6), (840, 0.4), (910, 0.2)):  # 1 - sqrt of .04, .16, .36, .64
        assert schedule(step, 1000) == pytest.approx(final + (1 - final) * left)
    assert schedule(1000, 1000) == pytest.approx(final)
    assert schedule(400, 1000) == schedule(400, 2000) == 1.0, "the length of the run is not known before the decay"
    assert [WarmupStableDecay(0.1, 0.0)(step, 10) for step in (1, 9)] == [1.0, 1.0]


@pytest.mark.parametrize("name", options("optim/schedule"))
def test_each_is_a_choice_of_its_own(name):
    """Whatever the optimiser's own choice was, of which no setting is left."""
    for optim in ("adamw", "sgd"):
        node = compose(f"optim={optim}", f"optim/schedule={name}", "optim.schedule.warmup=0.5")["optim"]
        build.check(node, "optim")
        schedule = build.make(node).schedule
        assert schedule(0, 10) == pytest.approx(0.2) and schedule(5, 10) == 1.0
    alone = compose("optim=adamw", f"optim/schedule={name}")["optim"]["schedule"]
    assert alone == choices("optim/schedule", [name])[name]


def test_every_schedule_has_a_config():
    named = {
        node["_target_"].rpartition(".")[2] for node in choices("optim/schedule", options("optim/schedule")).values()
    }
    assert named == {name for name, value in vars(schedules).items() if isinstance(value, type)} - {"ConfigError"}


@pytest.mark.parametrize(
    "schedule",
    [
        *(Cosine(0.0), Linear(0.0), Cosine(1.0), Linear(1.0), Constant(1.0), Cosine(0.1), Linear(0.1)),
        *(WarmupStableDecay(), WarmupStableDecay(0.0, 1.0), WarmupStableDecay(1.0, 0.0), WarmupStableDecay(0.5, 0.5)),
    ],
)
@pytest.mark.parametrize("total", [1, 2, 7])
def test_short_runs_too(schedule, total):
    rates = [schedule(step, total) for step in range(total)]
    assert all(0 < rate <= 1 for rate in rates)


@pytest.mark.parametrize(
    "make",
    [lambda: Cosine(warmup=-0.1), lambda: Linear(warmup=1.5), lambda: Constant(2), lambda: Cosine(final=1.1)],
)
def test_refuses_what_is_no_share(make):
    with pytest.raises(ConfigError, match="schedule.(warmup|final) is a share"):
        make()


def test_refuses_more_than_the_whole_run():
    with pytest.raises(ConfigError, match="is more than the whole run: 0.5 . 0.6"):
        WarmupStableDecay(0.5, 0.6)
    with pytest.raises(ConfigError, match="schedule.decay is a share"):
        WarmupStableDecay(0.0, 1.2)
