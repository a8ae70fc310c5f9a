"""Muon: Newton-Schulz against an SVD, its step against torch's and against AdamW, two ranks, and resumption."""

import pytest
import torch
import torch.distributed as dist
from conftest import tiny
from test_contracts import batch_of, gradients, ready, still, stopped_is_never_stopped
from torch import nn
from two_ranks import on_two_ranks

from sslzoo.build import build
from sslzoo.errors import ConfigError
from sslzoo.train.muon import COEFFICIENTS, is_hidden, orthogonalized
from sslzoo.train.optim import AdamW, Muon
from sslzoo.train.schedule import Constant


@pytest.mark.parametrize("shape", [(12, 12), (8, 30), (30, 8), (3, 9, 4)])
def test_newton_schulz_is_the_polynomial_of_the_singular_values(shape):
    """By an SVD in float64: the vectors stay, and each value goes through the quintic."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    u, s, v = torch.linalg.svd(x.double(), full_matrices=False)
    s = s / s.square().sum(-1, keepdim=True).sqrt()
    a, b, c = COEFFICIENTS
    for _ in range(5):
        s = a * s + b * s**3 + c * s**5
    found = orthogonalized(x)
    torch.testing.assert_close(found.double(), u * s[..., None, :] @ v, atol=1e-4, rtol=0)
    assert found.shape == x.shape and s.min() > 0.6 and s.max() < 1.25, "nearly orthogonal"


def matrices() -> nn.Module:
    torch.manual_seed(0)
    return nn.ModuleDict({"blocks": nn.ModuleList([nn.Linear(6, 10), nn.Linear(10, 6)]), "head": nn.Linear(6, 3)})


def train(net, *optimizers, steps: int = 4):
    g = torch.Generator().manual_seed(1)
    for _ in range(steps):
        x = torch.randn(8, 6, generator=g)
        for layer in net["blocks"]:
            x = layer(x).tanh()
        net.zero_grad()
        net["head"](x).square().sum().backward()
        for optimizer in optimizers:
            optimizer.step()
    return net


def test_a_step_is_torchs_muon_on_blocks_and_adamw_on_the_rest():
    theirs = getattr(torch.optim, "Muon", None)
    if theirs is None:
        pytest.skip("torch.optim.Muon is from 2.9 on")
    ours, other = matrices(), matrices()
    train(ours, Muon(Constant(), 0.01, 0.1).build(ours))
    inner = [layer.weight for layer in other["blocks"]]
    rest = [p for p in other.parameters() if all(p is not w for w in inner)]
    muon = theirs(inner, lr=0.01, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")
    groups = [{"params": [p for p in rest if p.ndim > 1], "weight_decay": 0.1}]
    groups += [{"params": [p for p in rest if p.ndim == 1], "weight_decay": 0.0}]
    train(other, muon, torch.optim.AdamW(groups, lr=0.01, betas=(0.9, 0.98), eps=1e-6))
    for (name, a), b in zip(ours.named_parameters(), other.parameters(), strict=True):
        close = 2e-3 if a in set(ours["blocks"].parameters()) else 1e-4  # theirs is in bfloat16
        torch.testing.assert_close(a, b, atol=close, rtol=0, msg=name)
    apart = train(matrices(), AdamW(Constant(), 0.01, 0.1).build(matrices()))
    assert (ours["blocks"][0].weight - apart["blocks"][0].weight).abs().max() > 0.01


def test_hidden_matrices_are_those_of_blocks():
    job = build(tiny("mae", "optim=muon"))
    module = nn.ModuleDict({"encoder": job.encoder, "objective": job.objective})
    groups = job.optim.build(module).param_groups
    chosen = {id(p) for group in groups if group["hidden"] for p in group["params"]}
    names = {name for name, p in module.named_parameters() if id(p) in chosen}
    assert "encoder.trunk.blocks.0.attention.query.weight" in names and "objective.decoder.blocks.0.up.weight" in names
    assert all("blocks" in name and name.endswith("weight") for name in names)
    every = [p for group in groups for p in group["params"]]
    assert len(every) == len(set(map(id, every))) == sum(p.requires_grad for p in module.parameters())
    assert is_hidden("encoder.blocks.0.convs.1.0.weight", torch.zeros(8, 4, 3, 3))
    assert not is_hidden("encoder.blocks.0.depthwise.weight", torch.zeros(8, 1, 7, 7)), "one channel each"
    assert not is_hidden("encoder.frontend.linear.weight", torch.zeros(8, 4))


def stepped(config: dict, batch, average) -> dict:
    job = still(ready(config))
    module = nn.ModuleDict({"encoder": job.encoder, "objective": job.objective})
    optimizer = job.optim.build(module)
    for step in range(2):
        module.zero_grad()
        gradients(job, batch(job, step))
        for p in module.parameters():
            if p.grad is not None:
                average(p.grad)
        job.optim.set_rate(optimizer, step, 10)
        optimizer.step()
    return {name: p.detach() for name, p in module.named_parameters()}


def test_two_ranks_step_as_one(tmp_path):
    config = tiny("mae", "optim=muon", "optim.lr=0.01")

    def work(rank):
        def average(grad):
            dist.all_reduce(grad)
            grad /= 2

        return stepped(config, lambda job, step: batch_of(job, step, rank, 2), average)

    first, second = on_two_ranks(work, tmp_path)
    one = stepped(config, batch_of, lambda grad: None)
    for name, weight in one.items():
        assert torch.equal(first[name], second[name]), name
        torch.testing.assert_close(first[name], weight, atol=2e-4, rtol=0, msg=name)


def test_stopped_and_continued_is_never_stopped_to_the_bit(tmp_path):
    config = tiny("mae", "optim=muon", "trainer.max_steps=7", "trainer.save_every=3", "trainer.log_every=2")
    stopped_is_never_stopped(config, [2, 5], tmp_path)


def test_settings_that_mean_nothing_are_refused():
    with pytest.raises(ConfigError, match=r"optim\.steps must be 1 or more"):
        Muon(Constant(), steps=0)
    with pytest.raises(ConfigError, match=r"optim\.momentum"):
        Muon(Constant(), momentum=1.0)
