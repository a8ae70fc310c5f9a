"""`sslzoo runs`: a row for each run, whatever state its folder is in."""

import json
import os
import subprocess
import sys

import pytest
import yaml

from sslzoo.errors import Stopped, UserError
from sslzoo.lock import sole_writer
from sslzoo.report.runs import Row, aligned, rows, table
from sslzoo.run import Run

CONFIG = {"seed": 3, "objective": {"_target_": "x.SimCLR"}, "data": {"_target_": "x.Digits"}}


def made(folder, *, done=True, overrides=("optim.lr=0.1",), loss="2.5", minutes=1.5) -> Run:
    run = Run(folder)
    folder.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(CONFIG))
    if overrides is not None:
        run.overrides.write_text(yaml.safe_dump(list(overrides)))
    run.metrics.write_text(f"step,loss\n0,3.0\n10,{loss}\n")
    if done:
        run.summary.write_text(json.dumps({"minutes": minutes, "logs": {"loss": 2.25, "val_loss": 2.5}}))
        for path in (run.weights, run.encoder):
            path.touch()
        run.finish()
    return run


def by_name(root) -> dict[str, Row]:
    return {row.name: row for row in rows(root)}


def test_a_row_says_what_there_is(tmp_path):
    done = made(tmp_path / "a", overrides=("recipe=x", "+optim.lr=0.1", "name=a", "root=runs", "hydra.verbose=true"))
    done.probes.mkdir()
    (done.probes / "digit.json").write_text(json.dumps({"pretrained": {"linear": {"test": 0.504}}}))
    made(tmp_path / "b", done=False)
    found = by_name(tmp_path)
    assert found["a"] == Row(
        "a", str(tmp_path / "a"), "done", ["recipe=x", "+optim.lr=0.1"], 2.25, 2.5, {"digit": 0.504}, 1.5
    )
    assert found["b"] == Row("b", str(tmp_path / "b"), "stopped", ["optim.lr=0.1"], 2.5), "as it was logged last"


def test_runs_within_sweeps_and_comparisons_and_what_a_run_was_adapted_to(tmp_path):
    made(tmp_path / "sweep" / "lr=0.1")
    made(tmp_path / "demo" / "vision-s0")
    adapted = made(tmp_path / "demo" / "vision-s0" / "adapted" / "digit-full")
    adapted.adapted_weights.touch()
    adapted.adapted.touch()
    adapted.result.write_text(json.dumps({"task": "digit", "metric": "accuracy", "test": {"accuracy": 0.9}}))
    (tmp_path / "demo" / "baselines").mkdir()
    (tmp_path / "elsewhere").symlink_to(tmp_path)
    found = by_name(tmp_path)
    assert list(found) == ["demo/vision-s0", "demo/vision-s0/adapted/digit-full", "sweep/lr=0.1"]
    assert found["demo/vision-s0/adapted/digit-full"].scores == {"digit": 0.9}
    assert {row.status for row in found.values()} == {"done"}
    assert [row.name for row in rows(tmp_path / "sweep" / "lr=0.1")] == ["lr=0.1"], "a run by itself"


def test_a_run_that_is_older_than_overrides_shows_its_parts(tmp_path):
    made(tmp_path / "old", overrides=None)
    assert rows(tmp_path)[0].settings == ["objective: SimCLR", "data: Digits", "seed=3"]


def break_config(run):
    run.config.write_text("a: [1\nb: {")


def break_encoding(run):
    run.config.write_bytes(b"\xff\xfe\x00")


def break_summary(run):
    run.summary.write_text('{"minutes": ')


def not_numbers(run):
    run.summary.write_text('{"minutes": NaN, "logs": {"loss": "x", "val_loss": Infinity}}')


def list_for_summary(run):
    run.summary.write_text("[1]")


def break_metrics(run):
    run.metrics.write_bytes(b"step,loss\n0,3.0\n10,2.5\n" + bytes(4096))


def long_field(run):
    run.metrics.write_text("step,loss\n0," + "9" * 200_000 + "\n")


def break_probe(run):
    run.probes.mkdir()
    (run.probes / "digit.json").write_text("{")


def break_result(run):
    run.result.write_text('{"test": 1, "metric": "accuracy"}{')


def break_overrides(run):
    run.overrides.write_text("{: [")


def no_config(run):
    run.config.unlink()


def no_weights(run):
    run.weights.unlink()


def folder_for_a_file(run):
    run.summary.unlink()
    run.summary.mkdir()


def link_to_nothing(run):
    run.config.unlink()
    run.config.symlink_to("nowhere")


@pytest.mark.parametrize(
    ("damage", "status", "says"),
    [
        (break_config, "broken", "config.yaml cannot be read"),
        (break_encoding, "broken", "config.yaml cannot be read"),
        (no_config, "broken", "no config.yaml"),
        (link_to_nothing, "broken", "no config.yaml"),
        (no_weights, "broken", "it has DONE, but no encoder.safetensors"),
        (break_summary, "done", "summary.json cannot be read"),
        (list_for_summary, "done", "summary.json cannot be read"),
        (folder_for_a_file, "done", "summary.json cannot be read"),
        (break_probe, "done", "digit.json cannot be read"),
        (break_result, "done", "result.json cannot be read"),
        (break_metrics, "done", None),
        (not_numbers, "done", None),
        (break_overrides, "done", None),
        (long_field, "done", None),
    ],
)
def test_a_broken_folder_is_a_row_with_its_fault(tmp_path, damage, status, says):
    damage(made(tmp_path / "a"))
    made(tmp_path / "b")
    found = by_name(tmp_path)
    assert found["a"].status == status and found["b"].status == "done"
    assert found["a"].fault is None if says is None else says in found["a"].fault
    assert len(table(list(found.values())).splitlines()) == 3
    assert "NaN" not in json.dumps([row.json() for row in found.values()], allow_nan=False)


def test_why_a_run_failed_is_kept_until_it_is_run_again(tmp_path):
    run = made(tmp_path / "a", done=False)
    with pytest.raises(UserError), run.attempt():
        raise UserError("the loss is not finite at step 12")
    assert (rows(tmp_path)[0].status, rows(tmp_path)[0].fault) == ("failed", "the loss is not finite at step 12")
    with pytest.raises(Stopped), run.attempt():
        raise Stopped("stopped by signal 15")
    assert rows(tmp_path)[0].status == "stopped" and rows(tmp_path)[0].fault is None
    with pytest.raises(KeyboardInterrupt), run.attempt():
        raise KeyboardInterrupt
    assert rows(tmp_path)[0].status == "stopped"


def test_a_run_that_is_being_written(tmp_path):
    run = made(tmp_path / "a", done=False)
    run.failure.write_text("as it failed before")
    with sole_writer(run.folder):
        assert rows(tmp_path)[0].status == "running"
    assert rows(tmp_path)[0].status == "failed"


def test_the_overrides_of_a_run_are_those_that_it_began_with(tmp_path):
    run = Run(tmp_path / "a")
    run.folder.mkdir()
    run.config.write_text("seed: 0")
    for words in (["objective=simclr", "prompt='ñ: [x]'"], ["seed=1"]):
        with run.attempt(words):
            run.metrics.touch()
    assert yaml.safe_load(run.overrides.read_text(encoding="utf-8")) == ["objective=simclr", "prompt='ñ: [x]'"]


def test_a_run_that_took_no_step_leaves_nothing(tmp_path):
    run = Run(tmp_path / "a")
    run.folder.mkdir()
    run.config.write_text("seed: 0")
    with pytest.raises(UserError), run.attempt(["seed=1"]):
        raise UserError("no such folder")
    assert not run.folder.exists()


@pytest.mark.skipif(os.geteuid() == 0, reason="root may look into every folder")
def test_a_folder_that_may_not_be_looked_into(tmp_path):
    run = made(tmp_path / "a")
    run.folder.chmod(0)
    try:
        assert "cannot be read" in rows(tmp_path)[0].fault
    finally:
        run.folder.chmod(0o755)


def test_columns():
    assert aligned({"name": ["a", "bcd"], "n": ["1.5", "10.5"], "none": ["", ""]}, left=("name",)) == (
        "name     n\na      1.5\nbcd   10.5"
    )
    assert aligned({"x": ["a\nb"]}) == "  x\na b", "one line a row, whatever is in it"


def test_the_command(sslzoo, tmp_path):
    assert sslzoo("runs") == (0, "there are no runs in runs/\n", [])
    assert sslzoo("runs", "--json")[1] == "[]\n"
    made(tmp_path / "runs" / "a")
    made(tmp_path / "other" / "sweep" / "b")
    code, out, err = sslzoo("runs")
    assert code == 0 and err == [] and "a " in out.splitlines()[1] and "optim.lr=0.1" in out
    for word in ("root=other", "other", "root=other/sweep"):
        assert [row["name"].split("/")[-1] for row in json.loads(sslzoo("runs", word, "--json")[1])] == ["b"]
    code, _, err = sslzoo("runs", "root=nowhere")
    assert code == 1 and len(err) == 1 and "no folder nowhere" in err[0]


def test_no_torch_to_list_runs():
    code = "import sys; import sslzoo.report.runs; assert 'torch' not in sys.modules and 'lightning' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
