"""Regions of half precision, and the steps that a scaled loss skips."""

import copy
import csv
import io
import json
import math
from typing import NamedTuple

import lightning as L
import pytest
import torch
from conftest import tiny
from test_contracts import ready, train
from test_ddp import TWO, start
from torch import Tensor, nn

from sslzoo.encoders.base import Encoded, Encoder
from sslzoo.errors import UserError
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import precision
from sslzoo.train.precision import HalfPrecision, Region, apply, networks, to_float32


class Tiny(Encoder):
    """Remembers in what each stage computed."""

    def __init__(self):
        super().__init__()
        self.linear, self.seen = nn.Linear(4, 4), []

    def features(self, inputs, lengths):
        return self.linear(inputs), lengths

    def project(self, features, lengths, first: int = 0):
        self.seen.append(features.dtype)
        return self.linear(features) + first, lengths

    def contextualize(self, tokens, lengths):
        self.seen.append(tokens.dtype)
        last = self.linear(tokens)
        return Encoded([tokens, last], lengths, last.mean(1))


class Choice(nn.Module):
    full_precision = True

    def forward(self, x):
        return x @ x.transpose(-1, -2), x.dtype


class Mixed(nn.Module):
    """A head with a part that is not one."""

    def __init__(self):
        super().__init__()
        self.linear, self.choice = nn.Linear(4, 4), Choice()

    def forward(self, x):
        x = self.linear(x)
        return x.dtype, self.choice(x)


class Method(nn.Module):
    def __init__(self):
        super().__init__()
        self.teacher, self.choice, self.head, self.steps = Tiny(), Choice(), Mixed(), nn.ModuleList([nn.Linear(4, 4)])


X, N = torch.randn(2, 3, 4), torch.tensor([3, 3])


def made(dtype=torch.bfloat16) -> tuple[Tiny, Method]:
    encoder, method = Tiny(), Method()
    apply(encoder, method, dtype, "cpu")
    return encoder, method


def test_stages_compute_in_half_and_give_float32():
    for encoder in (made()[0], made()[1].teacher):
        assert {encoder.features(X, N)[0].dtype, encoder.project(X, N, first=2)[0].dtype} == {torch.float32}
        assert encoder.features(X, N)[1] is N
        assert torch.equal(encoder.features(X, N)[0], encoder.features(X, N)[0].bfloat16().float())
        found = encoder(X, N)
        assert {x.dtype for x in [*found.hidden, found.pooled]} == {torch.float32} and found.lengths is N
    encoder, _ = made()
    encoder(X, N)
    assert encoder.seen == [torch.bfloat16] * 2  # from stage to stage nothing is cast
    tokens, _ = encoder.embed(X, N)
    assert tokens.dtype == torch.float32 and not torch.is_autocast_enabled("cpu")


def test_a_full_precision_part_of_a_head_stays_so():
    _, method = made()
    half, (product, given) = method.head(X)
    assert (half, product.dtype, given) == (torch.bfloat16, torch.float32, torch.float32)
    assert method.choice(X)[0].equal(X @ X.transpose(1, 2))
    assert method.steps[0](X).equal(method.steps[0](X).bfloat16().float())
    assert list(networks(method)) == [method.head, method.steps[0]]  # no container, no encoder, no quantiser


def test_a_copy_computes_with_its_own_weights():
    encoder, method = made()
    teacher, head = copy.deepcopy(encoder), copy.deepcopy(method.head)
    nn.init.zeros_(teacher.linear.weight)
    nn.init.zeros_(teacher.linear.bias)
    assert not teacher.features(X, N)[0].any() and encoder.features(X, N)[0].any()
    assert teacher.features.module is teacher and head.forward.module is head
    assert teacher(X, N).last.dtype == torch.float32 and teacher.seen == [torch.bfloat16] * 2
    assert head(X)[0] == torch.bfloat16


def test_a_region_is_no_state_and_is_made_anew():
    encoder, method = made()
    assert encoder.state_dict().keys() == Tiny().state_dict().keys()
    assert method.state_dict().keys() == Method().state_dict().keys()
    apply(encoder, method, torch.float16, "cpu")
    encoder(X, N)
    assert encoder.seen == [torch.float16] * 2 and encoder.features.call(X, N)[0].dtype == torch.float32
    whole = io.BytesIO()
    torch.save(encoder, whole)
    again = torch.load(io.BytesIO(whole.getvalue()), weights_only=False)
    assert again.features(X, N)[0].equal(encoder.features(X, N)[0]) and again.features.module is again


def test_an_error_leaves_autocast_as_it_was():
    encoder, method = made()
    with pytest.raises(RuntimeError):
        encoder(X[..., :3], N)
    with pytest.raises(RuntimeError):
        method.head(X[..., :3])
    assert not torch.is_autocast_enabled("cpu") and encoder.embed(X, N)[0].dtype == torch.float32


def test_gradients_are_float32():
    encoder, method = made()
    method.steps[0](encoder(X, N).last).square().sum().backward()
    for weight in (encoder.linear.weight, method.steps[0].weight):
        assert weight.grad.dtype == torch.float32 and weight.grad.any()


def test_all_that_leaves_is_cast():
    class Pair(NamedTuple):
        a: Tensor
        b: Tensor | None

    half = torch.ones(1, dtype=torch.float16)
    found = to_float32(([half], {"x": half.bfloat16()}, Pair(half, None), half.double(), N, "word"))
    assert found[0][0].dtype == found[1]["x"].dtype == found[2].a.dtype == torch.float32
    assert isinstance(found[2], Pair) and found[3].dtype == torch.float64 and found[4] is N and found[5] == "word"


def test_a_run_refreshes_validates_and_saves_in_half(tmp_path, monkeypatch):
    """Wherever the trainer calls the encoder, and with no weight but float32."""
    said, call = set(), Region.__call__

    def noted(region, *args, **kwargs):
        said.add((region.name, region.dtype, torch.is_grad_enabled(), region.module.training))
        return call(region, *args, **kwargs)

    monkeypatch.setattr(Region, "__call__", noted)
    few = ["trainer.max_steps=2", "trainer.val_every=2", "trainer.accelerator=cpu", "trainer.precision=bf16"]
    run = train(tiny("deepcluster", *few), tmp_path / "run")
    assert run.done and ("forward", torch.bfloat16, False, False) in said
    saved = torch.load(next(run.checkpoints.glob("*.ckpt")), weights_only=True)["state_dict"]
    assert {x.dtype for x in saved.values() if x.is_floating_point()} == {torch.float32}
    assert saved.keys() == {
        *(f"encoder.{name}" for name in ready(tiny("deepcluster")).encoder.state_dict()),
        *(f"objective.{name}" for name in ready(tiny("deepcluster")).objective.state_dict()),
    }


class Overflow(L.LightningModule):
    """Its gradient is infinite at the steps named."""

    def __init__(self, at: set[int]):
        super().__init__()
        self.at, self.encoder, self.objective = at, Tiny(), nn.Module()
        self.weights, self.skipped = [], []

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(8, 1))

    def configure_optimizers(self):
        return torch.optim.AdamW(self.encoder.parameters(), lr=0.1, fused=True)

    def training_step(self, batch, batch_idx):
        loss = self.encoder.linear(X).square().mean()
        return loss * math.inf if batch_idx in self.at else loss

    def optimizer_step(self, *args, **kwargs):
        super().optimizer_step(*args, **kwargs)
        self.weights.append(self.encoder.linear.weight.detach().clone())
        self.skipped.append(self.trainer.precision_plugin.skipped)


def fit(module: L.LightningModule, plugin: HalfPrecision) -> None:
    quiet = {"logger": False, "enable_checkpointing": False, "enable_progress_bar": False}
    trainer = L.Trainer(
        accelerator="cpu", max_steps=6, gradient_clip_val=1.0, plugins=[plugin], enable_model_summary=False, **quiet
    )
    trainer.fit(module)


@pytest.mark.filterwarnings("ignore")
def test_a_scaled_step_that_overflows_is_skipped_and_said_to_be():
    """With an optimiser that would skip on the device, unseen, and refuse to be clipped."""
    plugin, module = HalfPrecision("16-mixed", "cpu"), Overflow({0, 3, 4})
    before = module.encoder.linear.weight.detach().clone()
    fit(module, plugin)
    assert plugin.is_scaled and module.skipped == [True, False, False, True, True, False]
    stayed = [torch.equal(a, b) for a, b in zip([before, *module.weights], module.weights, strict=False)]
    assert stayed == module.skipped
    assert plugin.state_dict()["scale"] == 2.0**16 / 8


@pytest.mark.filterwarnings("ignore")
def test_what_never_ceases_to_overflow_is_an_error(monkeypatch):
    monkeypatch.setattr(precision, "MOST_SKIPPED", 3)
    with pytest.raises(UserError, match="not finite at 4 steps in a row.*precision=bf16 or 32"):
        fit(Overflow(set(range(8))), HalfPrecision("16-mixed", "cpu"))


def test_bf16_is_not_scaled():
    plugin = HalfPrecision("bf16-mixed", "cpu")
    assert not plugin.is_scaled and not plugin.skipped and plugin.state_dict() == {}


def test_a_teacher_waits_where_a_step_is_skipped(tmp_path, monkeypatch):
    """A run whose first scale is too large: it goes on, and ends finite."""
    told, step = [], Pretrain.optimizer_step

    def optimizer_step(self, *args, **kwargs):
        follow, self.objective.after_step = self.objective.after_step, lambda *_: told.append("followed")
        step(self, *args, **kwargs)
        self.objective.after_step = follow
        told.append(self.trainer.precision_plugin.skipped)

    monkeypatch.setattr(Pretrain, "optimizer_step", optimizer_step)
    few = ["trainer.max_steps=12", "trainer.accelerator=cpu", "trainer.precision=fp16"]
    run = train(tiny("byol", *few), tmp_path / "run")
    skipped = [x for x in told if x != "followed"]
    assert run.done and len(skipped) == 12 and skipped[0] and not skipped[-1]
    assert told.count("followed") == skipped.count(False)
    state = torch.load(next(run.checkpoints.glob("*.ckpt")), weights_only=True)
    assert state["HalfPrecision"]["scale"] == 2.0 ** (16 - sum(skipped))


@pytest.mark.parametrize("said", ["bf16", "fp16"])
def test_two_ranks_in_half_follow_one(said, tmp_path):
    runs = [
        start(Run(tmp_path / name), "byol", f"trainer.precision={said}", "trainer.accelerator=cpu", *ranks)
        for name, ranks in (("one", []), ("two", TWO))
    ]
    one, two = ([float(row["loss"]) for row in csv.DictReader(run.metrics.open(newline=""))] for run in runs)
    # of later steps no more can be said: bf16 is 5 % from float32 itself by the fourth, on so few rows
    assert one[:2] == pytest.approx(two[:2], rel=5e-3) and all(map(math.isfinite, two))
    assert json.loads(runs[1].summary.read_text())["precision"] == {"bf16": "bf16-mixed", "fp16": "16-mixed"}[said]
