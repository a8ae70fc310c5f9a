import re

import numpy as np
import pytest
from folders import make_run, part

from sslzoo.report import planes
from sslzoo.report.planes import PLANE, SHADES, Points, colours
from sslzoo.report.record import read


def points(label, predicted=(), xy=None):
    return Points(
        {"pca": np.zeros((len(label), 2)) if xy is None else np.array(xy, float)}, list(label), list(predicted)
    )


def test_classes_have_colours_while_they_last():
    labels = [f"w{n}" for n in range(12) for _ in range(12 - n)]
    found = colours(labels)
    assert set(found) == {f"w{n}" for n in range(10)} and sorted(found.values()) == list(range(10))
    assert list(colours(["10", "9", "10"])) == ["9", "10"]
    assert colours([0.5, 1.0]) == {}


def test_every_finite_point_is_drawn_once():
    shown = points(["a", "b", "a", "c"], xy=[[0, 0], [1, 1], [float("nan"), 0], [5, 5]])
    svg = planes.plane(shown.planes["pca"], shown, {"a": 0, "b": 1}, "x")
    assert svg.count("h0") == 3 and 'class="cx"' in svg and 'class="c0"' in svg
    places = [tuple(map(float, p)) for p in re.findall(r"M([\d.]+) ([\d.]+)h0", svg)]
    assert all(0 <= v <= PLANE for p in places for v in p)


def test_values_have_shades():
    values = [i / 10 for i in range(10)]
    shown = points(values, values, [[i, i] for i in range(10)])
    svg = planes.plane(shown.planes["pca"], shown, {}, "x")
    assert all(f'class="s{n}"' in svg for n in range(SHADES)) and 'data-l="0 0.1"' in svg


def test_a_pointer_finds_the_class_and_what_it_was_taken_for():
    shown = points(["a", "<b>"], ["a", "a"], [[0, 0], [1, 1]])
    svg = planes.plane(shown.planes["pca"], shown, {"a": 0, "<b>": 1}, "x")
    assert '["a", "&lt;b&gt;"]' in svg.replace("&quot;", '"') and 'class="c1" data-l="1" data-p="0"' in svg


def test_the_planes_of_a_probe_are_drawn_with_a_legend(tmp_path):
    html = planes.html(read(make_run(tmp_path / "a")))
    assert html.count('class="plane"') == 9 and html.count('<button type="button" class="c') == 2
    assert "t-SNE" in html and "PCA" in html and "<b>93.4</b>" in html


def test_a_probe_of_an_older_run_has_one_plane():
    old = {"features": {"xy": [[0.0, 1.0], [2.0, -1.0]], "label": ["a", "b"]}, "classes": ["a", "b"]}
    found = planes.points(old)
    assert list(found.planes) == ["pca"] and found.label == ["a", "b"] and found.predicted == []


@pytest.mark.parametrize(
    "change",
    [
        {"planes": {"pca": [[0, 1]]}},
        {"planes": None},
        {"planes": {"pca": [["x", 1], [0, 1]]}},
        {"label": [0, 7]},
        {"label": 3},
    ],
)
def test_what_is_damaged_is_said(change):
    damaged = part(0.9)
    damaged["projections"] |= change
    with pytest.raises(ValueError, match="."):
        planes.points(damaged)
    assert "cannot be drawn" in planes._task("t", {"pretrained": damaged})
