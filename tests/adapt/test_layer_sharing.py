"""Layers that share a block: what it begins as, that it is stored once, and that one layer a block changes nothing."""

import copy

import pytest
import torch
from conftest import compose
from test_adapt import own  # noqa: F401 (a fixture)
from test_methods import base, learning
from tiny_tasks import TASKS, kind_of, tiny_task
from torch import nn

from sslzoo import weights
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import load_adapted
from sslzoo.adapt.layer_sharing import LayerSharing
from sslzoo.data.loader import ordered_loader
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
from sslzoo.run import Run

IDS, LENGTHS = torch.arange(14).view(2, 7) + 5, torch.tensor([7, 5])


def encoder_of(depth: int = 5, **settings) -> SequenceEncoder:
    torch.manual_seed(0)
    return SequenceEncoder(
        WordPieces(8, vocab_size=30, max_tokens=32), Transformer(8, depth, 2, init_std=0.3, **settings)
    ).eval()


def said(encoder: nn.Module) -> torch.Tensor:
    with torch.no_grad():
        return encoder.eval()(IDS, LENGTHS).last


@pytest.mark.parametrize("start", ["mean", "first"])
@pytest.mark.parametrize("settings", [{"depth": 1}, {"depth": 4}, {"depth": 3, "input_norm": False}], ids=str)
def test_groups_of_one_layer_are_the_identity(settings, start):
    encoder = LayerSharing(settings["depth"], start)(encoder_of(**settings))
    assert torch.equal(said(encoder), said(encoder_of(**settings)))
    assert learning(encoder) == sum(p.numel() for p in encoder_of(**settings).parameters())
    shared = encoder_of(4, share_layers=True)
    assert torch.equal(said(LayerSharing(1, start)(shared)), said(encoder_of(4, share_layers=True)))


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize(("groups", "cut"), [(1, [0, 0, 0, 0, 0]), (2, [0, 0, 0, 1, 1]), (3, [0, 0, 1, 1, 2])])
def test_a_shared_block_is_its_layers_mean_wherever_they_were(groups, cut, norm):
    plain = encoder_of(norm=norm)
    expected = copy.deepcopy(plain)
    for name, _ in plain.trunk.blocks[0].named_parameters():
        for group in range(groups):
            of_group = [b.get_parameter(name) for b, g in zip(plain.trunk.blocks, cut, strict=True) if g == group]
            for block, g in zip(expected.trunk.blocks, cut, strict=True):
                if g == group:
                    block.get_parameter(name).data = sum(of_group) / len(of_group)
    shared = LayerSharing(groups)(copy.deepcopy(plain))
    assert len(shared.trunk.blocks) == groups and shared.depth == 5
    assert torch.allclose(said(shared), said(expected), atol=1e-5)
    assert not torch.allclose(said(shared), said(plain), atol=1e-2)
    first = LayerSharing(groups, "first")(copy.deepcopy(plain))
    firsts = [cut.index(group) for group in range(groups)]
    for block, number in zip(first.trunk.blocks, firsts, strict=True):
        assert torch.equal(block.up.weight, plain.trunk.blocks[number].up.weight)


def test_parameters_of_base_size():
    with torch.device("meta"):
        encoder, plain = LayerSharing(3)(base()), base()
        block = sum(p.numel() for p in plain.trunk.blocks[0].parameters())
        assert learning(plain) - learning(encoder) == 9 * block == 9 * 7_087_872


@pytest.mark.parametrize("task", ["text-full", "speech-full", "image-full"])
def test_it_is_stored_once_and_loaded_as_it_was(task, own):  # noqa: F811
    run = own(TASKS[task][0], kind_of(task))
    method = compose("run=x", "task=digit", "method=layer_sharing", "method.groups=1", command="adapt")["method"]
    config = tiny_task(task, "trainer.max_steps=3") | {"run": str(run.folder), "name": None, "method": method}
    folder = Run(run_adapt(config, {"method": "layer_sharing"}).parent)
    saved = weights.load(folder.adapted_weights, "")
    numbers = {name.split(".")[3] for name in saved if ".trunk.blocks." in name}
    assert numbers == {"0"}
    encoder, objective, data = load_adapted(run, folder.name)
    assert {f"encoder.{name}" for name in encoder.state_dict()} <= set(saved) and encoder.depth == 2
    assert all(torch.equal(x, saved[f"encoder.{name}"]) for name, x in encoder.state_dict().items())
    split = data.split("test")
    with torch.no_grad():
        [batch, *_] = ordered_loader(split, 1e9)
        assert torch.isfinite(objective.logits(encoder, batch)).all()


@pytest.mark.parametrize(
    ("settings", "groups", "match"),
    [
        ({}, 6, "method.groups=6 is more than the 5 blocks of this encoder: choose 5 or less"),
        ({"share_layers": True}, 2, "is more than the 1 blocks"),
        ({"input_norm": False}, 2, "encoder.trunk.input_norm=false"),
    ],
)
def test_layers_that_cannot_share(settings, groups, match):
    with pytest.raises(ConfigError, match=match):
        LayerSharing(groups)(encoder_of(**settings))
