"""Mistakes on the command line and in config files: exit code 1 or 2, and one line that names the mend."""

from pathlib import Path

import pytest
import yaml
from conftest import TINY, compose
from test_cli import IMAGES, pretrain

MISTAKES = {
    "unknown command": (["pretrian"], "there is no command 'pretrian' — did you mean 'pretrain'?"),
    "unknown flag": (["pretrain", "--confdir", "mine"], "there is no flag '--confdir' — did you mean '--config-dir'?"),
    "unknown flag of a list": (["list", "--jsn"], "list: unrecognized arguments: --jsn"),
    "no runs": (["report"], "report: the following arguments are required: runs"),
    "no such task": (["probe", "run=mine", "task=dgit"], "there is no task 'dgit' — did you mean 'digit'?"),
    "a path of no data": (
        ["probe", "run=mine", "data.path=x"],
        "no data is chosen that data.path is a setting of: add",
    ),
    "unknown group": (["list", "objectivs"], "there is no group 'objectivs' — did you mean 'objectives'?"),
}


@pytest.mark.parametrize("mistake", MISTAKES)
def test_wrong_commands(mistake, sslzoo):
    words, message = MISTAKES[mistake]
    code, out, err = sslzoo(*words)
    assert code == 2 and out == "" and len(err) == 1 and err[0].startswith(f"sslzoo: {message}")


WRONG = {
    "unknown objective": (["objective=simcrl"], "there is no objective 'simcrl' — did you mean 'simclr'?"),
    "unknown encoder": (["encoder=resnet_smal"], "did you mean 'resnet_small'?"),
    "unknown schedule": (["optim/schedule=wds"], "there is no optim/schedule 'wds' — did you mean 'wsd'?"),
    "group of no parameter": (["optim.groups={encodr:0.1}"], "that starts with 'encodr' — did you mean 'encoder'?"),
    "frozen by a rate": (["optim.groups={encoder:0}"], "optim.groups.encoder is a factor of lr above 0, got 0"),
    "unknown data": (["data=ditigs"], "there is no data 'ditigs'"),
    "unknown key": (["optim.lrr=0.1"], "there is no setting 'optim.lrr' — did you mean 'optim.lr'?"),
    "a key of what lies deeper": (
        ["encoder=vit_small", "encoder.heads=5"],
        "there is no setting 'encoder.heads' — did you mean 'encoder.trunk.heads'?",
    ),
    "unknown group key": (["optimizer=sgd"], "there is no setting 'optimizer' — did you mean 'optim'?"),
    "a key of another choice": (["data.batch.seconds=4"], "'data.batch.seconds' is a setting of another choice"),
    "added key": (["+optim.rate=0.1"], "optim.rate: AdamW takes no 'rate'"),
    "added at the top": (["+recpie=digits_simclr"], "there is no setting 'recpie' — did you mean 'recipe'?"),
    "forced at the top": (["++trainr.max_steps=5"], "there is no setting 'trainr' — did you mean 'trainer'?"),
    "added group": (["+optim/shedule=cosine"], "there is no group 'optim/shedule' — did you mean 'optim/schedule'?"),
    "added group, put at the top": (["+data@dat=digits"], "there is no setting 'dat' — did you mean 'data'?"),
    "a setting of a choice": (["+recipe.lr=3"], "recipe is a choice, and has no settings of its own: recipe=NAME"),
    "taken away": (["~seed"], "seed is required: set seed=…, or leave out the ~"),
    "group taken away": (["~optim"], "optim is required: set optim=… — `sslzoo list` shows: adam"),
    "added twice": (["+optim.lr=0.1"], "'optim.lr' is there already: leave out the +"),
    "keys that are not there": (
        ["data=cola", "data.path=x", "data.files={train: a.tsv, valid: b.tsv}", "objective=bert", "encoder=bert_small"],
        "'data.files' has not all of these keys here: to add to them, write ++data.files=…",
    ),
    "a split's file that is not there": (
        ["data=cola", "data.path=x", "data.files.valid=b.tsv", "objective=bert", "encoder=bert_small"],
        "'data.files.valid' is not set here: to add it, write +data.files.valid=…",
    ),
    "a callback without a plus": (
        ["callbacks.mine._target_=own.Callback"],
        "there is no callbacks.mine here: to add one of yours, write +callbacks.mine._target_=…",
    ),
    "a logger without a plus": (["logger.mine._target_=own.Log"], "write +logger.mine._target_=…"),
    "a callback's setting": (
        ["callbacks=timer", "callbacks.timer.duratoin=1"],
        "there is no setting 'callbacks.timer.duratoin' — did you mean 'callbacks.timer.duration'?",
    ),
    "a launcher that is not installed": (["-m", "hydra/launcher=joblip"], "(pip install hydra-joblip-launcher)"),
    "wrong type": (["trainer.max_steps=many"], "trainer.max_steps must be int, got 'many'"),
    "half a step": (["trainer.max_steps=1.5"], "trainer.max_steps must be int, got 1.5"),
    "not a choice": (
        ["trainer.on_collapse=shout"],
        "trainer.on_collapse must be one of warn, stop, got 'shout'",
    ),
    "bad value": (["optim.lr=-1.0"], "optim needs lr > 0"),
    "unreadable": (["optim.lr=[1"], "cannot read the override"),
    "not quoted": (["seed=日本"], "(quote values with special characters)"),
    "a number for a choice": (["optim=3"], "Config group override must be a string or a list. Got int"),
    "objective and data": (
        ["objective=bert", "data=tiny_image", "encoder=tiny_image"],
        "BERT is for text, but the data is image",
    ),
    "objective and encoder": (
        ["objective=wav2vec2", "data=tiny_speech", "encoder=tiny_resnet"],
        "these encoders fit: encoder=",
    ),
    "data and encoder": (["objective=rotation", "data=tiny_image", "encoder=bert_small"], "resnet18"),
    "path not given": (
        ["objective=rotation", "data=image_folder", "encoder=tiny_resnet"],
        "data.path is required: set data.path=",
    ),
    "path empty": (
        ["objective=rotation", "data=image_folder", "encoder=tiny_resnet", "data.path="],
        "data.path is empty: set data.path=FOLDER",
    ),
    "batch too small": (["objective=simclr", "data.batch.size=1"], "a batch of 1 is too small"),
    "ranks without a strategy": (["trainer.devices=2"], "2 ranks need a strategy"),
    "a mask of another kind": (
        ["objective=bert", "objective/mask=wav2vec2", "data=tiny_text", "encoder=tiny_text"],
        "objective.mask: SpanMask is for another kind of objective",
    ),
    "the first token of a causal trunk": (
        ["data=digits", "encoder=vit_small", "encoder/trunk=gru"],
        "sees no other, and stands for no item: set encoder.pool=mean",
    ),
    "a batch of another kind": (
        ["data=digits", "data/batch=tokens"],
        "data.batch counts tokens, but the data is image",
    ),
    "no views by the name of a choice": (["objective/views=null"], "(for none, write dots: objective.views=null)"),
    "no such seed": (["seed=x"], "seed must be int, got 'x'"),
}


@pytest.mark.parametrize("mistake", WRONG)
def test_wrong_configs(mistake, sslzoo):
    """Refused with exit code 2 and one line, before a folder is made."""
    words, message = WRONG[mistake]
    kept = [w for w in IMAGES if w.split("=")[0] not in {x.split("=")[0] for x in words}]
    code, out, err = pretrain(sslzoo, *kept, *words)
    assert len(err) == 1 and message in err[0], err
    assert code == 2 and out == "" and not Path("runs").exists()


@pytest.mark.parametrize(
    "mistake", ["added key", "added at the top", "forced at the top", "added group", "wrong type", "taken away"]
)
def test_a_config_that_would_be_refused_is_not_shown(mistake, sslzoo):
    words, message = WRONG[mistake]
    code, out, err = pretrain(sslzoo, *words, "--cfg", "job")
    assert code == 2 and out == "" and len(err) == 1 and message in err[0], err
    code, out, err = pretrain(sslzoo, "-m", *words, "seed=0,1", "--cfg=job")
    assert code == 2 and out == "" and len(err) == 1


def test_a_recipes_setting_is_said_of_a_shown_config_too(sslzoo):
    code, out, err = sslzoo("pretrain", "recipe=digits_simclr", "objective=byol", "--cfg", "job")
    assert code == 2 and out == "" and "(of recipe=digits_simclr: ~objective.temperature leaves it out)" in err[0]


def test_a_config_in_which_something_is_still_missing_is_shown(sslzoo, monkeypatch):
    monkeypatch.delenv("SSLZOO_DATA", raising=False)
    code, out, err = sslzoo("pretrain", "objective=simclr", "data=cifar10", "encoder=resnet18", "--cfg", "job")
    assert code == 0 and err == [] and "${paths.data}" in out
    code, out, err = sslzoo("probe", "task=digit", "-c", "job")
    assert code == 0 and err == [] and "run: ???" in out


def test_a_recipes_setting_that_another_choice_does_not_take(sslzoo):
    """And `experiment=` is read as `recipe=`."""
    words = ["trainer.max_steps=1", "trainer.progress=false", "objective=rotation"]
    code, _, err = pretrain(sslzoo, "experiment=digits_simclr", *words, "~objective.hidden_dim")
    assert code == 2 and err == [
        "sslzoo: objective.temperature: Rotation takes no 'temperature' (of recipe=digits_simclr: "
        + "~objective.temperature leaves it out)"
    ]
    code, _, err = pretrain(sslzoo, "experiment=digits", *words)
    assert code == 2 and "there is no recipe 'digits' — did you mean 'digits_simclr'?" in err[0]


def test_a_path_that_is_not_there(sslzoo):
    code, _, err = pretrain(sslzoo, *IMAGES, "data=image_folder", "data.path=no/such/folder")
    assert code == 1 and len(err) == 1 and "no/such/folder" in err[0]
    assert not list(Path().glob("runs/*")), "nothing was learned: no run is left"


def test_a_mended_command_may_have_the_name_of_one_that_took_no_step(sslzoo):
    code, _, err = pretrain(sslzoo, *IMAGES, "name=mine", "data.batch.size=64")
    assert code == 1 and "fewer than a batch of 64" in err[0]
    assert pretrain(sslzoo, *IMAGES, "name=mine", "data.batch.size=8")[0] == 0
    assert Path("runs/mine/DONE").exists()
    code, _, err = pretrain(sslzoo, *IMAGES, "name=mine", "data.batch.size=64")
    assert code == 2 and "another config" in err[0] and Path("runs/mine/config.yaml").exists()


def test_a_config_dir_that_is_not_there(sslzoo):
    for words in (["--config-dir", "mine"], ["--config-dir=mine"], ["-cd", "mine"]):
        code, _, err = sslzoo("pretrain", *words, *IMAGES)
        assert code == 2 and err == ["sslzoo: --config-dir mine is not a folder"]


def test_a_run_of_another_config(sslzoo):
    assert pretrain(sslzoo, *IMAGES, "name=mine")[0] == 0
    code, _, err = pretrain(sslzoo, *IMAGES, "name=mine", "optim.lr=0.7")
    assert code == 2 and len(err) == 1
    assert "runs/mine is a run of another config (optim.lr: 0.001 -> 0.7) — choose another name=" in err[0]


OPTIM = compose("optim=sgd")["optim"]
FILES = {
    "unknown key": (
        {**OPTIM, "momentun": 0.5},
        "optim.momentun: SGD takes no 'momentun' — did you mean 'momentum'?",
    ),
    "unknown key, deep": (
        {**OPTIM, "schedule": {**OPTIM["schedule"], "warm": 1}},
        "optim.schedule.warm: Cosine takes no 'warm' — did you mean 'warmup'?",
    ),
    "wrong type": ({**OPTIM, "nesterov": "yes"}, "optim.nesterov must be bool, got 'yes'"),
    "wrong type, deep": (
        {**OPTIM, "schedule": {**OPTIM["schedule"], "warmup": "a"}},
        "optim.schedule.warmup must be float, got 'a'",
    ),
    "wrong name": (
        {**OPTIM, "_target_": "sslzoo.train.optim.SGDD"},
        "there is no SGDD in sslzoo.train.optim — did you mean 'SGD'?",
    ),
    "wrong module": ({**OPTIM, "_target_": "torch.nowhere.SGD"}, "optim: cannot import torch.nowhere.SGD"),
    "key left out": (
        {"_target_": "sslzoo.train.optim.SGD"},
        "optim.schedule is required by SGD: set optim.schedule=",
    ),
    "no target": ({"lr": 0.1}, "optim has no _target_"),
    "reference to nothing": ({**OPTIM, "lr": "${data.rate}"}, "data.rate"),
}


@pytest.mark.parametrize("mistake", FILES)
def test_mistakes_in_a_file_of_the_users(mistake, sslzoo, tmp_path):
    node, message = FILES[mistake]
    folder = tmp_path / "mine" / "optim"
    folder.mkdir(parents=True)
    (folder / "own.yaml").write_text(yaml.safe_dump(node))
    code, _, err = sslzoo("pretrain", "--config-dir", "mine", f"hydra.searchpath=[file://{TINY}]", *IMAGES, "optim=own")
    assert len(err) == 1 and message in err[0], err
    assert code == 2 and not Path("runs").exists()


def test_a_recipe_whose_key_nobody_reads(sslzoo, tmp_path):
    """Hydra finds typing errors on the command line only; a key that something refers to is a variable."""
    (tmp_path / "mine" / "recipe").mkdir(parents=True)
    recipe = tmp_path / "mine" / "recipe" / "own.yaml"
    words = ["--config-dir", "mine", f"hydra.searchpath=[file://{TINY}]", *IMAGES, "recipe=own", "name=own"]
    recipe.write_text("# @package _global_\ntrainr:\n  log_every: 1\n")
    code, _, err = sslzoo("pretrain", *words)
    assert code == 2 and err == ["sslzoo: there is no setting 'trainr' — did you mean 'trainer'?"]
    recipe.write_text("# @package _global_\nevery: 1\ntrainer:\n  log_every: ${every}\n")
    assert sslzoo("pretrain", *words)[0] == 0
    written = yaml.safe_load((tmp_path / "runs" / "own" / "config.yaml").read_text())
    assert written["trainer"]["log_every"] == 1 and "every" not in written


def test_a_file_that_is_no_yaml(sslzoo, tmp_path):
    (tmp_path / "mine" / "optim").mkdir(parents=True)
    (tmp_path / "mine" / "optim" / "own.yaml").write_text("lr: [1\nb: {")
    code, _, err = sslzoo("pretrain", "--config-dir", "mine", f"hydra.searchpath=[file://{TINY}]", *IMAGES, "optim=own")
    assert code == 2 and len(err) == 1 and "own.yaml" in err[0]


def test_files_of_other_programs_beside_the_configs_spoil_no_hint(sslzoo, tmp_path):
    folder = tmp_path / "mine" / "optim"
    folder.mkdir(parents=True)
    (folder / "tag.yaml").write_text("vault: !secret key\n", encoding="utf-8")
    (folder / "two.yaml").write_text("a: 1\n---\nb: 2\n", encoding="utf-8")
    (folder / "latin.yaml").write_bytes("name: Müller\n".encode("latin-1"))
    (folder / "endless.yaml").write_text("a: &a {b: *a}\n", encoding="utf-8")
    (folder / "list.yaml").write_text("- 1\n", encoding="utf-8")
    code, _, err = sslzoo("pretrain", "--config-dir", "mine", "optim.lrr=3")
    assert (code, err) == (2, ["sslzoo: there is no setting 'optim.lrr' — did you mean 'optim.lr'?"])
    assert sslzoo("list", "optims", "--config-dir", "mine")[0] == 0
