import math
import re

import numpy as np
import pytest

from sslzoo.report import curves
from sslzoo.report.curves import Series, running_mean
from sslzoo.report.healthy import Healthy
from sslzoo.report.svg import short


def points(svg: str, kind: str) -> list[np.ndarray]:
    found = re.findall(rf'<polyline points="([^"]+)" class="{kind}"', svg)
    return [np.array([[float(v) for v in p.split(",")] for p in line.split()]) for line in found]


def test_a_falling_loss_falls_on_the_page():
    svg = curves.curve("loss", [Series("a", [0, 1, 2], [3.0, 2.0, 1.0])])
    [line] = points(svg, "line")
    assert (np.diff(line[:, 0]) > 0).all() and (np.diff(line[:, 1]) > 0).all()  # y grows downwards
    assert ">3</text>" in svg and ">1</text>" in svg


def test_every_seed_has_its_line_and_noise_its_mean():
    rng = np.random.default_rng(0)
    series = [Series(f"s{n}", list(range(200)), (1 + rng.normal(size=200)).tolist()) for n in range(3)]
    svg = curves.curve("loss", series)
    assert len(points(svg, "line")) == 3 and len(points(svg, "noise")) == 3
    assert points(svg, "line")[0][:, 1].std() < points(svg, "noise")[0][:, 1].std() / 2


def test_smoothing_keeps_a_constant_and_the_length():
    steps = np.arange(1000.0)
    assert np.allclose(running_mean(steps, np.full(1000, 2.5)), 2.5) and len(running_mean(steps, steps)) == 1000
    assert running_mean(np.array([5.0]), np.array([2.0])) == [2.0]


def test_points_close_together_do_not_bend_the_mean():
    pairs = np.sort(np.concatenate([np.arange(0, 100, 10), np.arange(9, 100, 10)])).astype(float)
    mean = running_mean(pairs, 5 - pairs / 50)
    slopes = np.diff(mean) / np.diff(pairs)
    assert slopes[4:-4].min() > 2 * slopes[4:-4].max() and slopes.max() < 0


def test_what_is_not_finite_is_counted_and_left_out():
    svg = curves.curve("loss", [Series("", [0, 1, 2], [3.0, math.nan, math.inf])])
    assert "2 not finite" in svg and "nan" not in svg.lower() and "inf" not in svg.replace("infinite", "").lower()
    assert "nothing finite" in curves.curve("loss", [Series("", [0], [math.nan])])


@pytest.mark.parametrize("series", [([5], [1.0]), ([0, 1], [2.0, 2.0])])
def test_one_point_and_a_constant_are_drawn(series):
    assert "nan" not in curves.curve("loss", [Series("a", *series)]).lower()


def test_a_name_is_escaped():
    assert "<script>" not in curves.curve("<script>", [Series("<script>", [0], [1.0])])


@pytest.mark.parametrize(
    "value, text",
    [(0.0, "0"), (5.512, "5.51"), (123.4, "123"), (12345, "12k"), (-0.5, "−0.5"), (1e-5, "1.0e-5")],
)
def test_numbers_are_short(value, text):
    assert short(value) == text


def test_a_running_mean_is_drawn_from_few_points_on_but_not_of_what_is_set():
    steps, values = list(range(10)), [1.0, 3.0] * 5
    svg = curves.curve("loss", [Series("", steps, values)])
    [noise], [line] = points(svg, "noise"), points(svg, "line")
    assert np.ptp(line[:, 1]) < 0.7 * np.ptp(noise[:, 1])
    for name in ("lr", "lr/trunk", "momentum"):
        svg = curves.curve(name, [Series("", steps, values)])
        [line] = points(svg, "line")
        assert not points(svg, "noise") and np.ptp(line[:, 1]) == pytest.approx(np.ptp(noise[:, 1]))


def test_the_validation_split_is_dashed_and_not_smoothed():
    svg = curves.curve(
        "loss", [Series("a", [0, 9], [2.0, 1.0]), Series("a", list(range(10)), [1.0, 3.0] * 5, dashed=True)]
    )
    assert len(points(svg, "line dashed")) == 1 and not points(svg, "noise")


def test_runs_together_have_their_colour_and_the_values_that_a_pointer_shows():
    svg = curves.curve(
        "loss", [Series("one", [0, 10], [3.0, 2.0], "c0"), Series("two & three", [0, 10], [3.0, 1.125], "c1")]
    )
    assert 'class="series c0" data-name="one" data-s="0 10" data-v="3 2"' in svg
    assert 'class="series c1" data-name="two &amp; three" data-s="0 10" data-v="3 1.125"' in svg
    assert 'class="last c0"' in svg and 'class="last c1"' in svg


def test_the_band_of_healthy_runs_lies_behind_the_steps_that_both_have():
    steps = np.array([0.0, 50.0, 100.0])
    band = Healthy("x", 3, {}, steps, 5 - steps / 50, 4.5 - steps / 50, 5.5 - steps / 50)
    svg = curves.curve("loss", [Series("", [10, 20, 30], [5.0, 4.0, 3.0])], band=band)
    [corners] = re.findall(r'class="band" points="([^"]+)"', svg)
    x = [float(c.split(",")[0]) for c in corners.split()]
    [line] = points(svg, "line")
    assert min(x) == line[:, 0].min() and max(x) == line[:, 0].max()
    assert "band" not in curves.curve("loss", [Series("", [200, 300], [5.0, 4.0])], band=band)
