"""Blocks that keep less, or are compiled: with the same gradients, and with few graphs over ragged batches."""

import csv

import pytest
import torch
from conftest import tiny
from safetensors.torch import load_file
from test_contracts import gradients, ready, still, train
from torch._dynamo.utils import counters

from sslzoo.build import build
from sslzoo.data.loader import ordered_loader, read_rows, train_loader
from sslzoo.data.sampler import StepSampler
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
from sslzoo.train import blocks, plan
from sslzoo.train.settings import Settings
from sslzoo.train.validate import evaluating


@pytest.fixture(autouse=True)
def nothing_compiled():
    torch._dynamo.reset()
    counters.clear()


def batches(job, steps: int, start: int = 0, to_bucket: bool = True, parts: int = 1):
    split = job.data.split("train")
    sampler = StepSampler(job.data.batch, split.cut_lengths, 0, start, start + steps, to_bucket=to_bucket, parts=parts)
    return [read_rows(split, rows) for rows in sampler]


NOISY = {"dropout": 0.2, "attention_dropout": 0.2, "activation_dropout": 0.2}


@pytest.mark.parametrize("objective", ["bert", "gpt", "hubert", "mae", "byol_audio"])
@pytest.mark.parametrize("how", [{}, NOISY, {"layer_drop": 0.5}], ids=["still", "dropout", "layer drop"])
def test_the_same_gradients_to_the_bit_where_blocks_compute_again(objective, how):
    found, config = [], tiny(objective)
    config["encoder"]["trunk"] |= {"depth": 4, **how}
    for recompute in (False, True):
        job = ready(config)
        if recompute:
            blocks.recompute(job.encoder, job.objective)
        for trunk in blocks.trunks(job.encoder):
            while "layer_drop" in how and not 0 < sum(map(trunk._dropped, range(4))) < 4:
                trunk.layer_drop_seed += 1
        torch.manual_seed(0)
        found.append(gradients(job, batches(job, 1)[0]))
    (logs, grads), (more_logs, more) = found
    assert logs == more_logs and all(torch.equal(grads[name], more[name]) for name in grads)


def kept(trunk: Transformer, x, lengths) -> int:
    """Bytes that the backward pass of a trunk is given beside weights and hidden states."""
    found = {}

    def pack(tensor):
        found[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        hidden = trunk(x, lengths)
    for tensor in (*trunk.parameters(), *hidden, x):
        found.pop(tensor.untyped_storage().data_ptr(), None)
    return sum(found.values())


def test_less_is_kept():
    """Of a trunk of twelve blocks, beside what its hidden states hold anyway, almost nothing."""
    trunk, x, lengths = (
        Transformer(dim=32, depth=12),
        torch.randn(4, 50, 32, requires_grad=True),
        torch.tensor([50] * 4),
    )
    plain = kept(trunk, x, lengths)
    blocks.recompute(trunk)
    assert plain > 12 * 10 * x.nbytes and kept(trunk, x, lengths) < 2 * x.nbytes


def test_a_batch_has_its_buckets_shape():
    """However its items are cut; with parts at most two shapes a bucket."""
    job = build(tiny("wav2vec2"))
    split, batch = job.data.split("train"), job.data.batch
    longest = {int(split.cut_lengths[part].max()): size for part, size in batch.plan(split.cut_lengths, 1)}
    steps = 2 * plan.epoch_steps(split, batch, 1)
    shapes = {tuple(b.inputs.shape) for b in batches(job, steps)}
    assert shapes == {(size, length) for length, size in longest.items()} and len(shapes) == batch.buckets
    assert len({tuple(b.inputs.shape) for b in batches(job, steps, to_bucket=False)}) > len(shapes)
    assert len({tuple(b.inputs.shape) for b in batches(job, steps, parts=2)}) <= 2 * batch.buckets
    padded = list(train_loader(split, batch, 0, 0, 4, to_bucket=True, workers=1))
    for a, b in zip(padded, train_loader(split, batch, 0, 0, 4), strict=True):
        width = b.inputs.shape[1]
        assert torch.equal(a.inputs[:, :width], b.inputs) and not a.inputs[:, width:].any()
        assert torch.equal(a.lengths, b.lengths) and torch.equal(a.row_seeds, b.row_seeds)


class Counted:
    """A backend that runs a graph as it is, and counts the graphs that it was given."""

    def __init__(self):
        self.graphs = 0

    def __call__(self, graph, inputs):
        self.graphs += 1
        return graph.forward


@pytest.mark.parametrize("objective", ["bert", "gpt", "hubert", "mae", "byol_audio"])
def test_nothing_is_compiled_anew_once_every_shape_was_seen(objective):
    """In one epoch, of ragged batches, a step has been taken with each shape; then none is compiled, and validation,
    whose batches have any shape, compiles nothing at all. Losses and gradients are those of blocks as they are."""
    config = tiny(objective)
    if objective in ("bert", "gpt"):
        config["data"]["batch"] = {"_target_": "sslzoo.data.sampler.ByTokens", "tokens": 60, "buckets": 3}
    backend, jobs = Counted(), [still(ready(config)) for _ in range(2)]
    job = jobs[1]
    ragged = job.data.modality != "image"
    blocks.compile_blocks(job.encoder, job.objective, ragged=ragged, backend=backend)
    names = [name for name, _ in job.encoder.named_parameters()]
    assert names == [name for name, _ in jobs[0].encoder.named_parameters()]
    split = job.data.split("train")
    steps = plan.epoch_steps(split, job.data.batch, 1)
    for number, batch in enumerate(batches(job, steps)):
        (logs, grads), (more_logs, more) = gradients(jobs[0], batch), gradients(job, batch)
        assert more_logs["loss"] == pytest.approx(logs["loss"], rel=1e-5)
        if number == 0:
            scale = max(float(g.abs().max()) for g in grads.values())
            assert all(torch.allclose(more[n], g, atol=1e-5 * scale) for n, g in grads.items())
        for module in (*jobs[0].encoder.parameters(), *job.encoder.parameters()):
            module.grad = None
    shapes = len({tuple(b.inputs.shape) for b in batches(job, steps)})
    trunks = len(list(blocks.trunks(job.encoder, job.objective)))
    assert not counters["graph_break"] and 0 < backend.graphs <= 2 * shapes * trunks  # two: with gradient and without
    seen = backend.graphs
    with torch._dynamo.config.patch(error_on_recompile=True):
        for batch in batches(job, steps, start=steps):
            gradients(job, batch)
        with evaluating(job.encoder), evaluating(job.objective), torch.no_grad():
            for batch in ordered_loader(split, 3 * split.cut_lengths.max(), seed=0):
                job.objective(job.encoder, batch, 0)
    assert backend.graphs == seen


OPTIONS = {
    "position": {"_target_": "sslzoo.encoders.rotary.RotaryPosition", "local_base": 10.0, "fraction": 0.5},
    "activation": "swiglu",
    "norm_type": "rms",
    "bias": False,
    "window": 4,
    "global_every": 2,
}


@pytest.mark.parametrize("objective", ["bert", "gpt", "hubert", "mae"])
def test_a_trunk_with_every_option_is_recomputed_and_compiled(objective):
    """And no graph breaks, nor is one compiled anew once a shape was seen."""
    node = tiny(objective)
    node["encoder"]["trunk"] |= OPTIONS | {"depth": 3}
    backend, jobs = Counted(), [still(ready(node)) for _ in range(3)]
    blocks.recompute(jobs[1].encoder)
    ragged = jobs[2].data.modality != "image"
    blocks.compile_blocks(jobs[2].encoder, jobs[2].objective, ragged=ragged, backend=backend)
    batch = batches(jobs[0], 1)[0]
    (logs, grads), (_, again), (_, compiled) = (gradients(job, batch) for job in jobs)
    assert any("gate" in name for name in grads) and torch.isfinite(torch.tensor(float(logs["loss"])))
    scale = max(float(g.abs().max()) for g in grads.values())
    for name, g in grads.items():
        assert torch.equal(again[name], g), name
        assert torch.allclose(compiled[name], g, atol=1e-5 * scale), name
    assert not counters["graph_break"] and backend.graphs > 0
    with torch._dynamo.config.patch(error_on_recompile=True):
        for module in jobs[2].encoder.parameters():
            module.grad = None
        gradients(jobs[2], batch)


def test_without_buckets_shape_it_would_be(monkeypatch):
    """The test above can fail."""
    job, backend = still(ready(tiny("hubert"))), Counted()
    blocks.compile_blocks(job.encoder, ragged=True, backend=backend)
    for batch in batches(job, 6, to_bucket=False):
        gradients(job, batch)
    assert backend.graphs > job.data.batch.buckets


@pytest.mark.parametrize(("precision", "rel"), [("32", 1e-5), ("bf16", 1e-3)])
def test_a_run_is_compiled_and_recomputed_and_learns_the_same(precision, rel, tmp_path, monkeypatch):
    monkeypatch.setattr(blocks, "BACKEND", Counted())
    few = ["trainer.max_steps=4", "trainer.log_every=1", "trainer.val_every=2", "trainer.accelerator=cpu"]
    few.append(f"trainer.precision={precision}")
    plain = train(tiny("hubert", *few), tmp_path / "plain")
    assert blocks.BACKEND.graphs == 0
    run = train(tiny("hubert", *few, "trainer.compile=true", "trainer.activation_checkpointing=true"), tmp_path / "run")
    assert blocks.BACKEND.graphs > 0
    a, b = (list(csv.DictReader(x.metrics.open(newline=""))) for x in (plain, run))
    for x, y in zip(a, b, strict=True):
        assert float(x["loss"]) == pytest.approx(float(y["loss"]), rel=rel)
    assert load_file(plain.weights).keys() == load_file(run.weights).keys()


@pytest.mark.slow
def test_a_run_by_the_compiler_itself(tmp_path):
    few = ["trainer.max_steps=4", "trainer.log_every=1"]
    plain = train(tiny("bert", *few), tmp_path / "plain")
    run = train(tiny("bert", *few, "trainer.compile=true"), tmp_path / "run")
    a, b = (list(csv.DictReader(x.metrics.open(newline=""))) for x in (plain, run))
    for x, y in zip(a, b, strict=True):
        assert float(x["loss"]) == pytest.approx(float(y["loss"]), rel=1e-4)


@pytest.mark.parametrize("name", ["compile", "activation_checkpointing"])
def test_an_encoder_without_blocks_is_refused(name):
    with pytest.raises(
        ConfigError, match=f"trainer.{name}=true is for the blocks of a transformer.* set trainer.{name}"
    ):
        build(tiny("simclr", f"trainer.{name}=true"))


def test_a_machine_without_a_compiler_is_refused(monkeypatch):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", "/nowhere")
    config = tiny("bert", "trainer.compile=true", "trainer.accelerator=cpu")
    with pytest.raises(ConfigError, match=r"needs a C\+\+ compiler, and there is no .* or set trainer.compile=false"):
        build(config)
    assert Settings(compile=True).compile  # of a config that is only looked at
