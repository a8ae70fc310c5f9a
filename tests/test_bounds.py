"""Numbers that no setting of a name can have."""

import pytest
from conftest import compose

from sslzoo.bounds import check_number
from sslzoo.errors import ConfigError
from sslzoo.nodes import check


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("lr", float("nan"), "a finite number, got nan"),
        ("betas", [0.9, float("inf")], "a finite number, got inf"),
        ("depth", 0, "at least 1, got 0"),
        ("depths", [2, 0], "at least 1, got 0"),
        ("output_dim", -1, "at least 1, got -1"),
        ("attention_dropout", 1.0, "from 0 to less than 1, got 1.0"),
        ("mix", 1.5, "from 0 to 1, got 1.5"),
        ("gumbel", [2.0, 0, 0.9], "above 0, got 0"),
        ("eps", -1, "above 0, got -1"),
    ],
)
def test_refused(name, value, words):
    with pytest.raises(ConfigError, match=f"x.{name} must be {words}"):
        check_number(name, value, f"x.{name}")


def test_what_is_well_and_what_is_no_number():
    for name, value in (("depth", 1), ("depth", None), ("dropout", 0), ("groups", {"encoder": 0.5}), ("queue", "x"),
                        ("dim", True), ("depth", {"_target_": "x", "lr": float("nan")}), ("keep", 3)):  # fmt: skip
        check_number(name, value, name)


def test_within_a_config():
    node = compose("encoder=vit_small", "encoder.trunk.depth=0")["encoder"]
    with pytest.raises(ConfigError, match="encoder.trunk.depth must be at least 1, got 0"):
        check(node, "encoder")
