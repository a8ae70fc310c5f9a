"""Names of other programs are told the setting here that was meant, of those that the composed command has."""

import pytest
from conftest import compose

from sslzoo.compare.process import Command
from sslzoo.errors import ConfigError
from sslzoo.hints import MEANT, keys_here, meant, unknown

MINE = {  # what people write, and where they are led with the choices that pretrain has by default
    "lr": "optim.lr",
    "optim.learning_rate": "optim.lr",
    "optimizer.lr": "optim.lr",
    "model.lr": "optim.lr",
    "wd": "optim.weight_decay",
    "warmup": "optim.schedule.warmup",
    "trainer.warmup_steps": "optim.schedule.warmup",
    "scheduler": "optim/schedule",
    "epochs": "trainer.max_steps",
    "max_epochs": "trainer.max_steps",
    "trainer.max_epochs": "trainer.max_steps",
    "trainer.epochs": "trainer.max_steps",
    "max_steps": "trainer.max_steps",
    "batch_size": "data.batch.size",
    "data.batch_size": "data.batch.size",
    "batch-size": "data.batch.size",
    "gpus": "trainer.devices",
    "trainer.num_gpus": "trainer.devices",
    "num_workers": "trainer.workers",
    "data.num_workers": "trainer.workers",
    "fp16": "trainer.precision",
    "amp": "trainer.precision",
    "precision": "trainer.precision",
    "seed_everything": "seed",
    "model": "encoder",
    "backbone": "encoder",
    "method": "objective",
    "dataset": "data",
    "trainer.accumulate_grad_batches": "trainer.accumulate",
    "trainer.gradient_clip_val": "trainer.gradient_clip",
    "temperature": "objective.temperature",
    "augmentations": "objective/views",
    "experiment_name": "name",
    "img_size": "data.size",
    "model.name": "encoder",
    "optimizer.name": "optim",
    "dataset.name": "data",
    "trainer.loggers": "logger",
    "wandb.project": "logger",
}


@pytest.fixture(scope="module")
def here() -> set[str]:
    return keys_here(compose())


@pytest.mark.parametrize("key", MINE)
def test_what_was_meant(key, here):
    said = unknown(key, here, [])
    assert said.startswith(f"there is no setting '{key}' — did you mean '{MINE[key]}'?"), said
    assert "\n" not in said


def test_only_what_the_choices_here_have():
    spoken = keys_here(compose("data=spoken", "encoder=logmel_small", "objective=wav2vec2"))
    assert "'data.batch.seconds'" in meant("batch_size", spoken)
    assert meant("mask_prob", spoken) == " — did you mean 'objective.mask.prob'?"
    assert "it is called 'data.path'" in meant("dataset.root", spoken), "a built-in set has none"
    assert meant("dataset.root", {"data.path"}) == meant("data.root", {"data.path"}) == " — did you mean 'data.path'?"
    assert meant("data_dir", {"task.data.path"}) == " — did you mean 'task.data.path'?"
    assert meant("num_workers", {"workers"}) == " — did you mean 'workers'?", "of `sslzoo label`"
    assert "it is called 'objective.queue'" in meant("queue_size", spoken)
    assert "of another choice than the one here — did you mean 'data.batch.seconds'?" in unknown(
        "data.batch.size", spoken, []
    )


def test_what_is_no_setting_at_all(here):
    for key in ("ckpt_path", "resume", "trainer.resume_from_checkpoint"):
        assert "the same command again continues a run" in unknown(key, here, [])
    assert "set root=FOLDER, name=NAME" in unknown("output_dir", here, [])
    assert meant("output_dir", {"out"}) == " — did you mean 'out'?", "of `sslzoo extract`"
    assert meant("seed", {"seeds"}) == " — did you mean 'seeds'?", "of a comparison"
    assert "are recipes: recipe=NAME" in unknown("experiment.name", here, [])
    assert "tasks are for `sslzoo probe`" in unknown("task", here, [])
    assert meant("frobnicate", here) == ""


def test_a_setting_below_another_name_is_the_one_there():
    here = keys_here(compose("objective=wav2vec2", "data=spoken", "encoder=logmel_small"))
    assert "did you mean 'encoder.frontend.sample_rate'?" in unknown("encoder.front.sample_rate", here, [])
    assert "did you mean 'encoder.trunk.depth'?" in unknown("encoder.trnk.depth", here, [])


def test_a_word_means_one_thing():
    words = [word for line in MEANT for word in line.split()]
    assert len(words) == len(set(words))


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["epochs=3", "lr=0.1"], "there is no setting 'epochs' — did you mean 'trainer.max_steps'? (a run is counted"),
        (["lr=0.1", "batch_size=3"], "there is no setting 'lr' — did you mean 'optim.lr'?"),
        (["data=spoken", "batch_size=3"], "did you mean 'data.batch.seconds'?"),
        (["+lr=0.1"], "there is no setting 'lr' — did you mean 'optim.lr'?"),
        (["--multirun", "seed=0,1", "optim.learning_rate=0.1,0.2"], "did you mean 'optim.lr'?"),
        (
            ["--lr", "0.1"],
            "there is no flag '--lr' — did you mean 'optim.lr'? (settings are KEY=VALUE, without dashes)",
        ),
        (["--batch-size=8"], "there is no flag '--batch-size' — did you mean 'data.batch.size' or"),
        (["encoder=resnet18", "encoder/trunk=gru"], "the choices here have no group 'encoder/trunk'"),
    ],
)
def test_as_it_is_typed(words, says, sslzoo):
    code, out, err = sslzoo("pretrain", *words)
    assert code == 2 and out == "" and len(err) == 1 and says in err[0], err


def test_within_a_comparison():
    with pytest.raises(ConfigError, match=r"no setting 'lr' — did you mean 'optim.lr'\?"):
        Command().compose("pretrain", ["data=spoken", "lr=0.1"])
