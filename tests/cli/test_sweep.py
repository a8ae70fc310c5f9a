"""Sweeps: folders with names, one table, what failed, and what a sweeper is told."""

import json
import re
from pathlib import Path

import pytest
import yaml
from test_cli import IMAGES, pretrain

from sslzoo.cli.sweep_names import job_name, name, short
from sslzoo.config import fingerprint, protocol
from sslzoo.errors import Stopped
from sslzoo.run import Run


def test_a_sweep_is_a_folder_of_runs_that_what_differs_names(sslzoo):
    code, out, err = pretrain(sslzoo, *IMAGES, "--multirun", "optim.lr=0.1,0.2", "seed=0,1")
    assert code == 0 and err == []
    [folder] = Path("runs").iterdir()
    assert re.fullmatch("rotation-tiny_image-tiny_resnet-by-lr-seed-[0-9a-f]{6}", folder.name)
    expected = {f"lr={lr}-seed={seed}" for lr in (0.1, 0.2) for seed in (0, 1)}
    assert {path.name for path in folder.iterdir()} == {*expected, "multirun.yaml"}
    assert all(Run(folder / run).done for run in expected)
    written = yaml.safe_load(Run(folder / "lr=0.2-seed=1").config.read_text())
    assert (written["optim"]["lr"], written["seed"]) == (0.2, 1) and "metric" not in written
    table = out.splitlines()[-7:]
    assert table[0].split()[:5] == ["lr", "seed", "status", "loss", "val_loss"]
    assert [line.split()[:3] for line in table[1:5]] == [[lr, s, "done"] for lr in ("0.1", "0.2") for s in "01"]
    assert table[5:] == [f"wrote {folder}", f"next:  sslzoo runs root={folder}"]
    assert [p.name for p in Path().iterdir()] == ["runs"], "and nothing is left where one stands"

    code, out, _ = sslzoo("runs", f"root={folder}", "--json")
    assert {row["name"] for row in json.loads(out)} == expected

    _, out, _ = pretrain(sslzoo, *IMAGES, "--multirun", "optim.lr=0.2,0.1", "seed=1,0")
    assert out.count("is done already") == 4 and len(list(folder.glob("*/DONE"))) == 4


def test_jobs_that_name_themselves(sslzoo):
    words = ["--multirun", "name=a,b"]
    assert pretrain(sslzoo, *IMAGES, *words)[0] == 0
    assert {path.name for path in Path("runs").iterdir()} == {"a", "b"}, "nor is multirun.yaml beside them"
    assert pretrain(sslzoo, *IMAGES, "--multirun", "seed=3")[0] == 0, "of one job"
    assert [path.name.startswith("rotation-tiny_image-tiny_resnet-s3-") for path in Path("runs").glob("r*")] == [True]
    assert pretrain(sslzoo, *IMAGES, "--multirun", "seed=4,5", "name=c${seed}")[0] == 0
    assert len(list(Path("runs").iterdir())) == 5 and Path("runs/c4/DONE").exists()
    code, _, err = pretrain(sslzoo, *IMAGES, "--multirun", "seed=4,5", "name=a")
    assert code == 2 and len(err) == 1 and "runs/a is a run already, and no sweep" in err[0]


def test_what_failed_is_said_and_the_others_go_on(sslzoo):
    code, out, err = pretrain(sslzoo, *IMAGES, "--multirun", "data.batch.size=64,8")
    assert code == 1 and len(err) == 1 and err[0].startswith("sslzoo: data.batch.size=64: the training split has 48")
    assert len(list(Path("runs").glob("*/*/DONE"))) == 1
    rows = [line.split()[:2] for line in out.splitlines() if "size" not in line.split()[0]]
    assert ["64", "failed"] in rows and ["8", "done"] in rows and "fewer than a batch of 64" in out


def test_a_mistake_that_all_jobs_share_is_said_once(sslzoo):
    code, out, err = pretrain(sslzoo, *IMAGES, "--multirun", "seed=0,1", "optim.lr=-1.0")
    assert code == 2 and out == "" and len(err) == 1 and "optim needs lr > 0" in err[0]
    code, out, err = pretrain(sslzoo, *IMAGES, "--multirun", "objective=rotation,simcrl")
    assert code == 2 and len(err) == 1 and "there is no objective 'simcrl'" in err[0]
    assert not Path("runs").exists()


def test_a_stopped_job_ends_the_sweep(sslzoo, monkeypatch):
    from sslzoo.train import launch

    def stopped(job, run):
        raise Stopped("stopped by signal 15 at step 1: the same command goes on from there")

    monkeypatch.setattr(launch, "pretrain", stopped)
    code, out, err = pretrain(sslzoo, *IMAGES, "--multirun", "seed=0,1")
    assert code == 1 and err == ["sslzoo: stopped by signal 15 at step 1: the same command goes on from there"]
    assert [line.split()[1:] for line in out.splitlines()[1:3]] == [["not", "begun"]] * 2


def test_what_lightnings_ranks_start_again_with_is_one_job(sslzoo, monkeypatch):
    import sys

    from sslzoo.train import launch

    seen, train = [], launch.pretrain
    monkeypatch.setattr(launch, "pretrain", lambda job, run: seen.append(list(sys.argv)) or train(job, run))
    assert pretrain(sslzoo, *IMAGES, "--multirun", "optim.lr=0.1,0.2")[0] == 0
    [folder] = Path("runs").iterdir()
    for words, lr in zip(seen, ("0.1", "0.2"), strict=True):
        code, out, _ = sslzoo(*words[1:])
        assert code == 0 and f"{folder}/lr={lr} is done already" in out and len(seen) == 2


def test_a_sweeper_is_told_the_metric(sslzoo):
    from hydra_plugins import tiny_sweeps

    tiny_sweeps.TOLD.clear()
    sweeper = "hydra.sweeper._target_=hydra_plugins.tiny_sweeps.Climber"
    code, out, err = pretrain(sslzoo, *IMAGES, "--multirun", sweeper, "name=mine", "metric=val_loss")
    assert code == 0 and err == []
    logs = {p.parent.name: json.loads(p.read_text())["logs"] for p in Path("runs/mine").glob("*/summary.json")}
    better = min(("lr=0.01", "lr=0.02"), key=lambda run: logs[run]["val_loss"])
    assert set(logs) == {"lr=0.01", "lr=0.02", f"{better}-seed=1"}
    assert tiny_sweeps.TOLD == [logs[run]["val_loss"] for run in ("lr=0.01", "lr=0.02", f"{better}-seed=1")]
    assert "lowest val_loss: " in out


def test_a_metric_that_there_will_not_be_is_refused_before_training(sslzoo):
    for words, says in (
        (["metric=lss"], "there is no metric 'lss' — did you mean 'loss'?"),
        (["metric=val_loss", "trainer.val_every=null"], "metric=val_loss is not measured"),
        (["metric=cola"], "task.data.path is required"),
        (["metric=phones"], "phones"),
    ):
        code, _, err = pretrain(sslzoo, *IMAGES, *words)
        assert code == 2 and len(err) == 1 and says in err[0] and not Path("runs").exists(), err


def test_a_probe_as_a_metric(sslzoo, monkeypatch):
    """The score on validation, of a probe that is run where there is none."""
    from sslzoo.probe import command

    probed = []

    def run_probe(config, choices):
        probed.append(config["run"])
        path = Path(config["run"]) / "probe" / "digit.json"
        path.parent.mkdir()
        score = len(probed) / 10
        found = {"linear": {"valid": score, "test": 0.9}, "protocol": fingerprint(protocol(config, choices))}
        path.write_text(json.dumps({"pretrained": found}))
        return path

    monkeypatch.setattr(command, "run_probe", run_probe)
    words = ["data=digits", "data.train=32", "data.valid=16", "data.test=16", "data.batch.size=8"]
    words += ["--multirun", "seed=0,1", "metric=digit", "name=mine"]
    for _ in range(2):  # the second time it is there already
        code, out, err = pretrain(sslzoo, *IMAGES[1:], *words)
        assert code == 0, err
    assert probed == ["runs/mine/seed=0", "runs/mine/seed=1"]
    table = next(line for line in out.splitlines() if line.startswith("1     done"))
    assert table.split()[-3:-1] == ["20.0", "90.0"] and "highest digit: 20.0 on validation, seed=1" in out


def test_a_job_in_another_process_reports_its_failure(sslzoo, tmp_path):
    launcher = "hydra.launcher._target_=hydra_plugins.tiny_sweeps.Elsewhere"
    code, _, err = sslzoo("probe", "--multirun", "run=a,b", "task=digit", launcher)
    assert code in (1, 2) and len(err) == 2 and "run 'a'" in err[1] + err[0] and "run 'b'" in err[1] + err[0], err
    assert not list(tmp_path.rglob("multirun.yaml"))


@pytest.mark.parametrize("launcher", ["joblib", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_a_launcher_reports_a_failure(launcher, sslzoo):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.removesuffix('_local')}_launcher")
    words = ["--multirun", "data.batch.size=8,64", f"hydra/launcher={launcher}", "name=mine"]
    code, out, err = pretrain(sslzoo, *IMAGES, *words)
    assert code == 1 and err[-1].startswith("sslzoo: data.batch.size=64: the training split has 48 items")
    assert Path("runs/mine/size=8/DONE").exists() and "failed" in out


def test_an_adapted_run_is_named_by_what_differs(sslzoo, monkeypatch):
    from sslzoo.adapt import command

    seen = []

    def run_adapt(config, choices, overrides, given):
        seen.append(config["name"])

    monkeypatch.setattr(command, "run_adapt", run_adapt)
    monkeypatch.setattr("sslzoo.cli.early.refuse", lambda config: None)
    assert sslzoo("adapt", "--multirun", "run=a", "task=digit", "optim.lr=0.1,0.2", "method=full,head")[0] == 0
    assert seen == ["digit-full-lr=0.1", "digit-head-lr=0.1", "digit-full-lr=0.2", "digit-head-lr=0.2"]
    seen.clear()
    assert sslzoo("adapt", "--multirun", "run=a", "task=digit", "seed=0,1")[0] == 0
    assert seen == [None, None], "as without a sweep"


def test_names_need_no_quotes_and_are_told_apart():
    assert job_name(["optim.lr=1e-3", "+data.cut=-5", "optim/schedule=wsd"]) == "lr=1e-3-cut=-5-schedule=wsd"
    assert short(["a.size=1", "b.size=2", "x.status=3"]) == {
        "a.size": "a.size",
        "b.size": "b.size",
        "x.status": "x.status",
    }
    awkward = [
        "a=[1,2]",
        "a=[1.2]",
        "a='x y'",
        "a=x_y",
        "a=ñ",
        "a=/x/y",
        "a=$(rm)",
        "a={b:1}",
        "a=" + "z" * 300,
        "a=Z",
        "a=z",
    ]
    names = [job_name([word]) for word in awkward]
    assert len(set(names)) == len(names) and all(re.fullmatch(r"[A-Za-z0-9_.+=-]{1,160}", name) for name in names)
    assert len(job_name([f"k{n}={'v' * 50}" for n in range(20)])) <= 160


def test_the_name_of_a_sweep():
    fixed, swept = ["objective=simclr", "data=digits", "optim.weight_decay=0.1"], ["optim.lr=0.1,0.2"]
    found = name("pretrain", fixed, swept)
    assert re.fullmatch("simclr-digits-by-lr-[0-9a-f]{6}", found)
    same = [["name=null", *fixed], [*reversed(fixed), "trainer.workers=2", "root=there", "hydra.verbose=true"]]
    assert {name("pretrain", words, ["optim.lr=0.4,0.5,0.6"]) for words in same} == {found}
    assert name("pretrain", fixed[:2], swept) != found
    assert name("pretrain", ["name='my sweep'"], swept) == "my sweep"
    assert name("probe", fixed, swept) == name("pretrain", [], ["name=a,b"]) == ".sweep"
