import re

import numpy as np
import pytest
from folders import make_run, part

from sslzoo.report import confusion
from sslzoo.report.record import read


def test_a_map_has_a_cell_a_pair_with_its_share_and_its_words(tmp_path):
    html = confusion.html(read(make_run(tmp_path / "a")))
    assert "Most often: b for a (30 of 150), a for b (10 of 150)." in html
    assert 'data-tip="b taken for a: 30 of 150, 20.0"' in html and 'data-tip="a found: 140 of 150, 93.3"' in html
    assert html.count('class="miss"') == html.count('class="hit"') == 2 and ">93</text>" in html


@pytest.mark.parametrize("classes", [20, 40, 100])
def test_many_classes_can_be_read(classes):
    counts = np.eye(classes, dtype=int) * 9 + np.roll(np.eye(classes, dtype=int), 1, 1)
    names = [f"class {n}" for n in range(classes)]
    svg = confusion.heatmap(counts, names, "many")
    shown = re.findall(r">(class \d+)</text>", svg)
    drawn = min(classes, confusion.MOST)
    assert len(shown) == 2 * drawn and "count" not in svg  # a name a row and a column, 13 units each
    assert float(re.search(r'viewBox="0 0 ([\d.]+)', svg)[1]) >= 13 * drawn


def test_of_too_many_classes_the_worst_are_kept():
    counts = np.eye(60, dtype=int) * 9
    counts[57, 3] = 5
    svg = confusion.heatmap(counts, [f"n{n}" for n in range(60)], "x")
    assert "n57 taken for n3: 5 of 14" in svg


def test_names_are_escaped_and_cut():
    svg = confusion.heatmap(np.eye(2, dtype=int), ["<script>", "a very long name indeed"], "x")
    assert "<script>" not in svg and "a very long n…" in svg


@pytest.mark.parametrize("pairs", [[[0, 9, 1]], [[0, 0]], [["a", 0, 1]], [[0, 0, -1]], [None]])
def test_what_is_damaged_is_said(tmp_path, pairs):
    record = read(make_run(tmp_path / "a"))
    record.probes["digit"]["pretrained"]["confusion"] = pairs
    assert "cannot be drawn" in confusion.html(record)


def test_values_and_older_runs_have_none(tmp_path):
    record = read(make_run(tmp_path / "a"))
    for confused in (None, []):
        record.probes["digit"]["pretrained"] = part(0.9) | {"confusion": confused}
        assert confusion.html(record) == ""
