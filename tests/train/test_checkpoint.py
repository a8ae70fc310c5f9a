"""Checkpoints: signed, plain, kept when a new one cannot be written; runs that are not to be continued."""

import json
import pickle
import shutil

import pytest
import torch
import yaml
from conftest import tiny
from test_run import small_disk

from sslzoo.build import build, load_encoder, write_config
from sslzoo.errors import ConfigError, UserError
from sslzoo.run import Run, check_signed, write_signed
from sslzoo.train import checkpoint, launch


def start(run: Run, *overrides: str) -> Run:
    config = tiny("rotation", "trainer.max_steps=6", "trainer.save_every=2", "encoder=tiny_resnet", *overrides)
    config = {k: v for k, v in config.items() if k not in ("name", "root")}
    job = build(config)
    write_config(run, config)
    launch.pretrain(job, run)
    return run


@pytest.fixture(scope="module")
def finished(tmp_path_factory) -> Run:
    return start(Run(tmp_path_factory.mktemp("runs") / "whole"))


@pytest.fixture
def stopped(finished, tmp_path) -> Run:
    """The run as it was two steps before its end."""
    run = Run(tmp_path / "run")
    shutil.copytree(finished.folder, run.folder)
    for path in (*run.checkpoints.glob("step=00000006*"), run.weights, run.folder / "DONE"):
        path.unlink()
    assert checkpoint.latest_checkpoint(run).name == "step=00000004.ckpt"
    return run


def test_the_last_are_kept(finished):
    assert sorted(p.name for p in finished.checkpoints.iterdir()) == [
        "step=00000004.ckpt",
        "step=00000004.ckpt.sha256",
        "step=00000006.ckpt",
        "step=00000006.ckpt.sha256",
    ]
    for path in finished.checkpoints.glob("*.ckpt"):
        check_signed(path)
    assert checkpoint.latest_checkpoint(finished).name == "step=00000006.ckpt"
    assert checkpoint.latest_checkpoint(Run(finished.folder / "nowhere")) is None


def test_a_run_killed_after_its_last_checkpoint_is_finished(finished, tmp_path):
    run = Run(tmp_path / "run")
    shutil.copytree(finished.folder, run.folder)
    for path in (run.weights, run.summary, run.visualization, run.folder / "DONE"):
        path.unlink()
    assert start(run).done
    assert run.weights.read_bytes() == finished.weights.read_bytes() and run.visualization.exists()
    logs, whole = (json.loads(r.summary.read_text())["logs"] for r in (run, finished))
    assert logs == whole and "loss" in logs and "lr" in logs


def test_no_run_is_no_checkpoint(tmp_path):
    with pytest.raises(UserError, match="there is no"):
        checkpoint.load(tmp_path / "step=1.ckpt")


def flip(path, place: int) -> None:
    content = bytearray(path.read_bytes())
    content[place] ^= 4
    path.write_bytes(content)


DAMAGES = {
    "a byte of the head": lambda path: flip(path, 0),
    "a byte in the middle": lambda path: flip(path, 3000),
    "a byte of the end": lambda path: flip(path, -1),
    "truncated": lambda path: path.write_bytes(path.read_bytes()[:1000]),
    "empty": lambda path: path.write_bytes(b""),
    "without its signature": lambda path: (path.parent / f"{path.name}.sha256").unlink(),
}


@pytest.mark.parametrize("what", DAMAGES)
def test_of_a_damaged_checkpoint_the_one_before_is_used_and_it_is_said(finished, tmp_path, capfd, what):
    run = Run(tmp_path / "run")
    shutil.copytree(finished.folder, run.folder)
    for path in (run.weights, run.folder / "DONE"):
        path.unlink()
    DAMAGES[what](checkpoint.latest_checkpoint(run))
    assert start(run).done
    said = capfd.readouterr().err
    assert "passed over step=00000006.ckpt: " in said and "continuing from step=00000004.ckpt" in said
    assert run.weights.read_bytes() == finished.weights.read_bytes()
    assert run.metrics.read_text() == finished.metrics.read_text()


def test_where_all_are_damaged_no_step_is_taken(stopped):
    path, before = checkpoint.latest_checkpoint(stopped), stopped.metrics.read_text()
    flip(path, 300)
    with pytest.raises(UserError, match="step=00000004.ckpt is damaged.*delete both"):
        start(stopped)
    assert stopped.metrics.read_text() == before
    # the mend that the message names
    path.unlink(), (path.parent / f"{path.name}.sha256").unlink()
    assert start(stopped).done


class Harmful:
    def __reduce__(self):
        return (open, ("harmed", "w"))


@pytest.mark.parametrize(
    "made",
    [
        lambda path: path.write_bytes(pickle.dumps(Harmful())),
        lambda path: torch.save({"state_dict": Harmful()}, path),
        lambda path: path.write_text("not a checkpoint"),
    ],
    ids=["pickle", "torch pickle", "text"],
)
def test_a_pickle_is_refused_and_not_run(made, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    write_signed(tmp_path / "a.ckpt", made)
    with pytest.raises(UserError, match="no checkpoint of sslzoo"):
        checkpoint.load(tmp_path / "a.ckpt")
    assert not (tmp_path / "harmed").exists()


def test_a_full_disk_keeps_the_checkpoint_before(stopped, finished):
    """The disk fills in the middle of a checkpoint; with room again, the run ends as if nothing had been."""
    size = checkpoint.latest_checkpoint(stopped).stat().st_size
    with (
        small_disk(size // 2),
        pytest.raises(UserError, match="cannot write .*step=00000006.ckpt.*still there"),
    ):
        start(stopped)
    assert sorted(p.name for p in stopped.checkpoints.iterdir()) == [
        "step=00000004.ckpt",
        "step=00000004.ckpt.sha256",
    ]
    assert not stopped.done
    assert start(stopped).done
    assert stopped.weights.read_bytes() == finished.weights.read_bytes()


def test_another_config_is_refused_with_the_difference(stopped):
    before = stopped.config.read_text()
    with pytest.raises(ConfigError, match="another config .*optim.lr: 0.001 -> 0.5.* choose another name"):
        start(stopped, "optim.lr=0.5")
    with pytest.raises(ConfigError, match="encoder.width: 8 -> 16.*optim.lr: 0.001 -> 0.5"):
        start(stopped, "optim.lr=0.5", "encoder.width=16")
    with pytest.raises(ConfigError, match="and [0-9]+ more"):
        start(stopped, "optim=sgd")
    with pytest.raises(ConfigError, match="seed: 0 -> 1"):
        start(stopped, "seed=1")
    assert stopped.config.read_text() == before
    with pytest.raises(ConfigError) as refused:
        start(stopped, "optim=lars", "seed=3")
    assert "\n" not in str(refused.value) and refused.value.code == 2


def test_what_changes_nothing_learned_may_differ(stopped, finished):
    assert start(stopped, "trainer.workers=1", "trainer.accelerator=cpu", "trainer.save_every=3", "trainer.keep=1").done
    assert stopped.weights.read_bytes() == finished.weights.read_bytes()
    assert yaml.safe_load(stopped.config.read_text())["trainer"]["workers"] == 0


def test_a_run_made_before_a_setting_was_goes_on(stopped, finished):
    """If the default of today is the setting asked for; another is a difference."""
    said = yaml.safe_load(stopped.config.read_text())
    for name in ("accumulate", "tf32", "on_collapse"):
        del said["trainer"][name]
    said["trainer"]["loggers"] = []  # a setting once
    del said["optim"]["layer_decay"], said["optim"]["schedule"]["final"]
    stopped.config.write_text(yaml.safe_dump(said))
    with pytest.raises(ConfigError, match=r"\(trainer.accumulate: 1 -> 2\)"):
        start(stopped, "trainer.accumulate=2")
    with pytest.raises(ConfigError, match=r"\(optim.schedule.final: 0.0 -> 0.1\)"):
        start(stopped, "optim.schedule.final=0.1")
    assert start(stopped).done
    assert stopped.weights.read_bytes() == finished.weights.read_bytes()
    del said["encoder"]["width"]
    stopped.config.write_text(yaml.safe_dump(said))
    with pytest.raises(ConfigError, match="encoder.width: 64 -> 8"):
        start(stopped)


def test_the_encoder_comes_back_trained_and_untrained(finished):
    encoder, data = load_encoder(finished)
    state = checkpoint.load(checkpoint.latest_checkpoint(finished))["state_dict"]
    for name, weight in encoder.state_dict().items():
        assert torch.equal(weight, state[f"encoder.{name}"])
    assert not encoder.training and data.modality == "image"
    untrained, _ = load_encoder(finished, untrained=True)
    first = build(tiny("rotation", "encoder=tiny_resnet")).encoder.state_dict()
    assert all(torch.equal(w, first[n]) for n, w in untrained.state_dict().items())
    assert any(not torch.equal(w, encoder.state_dict()[n]) for n, w in untrained.state_dict().items())


def test_damaged_weights_are_not_loaded(stopped, finished):
    with pytest.raises(UserError, match="there is no .*safetensors"):
        load_encoder(stopped)
    stopped.weights.write_bytes(finished.weights.read_bytes()[:-1] + b"!")
    with pytest.raises(UserError, match="damaged"):
        load_encoder(stopped)
    stopped.encoder.unlink()
    with pytest.raises(UserError, match="no finished encoder yet"):
        load_encoder(stopped)
