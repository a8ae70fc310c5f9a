"""Learning rates in closed form."""

import math

import pytest

from sslzoo.errors import ConfigError
from sslzoo.train.schedule import Constant, Cosine, Linear


def test_warm_up_is_a_straight_line_that_starts_above_zero():
    for schedule in (Constant(0.1), Cosine(0.1), Linear(0.1)):
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


@pytest.mark.parametrize(
    "schedule", [Cosine(0.0), Linear(0.0), Cosine(1.0), Linear(1.0), Constant(1.0), Cosine(0.1), Linear(0.1)]
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
