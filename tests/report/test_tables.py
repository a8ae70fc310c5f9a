import io
import math
import statistics

import pytest
from folders import make_run

from sslzoo.report import tables
from sslzoo.report.record import read
from sslzoo.report.tables import Score, beats


def records(tmp_path, *seeds: dict, name: str = "run", minutes: float = 1.5):
    return [read(make_run(tmp_path / f"{name}-s{n}", n, probes, minutes)) for n, probes in enumerate(seeds)]


def test_mean_and_spread_are_those_of_the_files(tmp_path):
    values = (0.90, 0.94, 0.95)
    [row] = tables.rows({"cnn": records(tmp_path, *({"digit": (v, 0.5, 0.3)} for v in values))})
    score = row.score("pretrained")
    assert math.isclose(score.mean, sum(values) / 3) and math.isclose(score.spread, statistics.stdev(values))
    assert (row.chance, row.n_test, row.metric, row.minutes.mean) == (0.1, 300, "accuracy", 1.5)
    assert tables.cells(row)[2:6] == ["93.0 ± 2.6", "50.0 ± 0.0", "30.0 ± 0.0", "10.0"]
    assert row.score("pretrained", "knn").values == (0.5, 0.5, 0.5)


def test_one_seed_has_no_spread(tmp_path):
    [row] = tables.rows({"cnn": records(tmp_path, {"digit": (0.9, 0.5, 0.3)})})
    assert row.score("pretrained").spread is None and tables.cells(row)[2] == "90.0"


@pytest.mark.parametrize(
    "one, other, times, expected",
    [
        ((0.9,), (0.8,), 1, True),
        ((0.8,), (0.9,), 1, False),
        ((0.5,), (0.5,), 1, False),
        (None, (0.9,), 1, None),
        ((0.90, 0.94), (0.78, 0.80), 1, True),
        ((0.90, 0.94), (0.78, 0.80), 5, False),
        ((0.8, 0.9), (0.79, 0.8), 1, False),
        ((0.9, 0.9), (0.2, 0.95), 1, False),
    ],
)
def test_beats_is_by_more_than_the_larger_spread(one, other, times, expected):
    assert beats(one and Score(one), Score(other), times) is expected


def test_a_metric_is_named_where_it_is_not_accuracy(tmp_path):
    record = read(make_run(tmp_path / "r", probes={"cola": (0.4, 0.1, 0.0)}))
    for found in record.probes["cola"].values():
        found["metric"] = "matthews"
    assert tables.cells(*tables.rows({"r": [record]}))[0] == "cola (matthews)"


def test_an_entry_that_is_alone_wins_unless_its_baselines_beat_it(tmp_path):
    [row] = tables.rows({"cnn": records(tmp_path, {"digit": (0.90, 0.3, 0.91)}, {"digit": (0.94, 0.3, 0.91)})})
    assert tables.winners([row]) == {("digit", "cnn")}  # raw features lie within the spread
    assert row.beaten() == ["untrained"] and tables.verdict(row) == "untrained"
    [row] = tables.rows({"cnn": records(tmp_path, {"digit": (0.9, 0.3, 0.95)}, name="below")})
    assert tables.winners([row]) == set()


def test_the_winner_of_a_task_is_among_its_runs_and_not_in_its_row(tmp_path):
    groups = {
        "good": records(tmp_path, {"digit": (0.8, 0.3, 0.85)}, name="good"),
        "bad": records(tmp_path, {"digit": (0.4, 0.3, 0.3)}, name="bad"),
    }
    made = tables.rows(groups)
    assert tables.winners(made) == {("digit", "good")}
    lines = tables.markdown(made).splitlines()
    assert "**80.0**" in lines[2] and "**" not in lines[3] and lines[2].count("**") == 2


def test_what_the_spread_cannot_tell_apart_wins_together(tmp_path):
    groups = {
        "a": records(tmp_path, {"digit": (0.80, 0.3, 0.3)}, {"digit": (0.90, 0.3, 0.3)}, name="a"),
        "b": records(tmp_path, {"digit": (0.82, 0.3, 0.3)}, {"digit": (0.84, 0.3, 0.3)}, name="b"),
        "c": records(tmp_path, {"digit": (0.60, 0.3, 0.3)}, {"digit": (0.62, 0.3, 0.3)}, name="c"),
    }
    assert tables.winners(tables.rows(groups)) == {("digit", "a"), ("digit", "b")}


def test_entries_of_a_task_stand_together_the_best_first(tmp_path):
    groups = {
        "bad": records(tmp_path, {"digit": (0.4, 0.3, 0.3), "colour": (0.9, 0.3, 0.3)}, name="bad"),
        "good": records(tmp_path, {"digit": (0.8, 0.3, 0.3)}, name="good"),
    }
    order = [(r.task, r.entry) for r in tables.rows(groups, {"bad": ["digit", "colour"], "good": ["digit"]})]
    assert order == [("digit", "good"), ("digit", "bad"), ("colour", "bad")]


def test_what_is_not_probed_is_said(tmp_path):
    made = tables.rows({"cnn": records(tmp_path, {"digit": (0.9, 0.5, 0.3)}, {})}, {"cnn": ["digit", "shape"]})
    digit, shape = made
    assert tables.cells(digit)[2] == "90.0 (1/2)"
    assert tables.cells(shape)[2:5] == ["—"] * 3 and tables.verdict(shape) == "not probed"
    assert "1 of 1 task" in tables.summary(made)


def test_a_task_that_was_not_planned_has_no_row(tmp_path):
    groups = {"cnn": records(tmp_path, {"digit": (0.9, 0.5, 0.3), "other": (0.9, 0.5, 0.3)})}
    assert [r.task for r in tables.rows(groups, {"cnn": ["digit"]})] == ["digit"]
    assert [r.task for r in tables.rows(groups)] == ["digit", "other"]


def test_a_probe_without_a_kind_or_with_nonsense_has_a_blank(tmp_path):
    record = read(make_run(tmp_path / "r"))
    record.probes["digit"]["raw"] = None
    record.probes["digit"]["untrained"]["linear"] = {"test": float("nan")}
    [row] = tables.rows({"r": [record]})
    assert row.score("raw") is None and row.score("untrained") is None and row.score("pretrained").mean == 0.934


@pytest.mark.parametrize("count, words", [(1, "one seed has no spread"), (3, "the spread of 3 seeds")])
def test_the_sentence_counts_and_says_how_sure(tmp_path, count, words):
    made = tables.rows({"cnn": records(tmp_path, *[{"a": (0.9, 0.5, 0.3), "b": (0.5, 0.4, 0.6)}] * count)})
    said = tables.summary(made)
    assert "untrained encoder on 2 of 2 tasks" in said and "raw features on 1 of 2 tasks" in said and words in said


def test_markdown_marks_the_best_and_keeps_its_columns(tmp_path):
    [row] = tables.rows({"a|b": records(tmp_path, {"digit": (0.9, 0.5, 0.3)})})
    head, rule, line, *_ = tables.markdown([row]).splitlines()
    assert "**90.0**" in line and "**50.0**" not in line
    columns = len(tables.HEADINGS) + 1
    assert head.count("|") == rule.count("|") == line.replace("\\|", "").count("|") == columns


def test_terminal_shows_every_cell_and_takes_no_markup(tmp_path):
    from rich.console import Console

    made = tables.rows({"[red]x": records(tmp_path, {"digit": (0.9, 0.5, 0.3)})})
    console = Console(width=200, record=True, file=io.StringIO())
    console.print(tables.terminal(made, "title [b]"))
    text = console.export_text()
    assert "[red]x" in text and "title [b]" in text and "90.0" in text and "both" in text
