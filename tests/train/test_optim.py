"""Optimisers: LARS against lightly and a slow loop, who decays, what rate a step has."""

import pytest
import torch
from torch import nn

from sslzoo.errors import ConfigError
from sslzoo.train.optim import LARS, SGD, AdamW
from sslzoo.train.schedule import Constant, Linear


def model() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.Flatten(), nn.Linear(16, 5), nn.LayerNorm(5))


def train(net, optimizer, steps=5, rates=None):
    g = torch.Generator().manual_seed(0)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = rates[step] if rates else group["lr"]
        optimizer.zero_grad()
        (net(torch.randn(8, 3, 4, 4, generator=g)) * torch.randn(8, 5, generator=g)).sum().backward()
        optimizer.step()
    return [p.detach().clone() for p in net.parameters()]


def assert_same(a, b, **close):
    for x, y in zip(a, b, strict=True):
        torch.testing.assert_close(x, y, **close)


def test_lars_is_lightlys():
    """At one rate and next to no decay, where the two papers' denominators are one. Theirs adapts those alone
    that decay."""
    lars = pytest.importorskip("lightly.utils.lars")
    ours, theirs = model(), model()
    a = train(ours, LARS(Constant(), 0.5, 1e-9, 0.9, 0.01).build(ours))
    groups = LARS(Constant(), 0.5, 1e-9, 0.9, 0.01).groups(theirs)
    b = train(theirs, lars.LARS(groups, lr=0.5, momentum=0.9, trust_coefficient=0.01))
    assert_same(a, b, atol=1e-6, rtol=1e-5)


def test_lars_is_its_equation():
    """With decay and a rate that changes, which the momentum keeps as SimCLR's code has it."""
    rates = [0.5, 0.3, 0.0, 0.4, 0.1]
    ours, slow = model(), model().double()
    net = train(ours, LARS(Constant(), 1.0, 0.2, 0.8, 0.01).build(ours), rates=rates)

    class Slow(torch.optim.Optimizer):
        def step(self):
            for w in slow.parameters():
                g, local = w.grad, 1.0
                if w.ndim > 1:
                    g = g + 0.2 * w.data
                    local = 0.01 * float(w.data.norm()) / float(g.norm())
                v = self.state[w].get("v", 0) * 0.8 + self.param_groups[0]["lr"] * local * g
                self.state[w]["v"] = v
                w.data -= v

    g = torch.Generator().manual_seed(0)
    optimizer = Slow(slow.parameters(), {"lr": 0.0})
    for rate in rates:
        optimizer.param_groups[0]["lr"] = rate
        optimizer.zero_grad()
        x, pull = torch.randn(8, 3, 4, 4, generator=g), torch.randn(8, 5, generator=g)
        (slow(x.double()) * pull.double()).sum().backward()
        optimizer.step()
    assert_same([w.double() for w in net], [w.detach() for w in slow.parameters()], atol=1e-5, rtol=1e-4)


def test_lars_moves_weights_of_zero():
    """Neither a weight nor a gradient of norm 0 divides by it."""
    w = nn.Parameter(torch.zeros(2, 2))
    optimizer = LARS(Constant(), 0.1, 0.0).build(nn.ParameterList([w]))
    w.grad = torch.ones(2, 2)
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((2, 2), -0.1))
    w.grad = torch.zeros(2, 2)
    optimizer.step()
    assert torch.isfinite(w).all()


@pytest.mark.parametrize("optim", [AdamW(Constant(), 0.1, 0.3), SGD(Constant(), 0.1, 0.3), LARS(Constant(), 0.1, 0.3)])
def test_matrices_decay_and_vectors_do_not(optim):
    net = model()
    net[0].weight.requires_grad_(False)
    decays, stays = optim.build(net).param_groups
    assert decays["weight_decay"] == 0.3 and stays["weight_decay"] == 0.0
    assert [id(p) for p in decays["params"]] == [id(net[3].weight)]
    assert {id(p) for p in stays["params"]} == {id(p) for p in net.parameters() if p.ndim == 1}


def test_decay_is_decoupled_from_adams_gradient():
    w = nn.Parameter(torch.full((2, 2), 4.0))
    optimizer = AdamW(Constant(), 0.1, 0.5).build(nn.ParameterList([w]))
    w.grad = torch.zeros(2, 2)
    optimizer.step()
    torch.testing.assert_close(w.detach(), torch.full((2, 2), 4.0 * (1 - 0.1 * 0.5)))


def test_settings_reach_torch():
    adam = AdamW(Constant(), 0.1, betas=[0.5, 0.6], eps=1e-3).build(model())
    assert isinstance(adam, torch.optim.AdamW)
    assert adam.defaults["betas"] == (0.5, 0.6) and adam.defaults["eps"] == 1e-3
    sgd = SGD(Constant(), 0.1, momentum=0.7, nesterov=True).build(model())
    assert sgd.defaults["momentum"] == 0.7 and sgd.defaults["nesterov"]


def test_every_group_gets_the_rate_of_the_step():
    optim = AdamW(Linear(0.5), lr=0.2)
    optimizer = optim.build(model())
    assert optim.set_rate(optimizer, 0, 10) == pytest.approx(0.04)
    assert [g["lr"] for g in optimizer.param_groups] == pytest.approx([0.04, 0.04])
    assert optim.set_rate(optimizer, 9, 10) == pytest.approx(0.04)


@pytest.mark.parametrize("bad", [{"lr": 0}, {"lr": -1.0}, {"weight_decay": -0.1}])
@pytest.mark.parametrize("kind", [AdamW, SGD, LARS])
def test_refuses_rates_that_learn_nothing(kind, bad):
    with pytest.raises(ConfigError, match="lr > 0 and weight_decay >= 0"):
        kind(Constant(), **bad)
