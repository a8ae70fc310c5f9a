"""Validation losses as rows: mean and spread of the files', beside probes or alone."""

import json
import statistics

import pytest
from folders import make_run

from sslzoo.report import losses, page, tables
from sslzoo.report.record import read


def runs(tmp_path, *values, name="gpt", probes=None):
    made = []
    for seed, value in enumerate(values):
        run = make_run(tmp_path / f"{name}-s{seed}", seed, probes or {})
        summary = json.loads(run.summary.read_text())
        if value is not None:
            run.summary.write_text(json.dumps(summary | {"logs": {"loss": 9.0, "val_loss": value}}))
        made.append(run)
    return made


def test_rows_are_those_of_the_files(tmp_path):
    values = (1.75, 1.77, 1.80)
    groups = {
        "gpt": [read(r) for r in runs(tmp_path, *values)],
        "low": [read(r) for r in runs(tmp_path, 1.5, None, name="low")],
        "none": [read(r) for r in runs(tmp_path, None, name="none")],
    }
    low, gpt = losses.rows(groups)
    assert gpt.cells() == ["gpt", f"{sum(values) / 3:.3f} ± {statistics.stdev(values):.3f}", "600", "1.5", "1.2"]
    assert low.figure() == "1.500 (1/2)"
    assert gpt.json()["val_loss"]["values"] == list(values) and gpt.json()["entry"] == "gpt"
    text = losses.markdown([], [low, gpt])
    assert text.splitlines()[2].startswith("| low | 1.500 (1/2) |") and losses.NOTE in text
    assert tables.NOTE not in text and "probe" not in losses.summary([], [low, gpt])
    assert losses.summary([], [low, gpt]).startswith("Validation loss: low 1.500 (1/2), gpt 1.773 ± 0.025")


@pytest.mark.parametrize("value", [float("nan"), "1.5", None])
def test_what_is_no_number_is_no_loss(tmp_path, value):
    assert losses.rows({"gpt": [read(r) for r in runs(tmp_path, value)]}) == []


def test_probes_and_losses_stand_beside_each_other(tmp_path):
    groups = {"gpt": [read(r) for r in runs(tmp_path, 1.5, probes={"digit": (0.9, 0.5, 0.3)})]}
    probed, lost = tables.rows(groups), losses.rows(groups)
    for said in (losses.markdown(probed, lost), losses.summary(probed, lost), losses.note(probed, lost)):
        assert "robe" in said or "Scores" in said
    assert tables.markdown(probed) in losses.markdown(probed, lost) and "| gpt | 1.500 |" in losses.markdown(
        probed, lost
    )
    assert losses.summary(probed, lost) == f"{tables.summary(probed)} Validation loss: gpt 1.500."


def test_without_losses_all_is_as_it_was(tmp_path):
    groups = {"gpt": [read(r) for r in runs(tmp_path, None, probes={"digit": (0.9, 0.5, 0.3)})]}
    probed = tables.rows(groups)
    assert losses.markdown(probed, []) == tables.markdown(probed) and losses.note(probed, []) == tables.NOTE
    assert losses.summary([], []) == tables.summary([])


def test_the_page_leads_with_it(tmp_path):
    page.write(runs(tmp_path, 1.5, 1.6), tmp_path / "page.html")
    html = (tmp_path / "page.html").read_text()
    assert "Validation loss:" in html and "1.550" in html and "No task has been probed" not in html
