import math
import re
from itertools import pairwise

import numpy as np
import pytest
from folders import make_run

from sslzoo.report import curves, tables
from sslzoo.report.record import read


def points(svg: str, kind: str) -> list[np.ndarray]:
    found = re.findall(rf'<polyline points="([^"]+)" class="{kind}"', svg)
    return [np.array([[float(v) for v in p.split(",")] for p in line.split()]) for line in found]


def test_a_falling_loss_falls_on_the_page():
    svg = curves.curve("loss", [([0, 1, 2], [3.0, 2.0, 1.0])])
    [line] = points(svg, "line")
    assert (np.diff(line[:, 0]) > 0).all() and (np.diff(line[:, 1]) > 0).all()  # y grows downwards
    assert ">3</text>" in svg and ">1</text>" in svg


def test_every_seed_has_its_line_and_noise_its_mean():
    rng = np.random.default_rng(0)
    series = [(list(range(200)), (1 + rng.normal(size=200)).tolist()) for _ in range(3)]
    svg = curves.curve("loss", series)
    assert len(points(svg, "line")) == 3 and len(points(svg, "noise")) == 3
    assert points(svg, "line")[0][:, 1].std() < points(svg, "noise")[0][:, 1].std() / 2


def test_smoothing_keeps_a_constant_and_the_length():
    assert np.allclose(curves._smooth(np.full(100, 2.5)), 2.5)
    assert len(curves._smooth(np.arange(1000.0))) == 1000


def test_what_is_not_finite_is_counted_and_left_out():
    svg = curves.curve("loss", [([0, 1, 2], [3.0, math.nan, math.inf])])
    assert "2 not finite" in svg and "nan" not in svg.lower() and "inf" not in svg.replace("infinite", "").lower()
    assert "nothing finite" in curves.curve("loss", [([0], [math.nan])])


@pytest.mark.parametrize("series", [[([5], [1.0])], [([0, 1], [2.0, 2.0])]])
def test_one_point_and_a_constant_are_drawn(series):
    assert "nan" not in curves.curve("loss", series).lower()


def test_a_name_is_escaped():
    assert "<script>" not in curves.curve("<script>", [([0], [1.0])])


@pytest.mark.parametrize(
    "value, text",
    [(0.0, "0"), (5.512, "5.51"), (123.4, "123"), (12345, "12k"), (-0.5, "−0.5"), (1e-5, "1.0e-5")],
)
def test_numbers_are_short(value, text):
    assert curves.short(value) == text


def rows(tmp_path, *entries):
    groups = {
        name: [read(make_run(tmp_path / name, probes={"digit": scores}, minutes=minutes))]
        for name, scores, minutes in entries
    }
    return tables.rows(groups)


def test_cost_puts_the_better_higher_and_the_slower_to_the_right(tmp_path):
    made = rows(tmp_path, ("slow", (0.9, 0.5, 0.4), 4.0), ("fast", (0.7, 0.5, 0.4), 1.0))
    svg = curves.cost("digit", made)
    slow, fast = (
        (float(x), float(y)) for x, y in re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="3.4" class="pretrained"', svg)
    )
    assert slow[0] > fast[0] and slow[1] < fast[1]
    assert all(word in svg for word in ("slow", "fast", "raw", "4.0 min"))


def test_cost_without_minutes_says_so(tmp_path):
    [row] = rows(tmp_path, ("a", (0.9, 0.5, 0.4), 1.0))
    row.minutes = None
    assert "no time or no score" in curves.cost("digit", [row])


def test_labels_do_not_cover_each_other():
    wanted = [
        (50.0, 50.0, "first", "last"),
        (52.0, 52.0, "second", "last"),
        (50.0, 47.0, "third", "last"),
        (200.0, 50.0, "far", "last"),
    ]
    texts = {
        t: float(y) for y, t in re.findall(r'y="([\d.]+)" class="last"[^>]*>(\w+)<', "".join(curves._labels(wanted)))
    }
    near = sorted(texts[t] for t in ("first", "second", "third"))
    assert all(b - a >= 10.9 for a, b in pairwise(near))
    assert texts["first"] == texts["far"] == 54


def test_chance_that_is_far_below_does_not_squeeze_the_chart(tmp_path):
    far = rows(tmp_path / "far", ("a", (0.9, 0.88, 0.87), 1.0))
    near = rows(tmp_path / "near", ("a", (0.9, 0.2, 0.15), 1.0))
    assert "chance" not in curves.cost("t", far) and "chance" in curves.cost("t", near)


def test_strip_places_scores_between_chance_and_the_end(tmp_path):
    [row] = rows(tmp_path, ("a", (0.9, 0.5, 0.2), 1.0))
    svg = curves.strip(row)
    at = {k: float(x) for x, k in re.findall(r'cx="([\d.]+)" cy="[\d.]+" r="3.4" class="(\w+)"', svg)}
    assert at["untrained"] < at["pretrained"] < 132


def test_the_heaviest_layer_is_named():
    svg = curves.bars([0.1, 0.6, 0.3])
    assert svg.count("<rect") == 3 and svg.count('"bar top"') == 1 and ">1</text>" in svg
