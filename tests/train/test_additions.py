"""A user's callbacks and loggers: made by `_target_`, kept in checkpoints, refused in one line."""

from pathlib import Path

import pytest
import yaml
from conftest import TINY, tiny
from test_contracts import train
from tiny_callbacks import SEEN

from sslzoo.build import build
from sslzoo.config import fingerprint
from sslzoo.errors import ConfigError, Stopped, UserError
from sslzoo.run import Run

COUNT = "+callbacks.mine._target_=tiny_callbacks.Count"


def config(*words: str) -> dict:
    return tiny("rotation", "trainer.max_steps=4", "trainer.log_every=1", "encoder=tiny_resnet", *words)


def test_a_callback_and_a_logger_of_ones_own(tmp_path):
    SEEN.clear()
    words = [COUNT, "+logger.mine._target_=tiny_callbacks.Lines", "+logger.mine.prefix=at"]
    run = train(config(*words), tmp_path / "a")
    assert run.done and SEEN == [4]
    lines = (run.folder / "lines.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == [f"at{step}" for step in range(4)]


def test_a_run_that_a_callback_stopped_goes_on_with_its_state_bit_for_bit(tmp_path):
    SEEN.clear()
    whole = train(config(COUNT), tmp_path / "whole")
    stopping = config(COUNT, "+callbacks.mine.stop_at=2")
    with pytest.raises(Stopped, match="a callback stopped it at step 2 of 4: the same command goes on"):
        train(stopping, tmp_path / "a")
    assert not Run(tmp_path / "a").done
    train(stopping, tmp_path / "a")
    assert SEEN == [4, 2, 4], "it counted on from 2"
    assert Run(tmp_path / "a").weights.read_bytes() == whole.weights.read_bytes()


def test_a_state_that_a_checkpoint_cannot_hold_is_refused_when_it_is_saved(tmp_path):
    with pytest.raises(UserError, match="callback Odd holds a object, which a checkpoint cannot"):
        train(config("+callbacks.mine._target_=tiny_callbacks.Odd"), tmp_path / "a")


def test_a_callback_that_needs_a_logger_says_so_in_one_line(tmp_path):
    monitor = "+callbacks.x._target_=lightning.pytorch.callbacks.LearningRateMonitor"
    with pytest.raises(ConfigError, match=r"LearningRateMonitor.* no logger. \(logger=tensorboard gives one\)"):
        train(config(monitor), tmp_path / "a")


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["+callbacks.x=1"], "callbacks.x has no _target_"),
        (["+callbacks._target_=tiny_callbacks.Count"], "callbacks holds nodes under names of yours"),
        (
            ["+callbacks.x._target_=sslzoo.train.optim.SGD"],
            "callbacks.x: sslzoo.train.optim.SGD is no lightning.pytorch.Cal",
        ),
        (
            ["+logger.x._target_=tiny_callbacks.Count"],
            "logger.x: tiny_callbacks.Count is no lightning.pytorch.loggers.Log",
        ),
        (["+callbacks.x._target_=tiny_callbacks.Cuont"], "there is no Cuont in tiny_callbacks — did you mean 'Count'"),
        (["+callbacks.x._target_=nowhere.Count"], "callbacks.x: cannot import nowhere.Count"),
        (
            [COUNT, "+callbacks.mine.stp_at=2"],
            "callbacks.mine.stp_at: Count takes no 'stp_at' — did you mean 'stop_at'",
        ),
        (
            ["+callbacks.x._target_=lightning.pytorch.callbacks.EarlyStopping"],
            r"callbacks.x.monitor is required by EarlyStopping: set \+callbacks.x.monitor=",
        ),
    ],
)
def test_what_is_none_is_refused_before_data_is_read(words, says):
    with pytest.raises(ConfigError, match=says):
        build(config(*words))


@pytest.mark.parametrize(
    "words",
    [
        [COUNT, COUNT.replace("mine", "other")],
        ["+callbacks.x._target_=lightning.pytorch.callbacks.ModelCheckpoint"],
    ],
)
def test_what_lightning_refuses_is_one_line(words, tmp_path):
    with pytest.raises(ConfigError, match="callbacks: ") as caught:
        train(config(*words), tmp_path / "a")
    assert "\n" not in str(caught.value)


def test_a_logger_that_is_not_installed_is_refused_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'sslzoo\[wandb\]'"):
        build(config("logger=wandb"))


def test_several_loggers_are_chosen_at_once():
    assert set(config("logger=[tensorboard,wandb]")["logger"]) == {"tensorboard", "wandb"}


def test_a_logger_changes_no_name_and_no_run_and_a_callback_does(tmp_path):
    plain, logged = config(), config("+logger.mine._target_=tiny_callbacks.Lines")
    assert plain["callbacks"] == plain["logger"] == {}
    assert (
        fingerprint(plain) == fingerprint(logged) == fingerprint({k: v for k, v in plain.items() if k != "callbacks"})
    )
    assert fingerprint(plain) != fingerprint(config(COUNT))
    train(plain, tmp_path / "a")
    train(logged, tmp_path / "a")
    with pytest.raises(ConfigError, match=r"callbacks.mine._target_: absent -> tiny_callbacks.Count"):
        train(config(COUNT), tmp_path / "a")


def test_a_file_of_ones_own(sslzoo, tmp_path):
    SEEN.clear()
    (tmp_path / "mine" / "callbacks").mkdir(parents=True)
    (tmp_path / "mine" / "callbacks" / "count.yaml").write_text("# counts\nmine:\n  _target_: tiny_callbacks.Count\n")
    words = "callbacks=count data=tiny_image encoder=tiny_resnet objective=rotation trainer.max_steps=2 name=a"
    code, _, err = sslzoo(
        "pretrain",
        "--config-dir",
        "mine",
        f"hydra.searchpath=[file://{TINY}]",
        "trainer.progress=false",
        *words.split(),
    )
    assert code == 0 and SEEN == [2], err
    assert yaml.safe_load(Path("runs/a/config.yaml").read_text())["callbacks"]["mine"]["_target_"].endswith("Count")
    code, _, err = sslzoo("pretrain", "trainer.loggers=[tensorboard]")
    assert code == 2 and len(err) == 1 and "logger" in err[0].replace("trainer.loggers", "")
