"""What an analysis wrote, drawn; what is damaged, named."""

import json
import re

import pytest
from folders import make_run

from sslzoo.report import analyses
from sslzoo.report.page import write
from sslzoo.report.record import read

FIGURE = {
    "title": "CKA of <layers>",
    "said": "A row a layer.",
    "matrices": [{"title": "", "values": [[1.0, 0.25], [0.25, 1.0]], "rows": ["0", "1"], "columns": ["0", "1"]}],
    "lines": [{"title": "by layer", "x": ["0", "1", "2"], "series": {"one": [0.1, 0.5, 0.3], "two": [0.2, 0.2, 0.9]}}],
    "legend": ["a [bank] & more"],
}


def written(folder, found, name="cka"):
    run = make_run(folder)
    run.analyses.mkdir()
    (run.analyses / f"{name}.json").write_text(found if isinstance(found, str) else json.dumps(found))
    return run


def test_matrices_lines_and_legends_are_drawn(tmp_path):
    run = written(tmp_path / "run", {"figures": [FIGURE]})
    drawn = analyses.html(read(run))
    assert "CKA of &lt;layers&gt;" in drawn and "<li>a [bank] &amp; more</li>" in drawn
    tips = re.findall(r'class="hit" fill-opacity="([\d.]+)" data-tip="([^"]+)"', drawn)
    assert [t for _, t in tips] == ["0, 0: 1.000", "0, 1: 0.250", "1, 0: 0.250", "1, 1: 1.000"]
    assert float(tips[0][0]) > float(tips[1][0]) == 0, "the darker the higher"
    assert "The lightest is 0.25, the darkest 1." in drawn
    assert re.findall(r'class="count"[^>]*>(\d+)<', drawn) == ["100", "25", "25", "100"]
    assert drawn.count("<polyline") == 2 and drawn.count("<circle") == 6
    assert "0.3 one" in drawn and "0.9 two" in drawn
    out = tmp_path / "page.html"
    write([run], out)
    assert "<h3>Analyses</h3>" in out.read_text()


def test_large_matrices_without_names_are_small(tmp_path):
    figure = FIGURE | {
        "matrices": [{"title": f"layer {i}", "values": [[0.5] * 30] * 30, "rows": [], "columns": []} for i in range(3)]
    }
    drawn = analyses.html(read(written(tmp_path / "run", {"figures": [figure]})))
    assert 'class="count"' not in drawn and "<figcaption>layer 2</figcaption>" in drawn
    widths = [
        float(w) for w in re.findall(r'<rect x="0.0" y="0.0" width="([\d.]+)" height="[\d.]+" class="ground"', drawn)
    ]
    assert widths == [108.0] * 3


@pytest.mark.parametrize(
    "found",
    [
        {"figures": [FIGURE | {"matrices": [{"title": "", "values": [[1.0]], "rows": ["a", "b"], "columns": ["a"]}]}]},
        {"figures": [FIGURE | {"lines": [{"title": "", "x": ["0"], "series": {"a": [1.0, 2.0]}}]}]},
        {"figures": [{"title": "t"}]},
        {"figures": 3},
        {},
    ],
)
def test_what_is_damaged_is_named(found, tmp_path):
    drawn = analyses.html(read(written(tmp_path / "run", found)))
    assert "analysis/cka.json cannot be drawn: it lacks or misuses" in drawn


def test_what_cannot_be_read_is_missing(tmp_path):
    record = read(written(tmp_path / "run", "{"))
    assert not record.analyses and any("cka.json cannot be read" in line for line in record.missing)
    assert analyses.html(read(make_run(tmp_path / "other"))) == ""
