import json
import shutil

import pytest
from folders import make_labels, make_run

from sslzoo.report import page, targets
from sslzoo.report.record import read


@pytest.fixture
def runs(tmp_path):
    """Three iterations beside each other, each learned from the one before, and a run that learned no targets."""
    of, made = None, [make_run(tmp_path / "plain-s0")]
    for number in (1, 2, 3):
        folder = make_labels(tmp_path / f"it{number}-s0-labels", 50 * number, of)
        made.append(make_run(tmp_path / f"it{number}-s0", targets=str(folder)))
        of = str(made[-1].folder)
    return made


def test_iterations_are_counted(runs):
    assert [read(run).iteration for run in runs] == [1, 1, 2, 3]
    assert read(runs[0]).targets == {} and read(runs[3]).targets["clusters"] == 150
    labels = make_labels(runs[0].folder.parent / "of-plain-labels", 9, str(runs[0].folder))
    assert read(make_run(labels.parent / "of-plain", targets=str(labels))).iteration == 1, "a run that learned none"
    made = targets.target_rows({run.name: [read(run)] for run in runs})
    assert [(row.entry, row.iteration, row.source) for row in made] == [
        ("it1-s0", 1, "mfcc"),
        ("it2-s0", 2, "it1 layer 2"),
        ("it3-s0", 3, "it2 layer 2"),
    ]


def test_runs_that_are_of_each_other_end(runs):
    make_labels(runs[1].folder.parent / "it1-s0-labels", 50, str(runs[3].folder))
    assert read(runs[3]).iteration == 4


def test_a_folder_that_was_moved_is_found(runs, tmp_path):
    shutil.copytree(tmp_path, tmp_path.parent / "elsewhere")
    shutil.rmtree(tmp_path)
    record = read(type(runs[0])(tmp_path.parent / "elsewhere" / "it2-s0"))
    assert record.targets["clusters"] == 100 and record.iteration == 2


def test_what_is_missing_or_damaged_is_told(runs, tmp_path):
    label = tmp_path / "it1-s0-labels" / "label.json"
    label.write_text("{")
    assert any("label.json cannot be read" in line for line in read(runs[1]).missing)
    label.unlink()
    record = read(runs[1])
    assert any("nothing of its targets" in line for line in record.missing) and record.targets == {}
    assert targets.target_rows({"a": [record]}) == []


@pytest.mark.parametrize("splits", [None, [], {"valid": 3}, {"valid": {"pnmi": "x", "phone_purity": None}}, {}])
def test_measures_that_are_not_there_are_dashes(runs, tmp_path, splits):
    (tmp_path / "it1-s0-labels" / "label.json").write_text(json.dumps({"clusters": 3, "splits": splits}))
    [row] = targets.target_rows({"a|b": [read(runs[1])]})
    assert targets.cells(row) == ["a|b", "1", "not known", "3", "—", "—", "30.0"]
    assert row.json()["purity"] is None and "a\\|b" in targets.markdown([row])


def test_without_targets_nothing_is_said(runs, tmp_path):
    assert targets.markdown([]) == "" and targets.html([]) == ""
    page.write([runs[0]], tmp_path / "page.html")
    assert "Targets" not in (tmp_path / "page.html").read_text()


def test_the_page_escapes_what_it_says(runs, tmp_path):
    label = tmp_path / "it1-s0-labels" / "label.json"
    said = json.loads(label.read_text()) | {"source": {"source": "<script>alert(1)</script>"}, "clusters": "<b>"}
    label.write_text(json.dumps(said))
    page.write([runs[1]], tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    table = html.split("Targets</h3>")[1].split("</table>")[0]
    assert html.count("<script>") == 1 and "<script>" not in table and "&lt;script&gt;" in table and "<b>" not in table
