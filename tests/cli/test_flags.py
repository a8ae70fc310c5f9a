"""The words of a command line before Hydra reads them."""

import pytest
from conftest import compose

from sslzoo.cli.compose import fitting_head, with_head
from sslzoo.cli.flags import as_texts, check_blanks
from sslzoo.compare.process import override
from sslzoo.errors import ConfigError


@pytest.mark.parametrize("words", [["optim.lr=", "0.1"], ["optim.lr", "=0.1"], ["optim.lr", "=", "0.1"]])
def test_a_blank_beside_an_equals_sign(words):
    with pytest.raises(ConfigError, match="a blank stands beside '=': write optim.lr=0.1"):
        check_blanks(["--config-dir", "mine", *words])


def test_words_that_are_no_settings():
    with pytest.raises(ConfigError, match="'foo' is no setting: write key=value"):
        check_blanks(["seed=1", "foo"])
    check_blanks(
        ["name=", "seed=1", "--config-dir", "mine", "-cd=x", "--cfg", "job", "~optim.groups", "-m", "seed=1,2"]
    )


@pytest.mark.parametrize(
    ("typed", "read"),
    [
        ("run=5", "run='5'"),
        ("name=007", "name='007'"),
        ("name=1e3", "name='1e3'"),
        ("name=true", "name='true'"),
        ("name=-inf", "name='-inf'"),
        ("name=null", "name=null"),
        ("name=", "name="),
        ("run=runs/5", "run=runs/5"),
        ("root=sorties d'été, a=b", "root='sorties d\\'été, a=b'"),
        ("++data.path=/ü/${oc.env:X}", "++data.path='/ü/${oc.env:X}'"),
        ("data.path=[a,b]", "data.path=[a,b]"),
        ("root='a b'", "root='a b'"),
        ("optim.lr=5", "optim.lr=5"),
    ],
)
def test_names_and_paths_are_what_they_say(typed, read):
    assert as_texts([typed]) == [read]


def test_a_sweep_over_names_stays_one():
    assert as_texts(["-m", "run=5,b,é", "name=choice(a,b)"]) == ["-m", "run='5',b,'é'", "name=choice(a,b)"]
    assert as_texts(["run=5,b"]) == ["run='5,b'"]


def test_what_a_comparison_passes_on_is_read_as_it_was():
    from hydra.core.override_parser.overrides_parser import OverridesParser

    for value in ("é ü, a=b", "it's", "7", "1e3", "null", "runs/a-s0", "a\\b"):
        read = OverridesParser.create().parse_override(override("name", value)).value()
        assert str(read) == value and not isinstance(read, int | float | bool), value
    assert override("seed", 0) == "seed=0"


def test_a_task_brings_its_head():
    assert with_head(["task=qa"])[-1] == "head=answers"
    assert with_head(["task=cmrc2018"])[-1] == "head=cmrc2018"
    assert with_head(["task=cmrc2018", "head=answers"])[-1] == "head=answers"
    words = ["run=x", "task=cmrc2018", "task.data.path=x"]
    assert compose(*words, "head=cmrc2018", command="adapt")["objective"]["rule"] == "cmrc"
    plain = compose(*words, "head=answers", command="adapt")  # as in a sweep over tasks
    assert (
        fitting_head(plain, {"head": "answers"}, [])["objective"]
        == compose(*words, "head=cmrc2018", command="adapt")["objective"]
    )
