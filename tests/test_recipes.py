"""Every recipe composes, its values bind, and its first line says what it reached or that it was not run."""

import re

import pytest
import yaml
from conftest import compose

from sslzoo.build import build, check
from sslzoo.compare.process import Command
from sslzoo.config import options
from sslzoo.recipes import natural

RECIPES = options("recipe")
ELSEWHERE = ("cifar10_", "imagenet", "librispeech_")  # whose data is not at hand


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_whole_run(name):
    config = compose(f"recipe={name}", *(["data.path=somewhere"] if name.startswith(ELSEWHERE) else []))
    for group in ("data", "encoder", "objective", "optim", "trainer"):
        check(config[group], group)
    assert re.search(r"\d+\.\d+ ± \d|\d+\.\d.*one seed|not run", RECIPES[name])


@pytest.mark.parametrize(
    ("objective", "data", "encoder"),
    [
        ("albert", "docstrings", "albert_small"),
        ("bert", "docstrings", "text_small"),
        ("bert_nsp", "docstrings", "text_small"),
        ("roberta", "docstrings", "roberta_small"),
        ("electra", "docstrings", "electra_mini"),
        ("gpt", "docstrings", "gpt_small"),
        ("wav2vec2", "spoken", "logmel_small"),
    ],
)
def test_an_objective_alone_has_its_data_and_encoder(objective, data, encoder):
    assert natural({"objective": objective}, []) == [f"data={data}", f"encoder={encoder}"]
    config, same = settled_compose(f"objective={objective}"), [f"data={data}", f"encoder={encoder}"]
    assert config == settled_compose(f"objective={objective}", *same)
    assert build(config).objective.modalities != ("image",)


def test_what_is_chosen_stays():
    assert natural({"objective": "albert", "data": "wikitext"}, []) == ["encoder=albert_small"]
    assert natural({"objective": "albert", "encoder": "albert_base"}, []) == ["data=docstrings"]
    assert natural({"objective": "albert", "recipe": "digits_simclr"}, []) == []
    # images are what a run is of by default, whose names stay
    assert natural({"objective": "simclr"}, []) == natural({"objective": "mae"}, []) == natural({}, []) == []
    assert natural({"objective": "albert,bert"}, []) == []


def test_overrides_come_after_a_recipe():
    config = compose("recipe=digits_simclr", "trainer.max_steps=7")
    assert config["trainer"]["max_steps"] == 7 and config["objective"]["temperature"] == 0.2


def settled_compose(*words: str) -> dict:
    return Command().compose("pretrain", list(words))


def test_a_choice_below_the_top_replaces_what_a_recipe_set_in_it():
    """As it is chosen, whichever settings the two have in common."""
    assert settled_compose("recipe=digits_simclr")["data"]["batch"]["size"] == 128
    assert settled_compose("recipe=digits_simclr", "data/batch=items_32")["data"]["batch"]["size"] == 32
    mine = settled_compose("recipe=digits_simclr", "data/batch=items_32", "data.batch.size=48")
    assert mine["data"]["batch"]["size"] == 48, "what is said by itself stays"
    assert settled_compose("recipe=docstrings_bert", "objective/mask=bert_40")["objective"]["mask"]["prob"] == 0.4
    schedule = settled_compose("recipe=imagenet_mae", "data.path=x", "optim/schedule=wsd")["optim"]["schedule"]
    assert schedule["warmup"] == 0.05 and schedule["decay"] == 0.2
    batch = settled_compose("recipe=shakespeare_gpt", "data/batch=tokens")["data"]["batch"]
    assert batch["tokens"] == 2048 and "size" not in batch, "which it does not take"


def test_a_choice_at_the_top_leaves_a_recipes_settings():
    config = settled_compose("recipe=shakespeare_gpt", "objective=bert", "encoder=text_small")
    assert config["optim"]["lr"] == 0.003 and config["data"]["batch"]["size"] == 12


def test_on_the_command_line_too(sslzoo, tmp_path):
    (tmp_path / "mine" / "data" / "batch").mkdir(parents=True)
    (tmp_path / "mine" / "data" / "batch" / "own.yaml").write_text(
        "# own\n_target_: sslzoo.data.sampler.ByCount\nsize: 17\n"
    )
    words = ["--config-dir", "mine", "recipe=digits_simclr", "data/batch=own"]
    code, out, err = sslzoo("pretrain", *words, "--cfg", "job")
    assert code == 0 and err == [] and yaml.safe_load(out)["data"]["batch"]["size"] == 17
    code, _, err = sslzoo("pretrain", "recipe=digits_simclr", "--multirun", "data/batch=items_32,items_64")
    assert code == 2 and len(err) == 1 and "recipe=digits_simclr sets data.batch.size" in err[0]
    code, _, err = sslzoo("pretrain", *words[:3], "data/batch=nothing")
    assert code == 2 and len(err) == 1 and "there is no data/batch 'nothing'" in err[0]
