import re
from itertools import pairwise

from folders import make_run

from sslzoo.report import charts, svg, tables
from sslzoo.report.record import read


def rows(tmp_path, *entries):
    groups = {
        name: [read(make_run(tmp_path / name, probes={"digit": scores}, minutes=minutes))]
        for name, scores, minutes in entries
    }
    return tables.rows(groups)


def test_cost_puts_the_better_higher_and_the_slower_to_the_right(tmp_path):
    made = rows(
        tmp_path, ("slow", (0.9, 0.5, 0.4), 4.0), ("fast", (0.7, 0.5, 0.4), 1.0), ("third", (0.4, 0.5, 0.4), 2.0)
    )
    drawn = charts.cost("digit", made)
    found = re.findall(r'cx="([\d.]+)" cy="([\d.]+)" r="3.4" class="pretrained"', drawn)
    slow, fast, _ = ((float(x), float(y)) for x, y in found)
    assert slow[0] > fast[0] and slow[1] < fast[1]
    assert all(word in drawn for word in ("slow", "fast", "raw", "4.0 min"))


def test_cost_is_drawn_of_three_points_or_more(tmp_path):
    made = rows(tmp_path, *((name, (0.9, 0.5, 0.4), 1.0) for name in "abc"))
    assert charts.cost("digit", made).startswith("<svg") and charts.cost("digit", made[:2]) == ""
    made[0].minutes = None
    assert charts.cost("digit", made) == ""


def test_labels_do_not_cover_each_other():
    wanted = [
        (50.0, 50.0, "first", "last"),
        (52.0, 52.0, "second", "last"),
        (50.0, 47.0, "third", "last"),
        (200.0, 50.0, "far", "last"),
    ]
    texts = {t: float(y) for y, t in re.findall(r'y="([\d.]+)" class="last"[^>]*>(\w+)<', "".join(svg.labels(wanted)))}
    near = sorted(texts[t] for t in ("first", "second", "third"))
    assert all(b - a >= 10.9 for a, b in pairwise(near))
    assert texts["first"] == texts["far"] == 54


def test_chance_that_is_far_below_does_not_squeeze_the_chart(tmp_path):
    far = rows(tmp_path / "far", *((name, (0.9, 0.88, 0.87), 1.0) for name in "abc"))
    near = rows(tmp_path / "near", *((name, (0.9, 0.2, 0.15), 1.0) for name in "abc"))
    assert "chance" not in charts.cost("t", far) and "chance" in charts.cost("t", near)


def test_strip_places_scores_between_chance_and_the_end(tmp_path):
    [row] = rows(tmp_path, ("a", (0.9, 0.5, 0.2), 1.0))
    drawn = charts.strip(row)
    at = {k: float(x) for x, k in re.findall(r'cx="([\d.]+)" cy="[\d.]+" r="3.4" class="(\w+)"', drawn)}
    assert at["untrained"] < at["pretrained"] < 132


def test_the_heaviest_layer_is_named():
    drawn = charts.bars([0.1, 0.6, 0.3])
    assert drawn.count("<rect") == 3 and drawn.count('"bar top"') == 1 and ">1</text>" in drawn
