"""Every recipe composes, its values bind, and its first line says what it reached or that it was not run."""

import re

import pytest
from conftest import compose

from sslzoo.build import check
from sslzoo.config import options

RECIPES = options("recipe")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_a_whole_run(name):
    config = (
        compose(f"recipe={name}", "++data.path=somewhere") if "not run" in RECIPES[name] else compose(f"recipe={name}")
    )
    for group in ("data", "encoder", "objective", "optim", "trainer"):
        check(config[group], group)
    assert re.search(r"\d+\.\d+ ± \d|not run", RECIPES[name])


def test_overrides_come_after_a_recipe():
    config = compose("recipe=digits_simclr", "trainer.max_steps=7")
    assert config["trainer"]["max_steps"] == 7 and config["objective"]["temperature"] == 0.2
