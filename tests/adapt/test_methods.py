"""Methods that train few parameters: what learns, that nothing changes at the start, and in which mode the rest is."""

from pathlib import Path

import pytest
import torch
from test_adapt import own  # noqa: F401 (a fixture)
from test_contracts import batch_of, gradients
from tiny_tasks import TASKS, kind_of, rows, tiny_run, tiny_task
from torch import nn

from sslzoo import build
from sslzoo.adapt.job import build_adapt
from sslzoo.adapt.lora import LoRA, LoRALinear, merge
from sslzoo.adapt.methods import BitFit
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.text import WordPieces
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
from sslzoo.pretrain import Pretrain

FEW = ["bitfit", "lora", "adapter_houlsby", "adapter_pfeiffer"]
PROMPTED = ["prefix", "soft_prompt"]  # of which none is the identity at the start: see test_prompts.py
ADDED_ALONE = ["lora", "adapter_pfeiffer"]  # of which nothing learns that the encoder had


def base(**settings) -> SequenceEncoder:
    """BERT's base size, without memory."""
    with torch.device("meta"):
        return SequenceEncoder(
            WordPieces(768, vocab_size=30, max_tokens=16), Transformer(768, 12, 12, norm="post", **settings)
        )


def learning(encoder: nn.Module) -> int:
    return sum(p.numel() for p in encoder.parameters() if p.requires_grad)


def small(**settings) -> SequenceEncoder:
    torch.manual_seed(0)
    trunk = Transformer(8, 2, 2, **settings)
    return SequenceEncoder(WordPieces(8, vocab_size=30, max_tokens=32), trunk).eval()


def said(encoder: nn.Module) -> torch.Tensor:
    ids = torch.arange(2 * 7).view(2, 7) % 30
    with torch.no_grad():
        return encoder.eval()(ids, torch.tensor([7, 5])).last


@pytest.mark.parametrize(
    ("method", "count"),
    [(LoRA(r=8), 294_912), (LoRA(r=4, targets=["query", "down"]), 12 * 4 * (2 * 768 + 5 * 768)), (BitFit(), 101_376)],
    ids=["lora", "lora of down", "bitfit"],
)
def test_parameters_of_base_size(method, count):
    with torch.device("meta"):
        assert learning(method(base())) == count


@pytest.mark.parametrize("method", FEW)
@pytest.mark.parametrize("task", ["text-full", "speech-full", "image-full"])
def test_every_transformer_is_adapted(task, method):
    config = tiny_task(task) | {"method": node_of(method)}
    run = tiny_run(TASKS[task][0], kind_of(task))
    job = build_adapt(config, run)
    before = {name: x.clone() for name, x in job.encoder.state_dict().items()}
    plain, _ = build.load_encoder(run)
    batch = batch_of(job, 0)
    with torch.no_grad():
        same = [e.eval()(batch.inputs, batch.lengths).last for e in (plain, job.encoder)]
    assert torch.equal(*same), "at the start it is the identity"
    learns = {name for name, p in job.encoder.named_parameters() if p.requires_grad}
    assert 0 < len(learns) < len(before) and learns.isdisjoint(plain.state_dict()) == (method in ADDED_ALONE)
    module = Pretrain(job.encoder.train(), job.objective.train(), job.optim, 0, 10)
    optimizer = job.optim.build(module)
    for _ in range(2):
        optimizer.zero_grad()
        job.objective(job.encoder, batch, 0).value.backward()
        optimizer.step()
    changed = {name for name, x in job.encoder.state_dict().items() if not torch.equal(x, before[name])}
    assert changed and changed <= learns


def node_of(method: str) -> dict:
    from conftest import compose

    return compose("run=x", "task=digit", f"method={method}", command="adapt")["method"]


@pytest.mark.parametrize("method", FEW + PROMPTED)
def test_resnets_are_refused_with_what_fits(method, own, sslzoo):  # noqa: F811
    run = own("tiny_resnet")
    words = [f"run={run.folder}", "task=image_class", "objective.features=pooled", f"method={method}"]
    code, _, err = sslzoo("adapt", "--config-dir", str(Path(__file__).parents[1] / "tiny"), *words)
    assert code == 2 and len(err) == 1, err
    assert "is for transformers, and this encoder (ResNet) has none: choose method=full or" in err[0]
    assert "vit" in err[0].split("another encoder=")[1]
    assert not (run.folder / "adapted").exists() or not list((run.folder / "adapted").iterdir())


def test_bitfit_of_a_trunk_without_biases_is_refused():
    with pytest.raises(ConfigError, match=r"this encoder's blocks have none \(bias=false\): choose method=lora"):
        BitFit()(small(bias=False))
    encoder = BitFit()(small())
    assert {name.rpartition(".")[2] for name, p in encoder.named_parameters() if p.requires_grad} == {"bias"}


@pytest.mark.parametrize("method", FEW + PROMPTED)
def test_no_dropout_is_left_on_in_the_frozen_trunk(method):
    """As DeeBERT's second stage has it. Whoever sets the whole to train leaves it off."""
    encoder = build.make(node_of(method))(small(dropout=0.5, attention_dropout=0.5, layer_drop=0.5))
    encoder.eval()
    nn.ModuleDict({"encoder": encoder}).train()
    on = {name for name, module in encoder.named_modules() if module.training and isinstance(module, nn.Dropout)}
    assert on == {name for name, _ in encoder.named_modules() if name.endswith(("query.drop", "value.drop"))}
    assert not encoder.trunk.training and not encoder.trunk.blocks[0].attention.training
    assert any(module.training for module in encoder.modules())
    ids, lengths = torch.arange(14).view(2, 7), torch.tensor([7, 5])
    assert torch.equal(encoder(ids, lengths).last, encoder(ids, lengths).last)


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("method", FEW)
def test_shared_layers_are_adapted_once(method, norm):
    """ALBERT's: the one block learns, and is adapted wherever it is used."""
    shared, plain = (small(norm=norm, share_layers=share) for share in (True, False))
    start = said(shared)
    shared, plain = (build.make(node_of(method))(encoder) for encoder in (shared, plain))
    assert torch.equal(said(shared), start) and 2 * learning(shared) == learning(plain)


def off_the_start(encoder: nn.Module) -> nn.Module:
    """Moved to where training may have led."""
    torch.manual_seed(1)
    with torch.no_grad():
        for p in encoder.parameters():
            if p.requires_grad:
                p.add_(0.3 * torch.randn_like(p))
    return encoder


@pytest.mark.parametrize("targets", [["query", "value"], ["key", "out", "up", "down", "gate"]])
def test_lora_merged_is_lora(targets):
    encoder = off_the_start(LoRA(r=3, alpha=5, targets=targets)(small(activation="swiglu")))
    names = small(activation="swiglu").state_dict().keys()
    unmerged = said(encoder)
    merged = merge(encoder)
    assert not any(isinstance(module, LoRALinear) for module in merged.modules())
    assert merged.state_dict().keys() == names and learning(merged) == 0
    assert torch.allclose(said(merged), unmerged, atol=1e-5)
    assert not torch.allclose(said(small(activation="swiglu")), unmerged, atol=1e-2)


def test_lora_is_the_papers_equation():
    """h = W x + b + alpha / r B A x, one product after the other."""
    layer = LoRA(r=2, alpha=6)(small()).trunk.blocks[1].attention.value
    off_the_start(layer)
    x = torch.randn(3, 4, 8)
    expected = torch.zeros(3, 4, 8, dtype=torch.float64)
    w, b, a, up = (p.detach().double() for p in (layer.weight, layer.bias, layer.lora_a, layer.lora_b))
    for i in range(3):
        for j in range(4):
            token = x[i, j].double()
            expected[i, j] = w @ token + b + 3.0 * (up @ (a @ token))
    assert torch.allclose(layer(x).double(), expected, atol=1e-5)


def test_loras_dropout_is_of_the_difference_alone():
    layer = off_the_start(LoRA(dropout=0.5)(small()).train().trunk.blocks[0].attention.query)
    x = torch.randn(2, 5, 8)
    assert not torch.equal(layer(x), layer(x))
    with torch.no_grad():
        layer.lora_b.zero_()
    assert torch.equal(layer(x), nn.functional.linear(x, layer.weight, layer.bias))


@pytest.mark.parametrize(
    ("settings", "match"),
    [
        ({"targets": []}, "method.targets must be some of query, key, value, out, gate, up, down, each once"),
        ({"targets": ["query", "query"]}, "each once"),
        ({"targets": ["q"]}, r"got \['q'\]"),
        ({"alpha": 0}, "method.alpha must be above 0"),
    ],
)
def test_settings_that_lora_cannot_have(settings, match):
    with pytest.raises(ConfigError, match=match):
        LoRA(**settings)


def test_lora_of_a_layer_that_is_not_there():
    with pytest.raises(ConfigError, match="the blocks of this encoder have no layer 'gate': leave it out"):
        LoRA(targets=["gate"])(small())


def test_a_seed_draws_what_lora_begins_with():
    run = tiny_run("tiny_text", "text")
    first, again, other = (
        build_adapt(tiny_task("text-lora", f"seed={seed}"), run).encoder.state_dict() for seed in (1, 1, 2)
    )
    name = "trunk.blocks.0.attention.query.lora_a"
    assert torch.equal(first[name], again[name]) and not torch.equal(first[name], other[name])


def test_a_frozen_trunk_gives_the_gradients_of_a_whole_one():
    """Of what learns: freezing takes nothing from them."""
    config, run = tiny_task("text-lora", *rows("text-lora", 4)), tiny_run("tiny_text", "text")
    job, whole = build_adapt(config, run), build_adapt(config, run)
    whole.encoder.requires_grad_(True)
    batch = batch_of(job, 0)
    (_, few), (_, all_) = gradients(job, batch), gradients(whole, batch)
    assert few.keys() < all_.keys()
    for name, grad in few.items():
        assert torch.allclose(grad, all_[name], atol=1e-6), name


def test_fine_tuning_has_a_stochastic_depth_of_its_own():
    """Else it has that of pretraining."""
    method = node_of("full")
    assert method.pop("drop_path") is None
    assert build.make(method)(small(drop_path=0.3)).trunk.drop_path == 0.3
    method["drop_path"] = 0.5
    encoder = build.make(method)(small(drop_path=0.3))
    assert encoder.trunk.drop_path == 0.5 and encoder.training
    ids, lengths = torch.arange(40 * 7).view(40, 7) % 30, torch.full((40,), 7)
    one, other = (encoder(ids, lengths).last for _ in range(2))
    dropped = (one != other).flatten(1).any(1)
    assert 0 < dropped.sum() < 40, "of a row two branches, half of the time"
    assert torch.equal(said(encoder), said(small()))


def test_an_encoder_without_blocks_has_no_stochastic_depth(own, sslzoo):  # noqa: F811
    run = own("tiny_resnet")
    words = [f"run={run.folder}", "task=image_class", "objective.features=pooled", "method.drop_path=0.1"]
    code, _, err = sslzoo("adapt", "--config-dir", str(Path(__file__).parents[1] / "tiny"), *words)
    assert code == 2 and len(err) == 1 and "(ResNet) is none: set method.drop_path=null" in err[0], err
