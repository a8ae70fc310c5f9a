"""Groups below the top of conf/: each option is one word, wherever it fits, and a recipe's are as free as any."""

import re

import pytest
import yaml
from conftest import compose, nodes_of

from sslzoo.build import check, write_config
from sslzoo.config import CONF, GROUPS, LATER, fingerprint, options
from sslzoo.errors import ConfigError
from sslzoo.run import Run

WORDS = {
    "views": (["objective=byol", "objective/views=color_only"], "objective.views.scale", [1.0, 1.0]),
    "no views": (["objective=rotation", "objective.views=null"], "objective.views", None),
    "views where there were none": (["objective=mae", "objective/views=crop_only"], "objective.views.flip", 0.5),
    "mask": (["objective=wav2vec2", "objective/mask=block"], "objective.mask.length", 50),
    "corruption": (["objective=tera", "objective/corruption=mockingjay"], "objective.corruption.width", None),
    "front end": (["encoder=gru_small", "encoder/frontend=wave_small"], "encoder.frontend.layers.0", [128, 10, 5]),
    "trunk": (["encoder=logmel_small", "encoder/trunk=gru"], "encoder.trunk.cell", "gru"),
    "a trunk has positions of its own": (["encoder=logmel_small", "encoder/trunk=gru"], "encoder.trunk.position", None),
    "position": (["encoder=bert_small", "encoder/trunk/position=sine"], "encoder.trunk.position.dim", 128),
    "no position": (["encoder=logmel_small", "encoder.trunk.position=null"], "encoder.trunk.position", None),
    "batch": (["data=docstrings", "encoder=text_small", "data/batch=items_32"], "data.batch.size", 32),
    "nothing is left of another batch": (
        ["data=docstrings", "encoder=text_small", "data/batch=items_32"],
        "data.batch.tokens",
        None,
    ),
    "a recipe's views": (["recipe=digits_simclr", "objective/views=color_only"], "objective.views.scale", [1.0, 1.0]),
    "the rest of a recipe": (["recipe=digits_simclr", "objective/views=color_only"], "trainer.max_steps", 320),
    "a recipe's trunk": (["recipe=docstrings_bert", "encoder/trunk=bert_small"], "encoder.trunk.depth", 4),
    "a recipe's schedule": (["recipe=shakespeare_gpt", "optim/schedule=constant"], "optim.schedule.final", None),
}


def at(config, key: str):
    for part in key.split("."):
        config = config[int(part)] if isinstance(config, list) else config.get(part) if config else None
    return config


@pytest.mark.parametrize("word", WORDS)
def test_one_word_chooses(word):
    words, key, value = WORDS[word]
    if words[0].startswith("encoder"):
        words = [f"data=tiny_{'text' if 'bert' in words[0] else 'speech'}", *words]
    config = compose(*words)
    for node in ("objective", "encoder", "data", "optim"):
        check(config[node], node)
    assert at(config, key) == value


BELOW = sorted(group for group in GROUPS.values() if "/" in group and not group.startswith("task/"))  # of pretrain
HOME = {  # what each is chosen for, by a setting of its target
    "encoder": {
        "waves": "codes_small",
        "sample_rate": "logmel_small",
        "vocab_size": "text_small",
        "patch": "vit_small",
        "colors": "igpt_small",
    },
    "objective/mask": {
        "length": "wav2vec2",
        "prob": "bert",
        "block": "data2vec2",
        "smallest": "data2vec_image",
        "targets": "ijepa",
    },
    "objective/mixing": {"ratio": "wavlm"},
    "objective/views": {"mix": "byol_audio", "hue": "simclr", "flip": "simclr"},
    "objective/corruption": {"prob": "tera"},
    "objective/rows": {"_target_": "albert"},
}


@pytest.mark.parametrize(("group", "name"), [(g, n) for g in BELOW for n in options(g)])
def test_every_option_below_the_top_binds(group, name):
    top, node = group.split("/")[0], nodes_of(group)[name]
    home = next((h for key, h in HOME.get(group, HOME.get(top, {})).items() if key in node), None)
    if group.startswith("encoder/trunk"):
        home = "logmel_small"
    data = {"text_small": "text", "vit_small": "image", "igpt_small": "image"}
    data |= {"logmel_small": "speech", "codes_small": "speech"}
    words = [f"{top}={home}"] if home else []
    config = compose(*words, *([f"data=tiny_{data[home]}"] if home in data else []), f"{group}={name}")
    check(config[top], top)


def test_groups_of_ones_own(sslzoo, tmp_path):
    """A folder of the user's adds to the groups, and its options refer to those that are there."""
    for path, text in {
        "objective/views/mine.yaml": "# mine\ndefaults:\n  - simclr\n  - _self_\n\nflip: 0.25\n",
        "encoder/mine.yaml": "# mine\ndefaults:\n  - frontend: logmel\n  - trunk: gru\n  - _self_\n\n"
        "_target_: sslzoo.encoders.sequence.SequenceEncoder\npool: mean\n",
        "recipe/mine.yaml": "# @package _global_\n# mine\ndefaults:\n  - override /objective/views: mine\n\nseed: 3\n",
        "paths/mine.yaml": "# mine\ndata: /somewhere\n",
    }.items():
        (tmp_path / "mine" / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / "mine" / path).write_text(text)
    at = ["--config-dir", "mine", "--cfg", "job"]
    code, out, err = sslzoo("pretrain", *at, "recipe=mine", "data=mnist", "paths=mine", "--resolve")
    assert code == 0 and not err, err
    assert "flip: 0.25" in out and "seed: 3" in out and "path: /somewhere/mnist" in out
    assert "cell: gru" in sslzoo("pretrain", *at, "encoder=mine", "data=spoken")[1]


@pytest.mark.parametrize("order", [("mine", "ours"), ("ours", "mine")], ids=" ".join)
def test_several_folders_of_ones_own(sslzoo, tmp_path, order):
    """Each of them adds to the groups, in a sweep too, whose jobs Hydra composes by itself."""
    for path, text in {
        "mine/optim/mine.yaml": "# mine\ndefaults:\n  - adamw\n  - _self_\n\nlr: 0.25\n",
        "ours/data/ours.yaml": "# ours\ndefaults:\n  - digits\n  - _self_\n",
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(text)
    words = [word for folder in order for word in ("--config-dir", folder)]
    words += ["objective=rotation", "encoder=resnet_small", "data=ours", "optim=mine"]
    code, out, err = sslzoo("pretrain", *words, "--cfg", "job")
    assert code == 0 and "lr: 0.25" in out and "digits.Digits" in out, err
    code, _, err = sslzoo("pretrain", *words, "--multirun", "seed=0,1", "optim.lr=far")
    assert code == 2 and "optim.lr" in err[0] and "far" in err[0], "both options were found"


def test_a_set_is_looked_for_where_paths_says(monkeypatch):
    monkeypatch.delenv("SSLZOO_DATA", raising=False)
    with pytest.raises(ConfigError, match=r"data.path is required: set data.path=…, or SSLZOO_DATA .* holds mnist/"):
        compose("data=mnist")
    with pytest.raises(ConfigError, match="task.data.path is required"):
        compose("run=x", "task=cola", command="probe")
    assert compose("data=mnist", "data.path=here")["data"]["path"] == "here"
    monkeypatch.setenv("SSLZOO_DATA", "/sets")
    config = compose("data=mnist")
    assert config["data"]["path"] == "/sets/mnist"
    assert "paths" not in config, "a run is the same wherever its data lies"
    assert compose("run=x", "task=cola", command="probe")["task"]["data"]["path"] == "/sets/cola"
    assert compose("data=speech", "encoder=gru_small")["data"]["sets"]["librispeech"]["path"] == "/sets/speech"


NAMED = {  # runs before there were groups below the top, and before data.labels_from, data.max_pixels and val_every=auto
    "objective=simclr": "bca6c3",
    "recipe=digits_simclr": "abdbd9",
    "recipe=spoken_wav2vec2": "0a48b3",
    "recipe=docstrings_bert": "7a3da7",  # anew since accents are kept: its tokens are others
    "recipe=imagenet_mae data.path=nowhere": "0a4ef0",
    "recipe=librispeech_wav2vec2 data.path=nowhere": "2d3786",
}


@pytest.mark.parametrize("words", NAMED)
def test_a_command_still_names_the_run_that_it_named(words):
    """Whoever adds a setting with a default says so in `config.LATER`: else no run made before is continued."""
    config = compose(*words.split())
    assert fingerprint({k: v for k, v in config.items() if k not in ("root", "name")}) == NAMED[words]


def test_a_run_from_before_a_setting_of_data_goes_on(tmp_path):
    run, config = Run(tmp_path / "run"), compose("data=image_folder", "data.path=here")
    run.folder.mkdir()
    data = {key: value for key, value in config["data"].items() if key not in LATER}
    run.config.write_text(yaml.safe_dump({**config, "data": data}))
    write_config(run, config)
    with pytest.raises(ConfigError, match="data.max_pixels: 268435456 -> 7"):
        write_config(run, {**config, "data": {**config["data"], "max_pixels": 7}})


def test_an_experiment_of_ones_own(sslzoo, tmp_path):
    """A folder that was made for other programs is read as it is."""
    (tmp_path / "mine" / "experiment").mkdir(parents=True)
    text = "# @package _global_\ndefaults:\n  - override /objective: byol\n  - override /objective/views: crop_only\n\nseed: 7\n"
    (tmp_path / "mine" / "experiment" / "own.yaml").write_text(text)
    code, out, err = sslzoo("pretrain", "--config-dir", "mine", "experiment=own", "optim.lr=0.5", "--cfg", "job")
    assert code == 0 and err == [] and "seed: 7" in out and "BYOL" in out and "jitter: 0.0" in out and "lr: 0.5" in out
    code, out, _ = sslzoo("pretrain", "--config-dir", "mine", "experiment=digits_simclr", "--cfg", "job")
    assert code == 0 and "max_steps: 320" in out


def test_a_comment_goes_on_in_the_next_line(sslzoo, tmp_path):
    """Within 120 columns; what lists and explains options has it whole."""
    longest = {
        str(path): max(map(len, re.findall(r".*#.*", path.read_text()) or [""])) for path in CONF.rglob("*.yaml")
    }
    assert max(longest.values()) <= 120, {path: n for path, n in longest.items() if n > 120}
    assert options("recipe")["cifar10_byol"].endswith("200 epochs (not run here: set data.path; to reach: kNN .868, "
        "lightly's benchmark table, batch 512)")  # fmt: skip
    out = " ".join(sslzoo("pretrain", "data=digits", "--help")[1].split())
    assert "tokens); gives the parts" in out
    (tmp_path / "mask").mkdir()
    (tmp_path / "mask" / "own.yaml").write_text(
        "# of mine,\n#   in two lines\n# and more\nlength: 3 # frames,\n  #   ten ms each\n"
    )
    assert options("mask", [tmp_path])["own"] == "of mine, in two lines"


def test_every_group_is_listed(sslzoo):
    below = {str(p.parent.relative_to(CONF)) for p in CONF.rglob("*.yaml") if p.parent != CONF}
    assert set(GROUPS.values()) == below
    code, out, _ = sslzoo("list")
    assert code == 0 and all(f"({group}=…)" in out for group in below)
    assert "gru" in sslzoo("list", "trunks")[1] == sslzoo("list", "encoder/trunk")[1]
