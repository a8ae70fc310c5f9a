"""From a composed config to objects: what binds, and what is refused before any data is touched."""

import inspect
import typing

import pytest
import torch
from conftest import CONF, OBJECTIVES, TINY, compose, modality_of, nodes_of, tiny
from hydra import compose as hydra_compose
from hydra import initialize_config_dir
from omegaconf import OmegaConf

from sslzoo import build
from sslzoo.config import plain
from sslzoo.errors import ConfigError

ANY = {"data2vec2", "data2vec2_text", "eat"}  # their masks are of any modality
KINDS = {"sample_rate": "speech", "vocab_size": "text"}  # what an encoder's yaml asks of its data


def names(group: str) -> list[str]:
    return sorted(p.stem for p in (CONF / group).glob("*.yaml"))


def composed(group: str, name: str) -> dict:
    """One node of a group, with what is left for the user to say filled in."""
    text = OmegaConf.to_yaml(nodes_of(group)[name]) if group in ("encoder", "objective") else ""
    data = next((f"tiny_{kind}" for key, kind in KINDS.items() if f"data.{key}" in text), "tiny_image")
    command, more = {
        "task": ("probe", ["run=x", f"task={name}"]),
        "method": ("adapt", ["run=x", "task=digit", f"method={name}"]),
    }.get(group, ("pretrain", [f"data={data}", f"{group}={name}"]))
    with initialize_config_dir(str(CONF), version_base="1.3"):
        config = hydra_compose(command, [f"hydra.searchpath=[file://{TINY}]", "paths.data=nowhere", *more])
    for key in [key for key in config if OmegaConf.is_missing(config, key)]:  # first, as others refer to them
        OmegaConf.update(config, key, "nowhere")
    for key in OmegaConf.missing_keys(config):
        OmegaConf.update(config, key, "nowhere")
    return plain(config)[group]


def nodes(node) -> list[dict]:
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else []
    return ([node] if isinstance(node, dict) and "_target_" in node else []) + [n for x in below for n in nodes(x)]


@pytest.mark.parametrize(
    ("group", "name"),
    [
        (group, name)
        for group in ("encoder", "objective", "optim", "trainer", "task", "method")
        for name in names(group)
    ],
)
def test_every_config_binds_to_its_targets(group, name):
    """Those of data are in tests/data/test_data_configs.py."""
    node = composed(group, name)
    build.check(node, group)
    assert nodes(node)
    for part in nodes(node):
        cls = build.target(part["_target_"], group)
        parameters = inspect.signature(cls).parameters
        assert not any(p.kind in (p.VAR_POSITIONAL, p.VAR_KEYWORD) for p in parameters.values()), "no **kwargs"
        hints = typing.get_type_hints(cls.__init__)
        given = ("encoder", "data") if group == "objective" and part is node else ()
        assert all(name in hints for name in parameters if name not in given), "every argument says its type"


@pytest.mark.parametrize(
    ("value", "hint", "yes"),
    [
        (1, int, True),
        (1.5, int, False),
        (True, int, False),
        ("1", int, False),
        (None, int, False),
        (1, float, True),
        (1.5, float, True),
        (False, float, False),
        ("0.1", float, False),
        (True, bool, True),
        (1, bool, False),
        ("a", str, True),
        (1, str, False),
        (None, int | None, True),
        (3, int | None, True),
        ("x", int | None, False),
        ([1, 2], list[int], True),
        ([1, "a"], list[int], False),
        (1, list[int], False),
        ([], list[int], True),
        ([[1], [2]], list[list[int]], True),
        ([[1], [0.5]], list[list[int]], False),
        ([1, 0.5], list[float], True),
        ({"a": 1}, dict[str, int], True),
        ({"a": "b"}, dict[str, int], False),
        ("pre", typing.Literal["pre", "post"], True),
        ("mid", typing.Literal["pre", "post"], False),
        ({"_target_": "x"}, torch.nn.Module, True),
        (3, torch.nn.Module, False),
        (3, object, True),
        (3, typing.Any, True),
    ],
)
def test_types(value, hint, yes):
    assert build.fits(value, hint) is yes


def refused(node, where: str = "objective") -> str:
    with pytest.raises(ConfigError) as error:
        build.check(node, where)
    assert "\n" not in str(error.value)
    return str(error.value)


SPANS = "sslzoo.augment.masking.SpanMask"


def test_messages_name_the_key_and_the_mend():
    assert (
        refused({"_target_": SPANS, "prop": 0.5}) == "objective.prop: SpanMask takes no 'prop' — did you mean 'prob'?"
    )
    assert refused({"_target_": SPANS, "length": 2.5}) == "objective.length must be int, got 2.5"
    assert refused({"_target_": SPANS, "prob": None}) == "objective.prob must be float, got None"
    trunk = {"_target_": "sslzoo.encoders.transformer.Transformer", "norm": "middle"}
    assert refused({"a": [{"b": trunk}]}, "encoder") == "encoder.a[0].b.norm must be one of pre, post, got 'middle'"
    lars = {"_target_": "sslzoo.train.optim.LARS"}
    assert refused(lars, "optim") == "optim.schedule is required by LARS: set optim.schedule=…"
    simclr = {"_target_": "sslzoo.objectives.simclr.SimCLR", "views": {"_target_": SPANS}}
    assert "takes no 'encoder'" in refused(simclr | {"encoder": 3}), "what build gives is not the user's to set"


def test_targets_that_are_not_there():
    def said(path):
        return refused({"_target_": path}, "encoder")

    assert said("sslzoo.encoders.resnet.ResNett") == (
        "encoder: there is no ResNett in sslzoo.encoders.resnet — did you mean 'ResNet'?"
    )
    assert "cannot import sslzoo.encoders.nothing.Net" in said("sslzoo.encoders.nothing.Net")
    assert "cannot import" in said("no_such_package.Net") and "no_such_package" in said("no_such_package.Net")
    assert "Net" in said("Net")


def test_what_has_no_target_is_refused():
    config = tiny("simclr")
    for part in (None, {"dim": 3}, "resnet"):
        with pytest.raises(ConfigError, match="encoder has no _target_: choose one of `sslzoo list` with encoder="):
            build.build(config | {"encoder": part})


@pytest.mark.parametrize("objective", OBJECTIVES)
@pytest.mark.parametrize("kind", ["image", "speech", "text"])
def test_an_objective_takes_its_own_modality(objective, kind):
    config = tiny(objective)
    other = compose("objective=rotation", f"data=tiny_{kind}", f"encoder=tiny_{kind}")
    if kind == modality_of(objective):
        assert build.build(config | {"data": other["data"]}).data.modality == kind
        return
    ours = kind in build.target(config["objective"]["_target_"], "").modalities  # with views or masks of that kind
    if ours and objective in ANY:
        node = config["objective"] | {"global_weight": 0.0}
        other |= {"objective": node}
        assert build.build(config | {name: other[name] for name in ("data", "encoder", "objective")})
        return
    says = (
        f"(makes views of|masks) .* but the data is {kind}"
        if ours
        else f"is for .* but the data is {kind}.*sslzoo list data"
    )
    with pytest.raises(ConfigError, match=says):
        build.build(config | {"data": other["data"], "encoder": other["encoder"]})


@pytest.mark.parametrize(
    ("objective", "wrong", "fit", "unfit"),
    [
        (
            "wav2vec2",
            "tiny_resnet",
            ["logmel_small", "wav2vec2_base", "wav2vec2_large", "wav2vec2_small"],
            ["resnet", "bert", "vit"],
        ),
        ("bert", "tiny_image", ["bert_base", "bert_small"], ["vit", "wav2vec2_small"]),
        ("rotation", "tiny_text", ["resnet18", "resnet50", "vit_small"], ["bert"]),
    ],
)
def test_a_misfit_names_the_encoders_that_fit(objective, wrong, fit, unfit):
    kind = "text" if wrong == "tiny_text" else "image"
    other = compose("objective=rotation", f"data=tiny_{kind}", f"encoder={wrong}")["encoder"]
    with pytest.raises(ConfigError, match="these fit: encoder=") as refused:
        build.build(tiny(objective) | {"encoder": other})
    listed = str(refused.value).split("encoder=")[1].split(", ")
    assert set(fit) <= set(listed) and not [name for name in listed if name.startswith(tuple(unfit))]


def test_an_encoder_without_tokens_is_refused_where_they_are_asked_for():
    """Of the right modality, but one vector an item."""
    config = tiny("rotation", "encoder=tiny_resnet")

    class Asks(build.target(config["objective"]["_target_"], "")):
        needs = frozenset({"tokens"})

    job = build.build(config)
    with pytest.raises(
        ConfigError,
        match="an encoder with tokens; these fit: encoder=igpt_small, timm_vit, vit_base, vit_registers_small, vit_small$",
    ):
        build.check_fit(job.data, job.encoder, Asks)


def test_a_batch_too_small_for_the_loss():
    with pytest.raises(ConfigError, match="a batch of 1 is too small.*data.batch.size=2"):
        build.build(tiny("simclr", "data.batch.size=1"))
    assert build.build(tiny("rotation", "data.batch.size=1"))


def test_weights_come_from_the_seed_alone(objective):
    def weights(seed):
        job = build.build(tiny(objective, f"seed={seed}"))
        return torch.nn.ModuleList([job.encoder, job.objective]).state_dict()

    torch.manual_seed(1)
    a = weights(0)
    torch.manual_seed(2)
    state = torch.get_rng_state()
    b = weights(0)
    assert torch.equal(torch.get_rng_state(), state), "and leave torch's own numbers where they were"
    assert all(torch.equal(a[k], b[k]) for k in a)
    assert any(not torch.equal(other, a[k]) for k, other in weights(1).items())


def test_errors_of_a_constructor_come_as_they_are():
    """A value that a class refuses is told in its own words, however deep the class is."""
    with pytest.raises(ConfigError, match="^a transformer of dim=16 cannot be split over heads=3"):
        build.build(tiny("bert", "encoder.trunk.heads=3"))
    with pytest.raises(ConfigError, match="^mask.prob must be between 0 and 1, got 1.5"):
        build.build(tiny("bert", "objective.mask.prob=1.5"))
