"""Parameter groups: who decays, whose rate is which, by names."""

import pytest
import torch
from conftest import tiny
from torch import nn

from sslzoo.build import build
from sslzoo.errors import ConfigError
from sslzoo.train.groups import layer_number, no_decay, param_groups, prefix_scales
from sslzoo.train.optim import AdamW
from sslzoo.train.schedule import Constant


def module_of(job) -> nn.Module:
    return nn.ModuleDict({"encoder": job.encoder, "objective": job.objective})


def scales_of(module, **settings) -> dict[str, float]:
    """name -> lr_scale, of what `param_groups` made."""
    names = {id(p): name for name, p in module.named_parameters()}
    groups = param_groups(module, **settings)
    scales = {names[id(p)]: group["lr_scale"] for group in groups for p in group["params"]}
    assert sum(len(group["params"]) for group in groups) == len(scales), "each parameter once"
    assert len({(group["lr_scale"], group["decays"]) for group in groups}) == len(groups)
    return scales


def test_who_decays():
    """The names of the encoders and objectives that there are, by their kinds."""
    spoken, seen, read, made = (
        dict(module_of(build(tiny(*words))).named_parameters())
        for words in (("wav2vec2",), ("mae", "+encoder.frontend.position=learned"), ("bert",), ("mae",))
    )
    gain, direction = ("encoder.trunk.position.conv.parametrizations.weight.original" + i for i in "01")
    assert spoken[gain].ndim == 3 and no_decay(gain, spoken[gain]), "a norm's scale, whatever its shape"
    assert not no_decay(direction, spoken[direction])
    assert seen["encoder.frontend.position_embedding"].ndim == 2 and no_decay(
        "encoder.frontend.position_embedding", seen["encoder.frontend.position_embedding"]
    )
    assert "encoder.frontend.position_embedding" not in made
    tables = [name for name in read if name.startswith("encoder.frontend.") and read[name].ndim == 2]
    assert len(tables) == 3 and not any(no_decay(name, read[name]) for name in tables), "as BERT's code has it"
    for named in (spoken, seen, read):
        free = {name for name, p in named.items() if no_decay(name, p)}
        assert {name for name, p in named.items() if p.ndim <= 1} <= free
        assert all(name.endswith(("original0", "frontend.position_embedding")) for name in free if named[name].ndim > 1)


@pytest.mark.parametrize(
    "name", ["a.weight_g", "a.parametrizations.weight.original0", "encoder.cls_token", "mask_token"]
)
def test_names_outrank_shapes(name):
    assert no_decay(name, torch.ones(1, 1, 8))
    assert not no_decay(f"{name}s.weight", torch.ones(1, 1, 8))


def test_a_prefix_is_of_whole_words_and_the_longest_counts():
    names = ["encoder.blocks.1.w", "encoder.blocks.10.w", "encoder.norm.w", "encoders.w", "objective.head.w"]
    factors = {"encoder": 0.1, "encoder.blocks": 0.2, "encoder.blocks.1": 0.5, "objective.head.w": 3.0}
    assert list(prefix_scales(names, factors).values()) == [0.5, 0.2, 0.1, 1.0, 3.0]
    assert set(prefix_scales(names, {}).values()) == {1.0}
    with pytest.raises(ConfigError, match="'encoder.block' — did you mean 'encoder.blocks'.*begin with: encoder, "):
        prefix_scales(names, {"encoder.block": 0.1})


def test_a_run_with_rates_of_its_own():
    job = build(
        tiny("simclr", "optim.groups={encoder:0.1,encoder.stem:0.5}", "optim.lr=0.2", "optim.schedule.warmup=0")
    )
    module = module_of(job)
    scales = scales_of(module, factors=job.optim.groups)
    for name, scale in scales.items():
        assert scale == (0.5 if name.startswith("encoder.stem.") else 0.1 if name.startswith("encoder.") else 1.0), name
    optimizer = job.optim.build(module)
    assert {group["lr"] for group in optimizer.param_groups} == {0.2 * scale for scale in (0.1, 0.5, 1.0)}
    assert job.optim.set_rate(optimizer, 0, 10) == pytest.approx(0.2), "the base rate is what is logged"
    for group in optimizer.param_groups:
        assert group["lr"] == pytest.approx(0.2 * group["lr_scale"])
        assert group["weight_decay"] == (0.01 if group["decays"] else 0.0)


def test_frozen_parameters_have_no_group_and_no_rate():
    net = nn.ModuleDict({"encoder": nn.Linear(2, 2), "objective": nn.Linear(2, 2)})
    net["encoder"].requires_grad_(False)
    assert set(scales_of(net)) == {"objective.weight", "objective.bias"}
    with pytest.raises(ConfigError, match="no parameter that learns has a name that starts with 'encoder'"):
        param_groups(net, factors={"encoder": 0.1})
    with pytest.raises(ConfigError, match="all are frozen"):
        param_groups(net.requires_grad_(False))


def test_layer_decay_has_maes_factors():
    """Those of ViT-B, 12 blocks, at 0.75, as mmselfsup's config of MAE's fine-tuning writes them out."""
    published = [0.023757264018058777, 0.03167635202407837, 0.04223513603210449, 0.056313514709472656]
    published += [0.07508468627929688, 0.1001129150390625, 0.13348388671875, 0.177978515625, 0.2373046875]
    published += [0.31640625, 0.421875, 0.5625, 0.75, 1.0]

    def scale(name):
        return 0.75 ** (13 - layer_number(name, 12))

    for blocks in ("trunk.blocks", "trunk.blocks", "blocks"):
        ours = [scale("encoder.frontend.linear.weight")]
        ours += [scale(f"encoder.{blocks}.{i}.up.weight") for i in range(12)] + [scale("objective.head.weight")]
        assert ours == pytest.approx(published)
    assert scale("encoder.frontend.cls_token") == scale("encoder.stem.0.weight") == pytest.approx(published[0])
    assert scale("encoder.frontend.layers.3.conv.weight") == pytest.approx(published[0]), "no block of the trunk"
    assert scale("encoder.trunk.norm.weight") == 1.0


def test_layer_decay_of_the_encoders_there_are():
    """Two blocks each: 0.5 and its powers by hand. Post-norm has its outer norm before the blocks."""
    seen = scales_of(module_of(build(tiny("mae"))), layer_decay=0.5)
    spoken = scales_of(module_of(build(tiny("wav2vec2", "+encoder.trunk.norm=post"))), layer_decay=0.5)
    convolved = scales_of(module_of(build(tiny("simclr"))), layer_decay=0.5)
    recurrent = scales_of(module_of(build(tiny("apc", "encoder.trunk.depth=2"))), layer_decay=0.5)
    assert seen["encoder.trunk.norm.weight"] == 1.0 and spoken["encoder.trunk.norm.weight"] == 0.125
    for scales in (seen, spoken, convolved, recurrent):
        assert set(scales.values()) == {0.125, 0.25, 0.5, 1.0}
        for name, scale in scales.items():
            if name.startswith("objective."):
                assert scale == 1.0, name
            elif name.startswith(("encoder.frontend.", "encoder.stem.", "encoder.trunk.position.")):
                assert scale == 0.125, name
            elif ".norm." not in name or "convs" in name:
                assert scale == {"0": 0.25, "1": 0.5}[next(word for word in name.split(".") if word.isdigit())], name


def test_what_wraps_a_block_changes_no_group():
    """As activation checkpointing, sharding and compiling put a module between a block and its name."""
    module = module_of(build(tiny("mae")))
    before = list(scales_of(module, layer_decay=0.5, factors={"encoder.trunk": 0.1}).values())
    for name, found in (("_checkpoint_wrapped_module", "trunk"), ("_orig_mod", "frontend")):
        setattr(module["encoder"], found, nn.ModuleDict({name: getattr(module["encoder"], found)}))
    assert "encoder.trunk._checkpoint_wrapped_module.norm.weight" in dict(module.named_parameters())
    assert list(scales_of(module, layer_decay=0.5, factors={"encoder.trunk": 0.1}).values()) == before


def test_layer_decay_and_groups_multiply():
    scales = scales_of(module_of(build(tiny("mae"))), layer_decay=0.5, factors={"encoder": 0.1, "objective": 2.0})
    assert sorted(set(scales.values())) == pytest.approx([0.0125, 0.025, 0.05, 0.1, 2.0])


def test_layer_decay_needs_layers():
    with pytest.raises(ConfigError, match="layer_decay needs an encoder made of blocks"):
        AdamW(Constant(), layer_decay=0.5).build(nn.ModuleDict({"encoder": nn.Linear(2, 2)}))


def test_the_layout_is_the_models_and_the_configs_alone():
    """Two builds have the same groups, so that the state of one goes on in the other, bit for bit."""
    words = ("bert", "optim.layer_decay=0.8", "optim.groups={objective:2}", "optim.weight_decay_end=0.2")

    def step(module, optim, optimizer, number):
        for name, p in module.named_parameters():
            p.grad = torch.full_like(p, 0.1 * (len(name) % 7 - 3) + number)
        optim.set_rate(optimizer, number, 4)
        optimizer.step()

    whole, parts = ((job := build(tiny(*words))) and (module_of(job), job.optim) for _ in range(2))
    a, b = (optim.build(module) for module, optim in (whole, parts))
    for number in (0, 1):
        step(*whole, a, number)
        step(*parts, b, number)
    saved, b = b.state_dict(), parts[1].build(parts[0])
    b.load_state_dict(saved)
    for number in (2, 3):
        step(*whole, a, number)
        step(*parts, b, number)
    for x, y in zip(whole[0].parameters(), parts[0].parameters(), strict=True):
        assert torch.equal(x, y)
    assert [{**g, "params": 0} for g in a.param_groups] == [{**g, "params": 0} for g in b.param_groups]
