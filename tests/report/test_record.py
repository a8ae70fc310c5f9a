import json

import pytest
import torch
from folders import OLD, make_run

from sslzoo.errors import UserError
from sslzoo.report.record import found, group, read
from sslzoo.report.section import section


@pytest.fixture
def run(tmp_path):
    return make_run(tmp_path / "one")


def test_reads_what_is_there(run):
    record = read(run)
    assert record.part("objective") == "SimCLR" and record.seed == 0 and record.minutes == 1.5
    assert record.metrics["loss"] == ([0, 1, 2], [5.5, 4.25, 3.75])
    assert record.metrics["val_loss"] == ([1], [4.5])
    assert record.probes["digit"]["raw"]["linear"]["test"] == 0.31
    assert record.visualization["kind"] == "masked_tokens"
    assert record.missing == []


@pytest.mark.parametrize(
    "name, word",
    [
        ("DONE", "not finished"),
        ("metrics.csv", "no loss curve"),
        ("summary.json", "no time"),
        ("visualization.pt", "no picture"),
        ("probe/digit.json", "Nothing was probed"),
        ("config.yaml", "no config.yaml"),
    ],
)
def test_says_what_is_missing(run, name, word):
    (run.folder / name).unlink()
    [said] = read(run).missing
    assert word in said


@pytest.mark.parametrize(
    "name", ["summary.json", "visualization.pt", "probe/digit.json", "config.yaml", "events.jsonl"]
)
def test_a_damaged_file_is_named(run, name):
    (run.folder / name).write_bytes(b"\x80\x04{ [not: this\n")
    said = [line for line in read(run).missing if "cannot be read" in line]
    assert len(said) == 1 and name.split("/")[-1] in said[0] and "\n" not in said[0]


def test_a_visualization_that_needs_pickle_is_not_opened(run, tmp_path):
    import pickle

    class Trap:
        def __reduce__(self):
            return (open, (str(tmp_path / "sprung"), "w"))

    run.visualization.write_bytes(pickle.dumps(Trap()))
    assert any("visualization.pt cannot be read" in line for line in read(run).missing)
    assert not (tmp_path / "sprung").exists()


def test_an_older_runs_picture_is_read(run):
    run.visualization.unlink()
    torch.save(OLD, run.folder / "show.pt")  # as it was called once
    record = read(run)
    assert record.visualization == OLD and record.missing == []
    assert "<u>ca</u><i>do</i><i class=right>ca</i>" in section([record])


def test_a_row_that_was_cut_by_a_kill_is_left_out(run):
    run.metrics.write_text("step,loss\n0,5\n1,4\n,3\n2")
    assert read(run).metrics == {"loss": ([0, 1], [5.0, 4.0])}


def test_what_a_power_cut_left_of_a_row_is_left_out(run):
    run.metrics.write_text("step,loss\n0,5\n1,4\n2,3.1\0\0\0\0")
    assert read(run).metrics == {"loss": ([0, 1], [5.0, 4.0])}
    run.metrics.write_text("step,loss\n0,5\n2,3.1\0\0\0\0" + "3,3\n4,2\n")  # and was gone on with
    assert read(run).metrics == {"loss": ([0, 3, 4], [5.0, 3.0, 2.0])}
    run.metrics.write_bytes(b"\0" * 4096)
    run.events.write_text('{"step": 1, "kind": "a"}\n{"step": 2, "ki\0\0')
    record = read(run)
    assert record.metrics == {} and record.events == [{"step": 1, "kind": "a"}]


def test_only_a_newline_ends_a_row(run):
    name = "loss\u2028of\x85\x1cthis, too"
    run.metrics.write_text(f'step,"{name}"\n0,5\n1,4\n', encoding="utf-8")
    assert read(run).metrics == {name: ([0, 1], [5.0, 4.0])}


def test_what_is_no_run_is_passed_over(run, tmp_path):
    (tmp_path / "notes.txt").touch()
    (tmp_path / "folder").mkdir()
    names = [str(path) for path in sorted(tmp_path.iterdir())]
    runs, passed = found([*names, str(run.folder)])
    assert [r.name for r in runs] == ["one"] and [p.split("/")[-1] for p in passed] == ["folder", "notes.txt"]
    with pytest.raises(UserError, match="none of .* is a run"):
        found(passed)
    with pytest.raises(UserError, match="no run"):
        found([*names, "nothing-of-this-name"])


def test_a_number_that_is_none_is_not_a_number(run):
    run.summary.write_text(json.dumps({"minutes": None, "peak_memory_gb": "much", "steps": float("nan")}))
    record = read(run)
    assert record.minutes is None and record.number("peak_memory_gb") is None and record.number("steps") is None


def test_runs_that_differ_in_their_seed_alone_are_one_group(tmp_path):
    runs = [make_run(tmp_path / f"cnn-s{seed}", seed) for seed in (0, 1)] + [
        make_run(tmp_path / "other", objective="Rotation")
    ]
    groups = group([read(r) for r in runs])
    assert {label: len(members) for label, members in groups.items()} == {"cnn": 2, "other": 1}


def test_a_sweep_over_seeds_is_called_by_its_folder_and_its_other_settings(tmp_path):
    alone = [make_run(tmp_path / "sweep" / f"seed={seed}", seed, probes={}) for seed in (0, 1)]
    assert list(group([read(r) for r in alone])) == ["sweep"]
    more = [make_run(tmp_path / "by" / f"lr=0.1-seed={seed}", seed, probes={}) for seed in (0, 1)]
    assert list(group([read(r) for r in more])) == ["lr=0.1"]
