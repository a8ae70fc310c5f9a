"""Optimisers: LARS against lightly and a slow loop, fused steps against torch's loop, what rate and what weight
decay a step has."""

import pytest
import torch
from conftest import tiny
from torch import nn

from sslzoo.build import build
from sslzoo.errors import ConfigError
from sslzoo.train.optim import LARS, SGD, AdamW, fastest
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
    groups = LARS(Constant(), 0.5, 1e-9, 0.9, 0.01).param_groups(theirs)
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


@pytest.mark.parametrize("channels_last", [False, True])
@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_fused_and_listed_are_the_loop(kind, channels_last):
    """Fused, where these parameters can be, and over lists: the same steps as torch's loop, weight by weight."""
    optim = kind(Constant(), 0.05, 0.1)
    layout = torch.channels_last if channels_last else torch.contiguous_format
    nets = [model().to(memory_format=layout) for _ in range(3)]
    for net in nets:
        net[0].bias.requires_grad_(False)  # before a batch norm its gradient is rounding alone, which Adam makes large
    fused = optim.build(nets[0])
    assert fused.defaults["fused"] is True, "torch fuses on this device"
    torch_kind, groups = type(fused), optim.param_groups
    kept = {k: v for k, v in fused.defaults.items() if k in ("lr", "betas", "eps", "momentum")}
    others = [
        torch_kind(groups(net), foreach=foreach, **kept) for net, foreach in zip(nets[1:], (True, False), strict=True)
    ]
    first, listed, loop = (train(net, o) for net, o in zip(nets, [fused, *others], strict=True))
    assert_same(first, loop, atol=1e-6, rtol=1e-5)
    assert_same(listed, loop, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("kind", [torch.optim.AdamW, torch.optim.SGD])
def test_where_torch_cannot_fuse_it_is_over_lists(kind):
    """torch has no fused step for one of these dtypes, and would say so at the first step."""
    weights = [nn.Parameter(torch.ones(2, dtype=dtype)) for dtype in (torch.float32, torch.complex64)]
    optimizer = fastest(kind, [{"params": [w]} for w in weights], lr=0.1)
    assert optimizer.defaults["foreach"] is True and not optimizer.defaults["fused"]
    for w in weights:
        w.grad = torch.ones_like(w)
    optimizer.step()
    assert all((w.real < 1).all() for w in weights)


@pytest.mark.parametrize("kind", [AdamW, SGD])
def test_a_scaled_gradient_is_divided_before_it_is_measured(kind):
    """fp16's loss scale: after `unscale_` a fused optimiser's gradients can be measured and clipped, as the trainer
    does, and the step does not divide again; a step of an infinite gradient is left out."""
    plain, scaled = model(), model()
    a, b = (kind(Constant(), 0.05).build(net) for net in (plain, scaled))
    scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
    x = torch.randn(8, 3, 4, 4, generator=torch.Generator().manual_seed(1))
    for net, optimizer, scale in ((plain, a, None), (scaled, b, scaler)):
        loss = net(x).square().sum()
        (loss if scale is None else scale.scale(loss)).backward()
        if scale is not None:
            scale.unscale_(optimizer)
        nn.utils.clip_grad_norm_(net.parameters(), 0.1)
        optimizer.step() if scale is None else scale.step(optimizer)
    assert_same(list(plain.parameters()), list(scaled.parameters()), atol=1e-6, rtol=1e-4)
    scaler.update()
    before = [p.detach().clone() for p in scaled.parameters()]
    scaler.scale(scaled(x).sum() * float("inf")).backward()
    scaler.unscale_(b)
    scaler.step(b)
    assert_same(before, list(scaled.parameters()), atol=0, rtol=0)


def test_lars_over_lists_is_the_loop():
    """The weights of a group together move as one by one: with half of them without a gradient, and one of zeros."""

    def weights():
        g = torch.Generator().manual_seed(3)
        made = [torch.randn(*shape, generator=g) for shape in ((4, 3), (2, 3, 3, 3), (5, 2), (3, 3))]
        made[2].zero_()
        return [nn.Parameter(w) for w in made]

    def loop(w, state, lr, decay, momentum, trust):
        g = w.grad.add(w, alpha=decay)
        w_norm, g_norm = w.norm(), g.norm()
        local = trust * w_norm / g_norm if w_norm > 0 and g_norm > 0 else 1.0
        state[id(w)] = state.get(id(w), torch.zeros_like(w)) * momentum + lr * (g * local)
        w.sub_(state[id(w)])

    ours, theirs, state = weights(), weights(), {}
    optimizer = LARS(Constant(), 0.5, 0.1, 0.9, 0.02).build(nn.ParameterList(ours))
    g = torch.Generator().manual_seed(4)
    for step in range(6):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=g) if step % 2 or a.ndim > 2 else None
            b.grad = None if a.grad is None else a.grad.clone()
        optimizer.step()
        with torch.no_grad():
            for w in theirs:
                if w.grad is not None:
                    loop(w, state, 0.5, 0.1, 0.9, 0.02)
    assert_same(ours, theirs, atol=1e-6, rtol=1e-5)


def test_weight_decay_ends_where_it_should():
    """DINO: 0.04 to 0.4 along half a cosine; what does not decay never does."""
    optim = AdamW(Constant(), 0.1, 0.04, weight_decay_end=0.4)
    optimizer = optim.build(model())
    seen = []
    for step in (0, 50, 100):
        optim.set_rate(optimizer, step, 100)
        seen.append([group["weight_decay"] for group in optimizer.param_groups])
    assert seen[0] == pytest.approx([0.04, 0.0]) and seen[1] == pytest.approx([0.22, 0.0])
    assert seen[2] == pytest.approx([0.4, 0.0])
    steady = AdamW(Constant(), 0.1, 0.04)
    assert [steady.decay(step, 10) for step in (0, 5, 9)] == [0.04] * 3


def test_a_rate_is_scaled_from_the_batch_it_was_chosen_for():
    given = LARS(Constant(), 0.3, scale_from=256)
    assert given.scaled(4096).lr == pytest.approx(4.8)  # SimCLR: 0.3 x 4096 / 256
    assert given.scaled(4096).scaled(4096).lr == pytest.approx(4.8), "once"
    assert given.lr == 0.3 and given.scaled(64).lr == pytest.approx(0.075)
    root = LARS(Constant(), 0.075, scale_from=1, scale_rule="sqrt")
    assert root.scaled(4096).lr == pytest.approx(4.8)  # SimCLR: 0.075 x the root of 4096
    assert LARS(Constant(), 0.3).scaled(4096).lr == LARS(Constant(), 0.3).scaled(None).lr == 0.3
    with pytest.raises(ConfigError, match="scale_from needs a batch of a known size"):
        given.scaled(None)
    optimizer = given.scaled(512).build(model())
    assert given.scaled(512).set_rate(optimizer, 0, 10) == pytest.approx(0.6)


@pytest.mark.parametrize(("objective", "batch"), [("simclr", "size=16"), ("hubert", "seconds=16"), ("bert", "size=16")])
def test_a_run_scales_its_rate_by_its_batch(objective, batch):
    job = build(tiny(objective, f"data.batch.{batch}", "optim.lr=0.01", "optim.scale_from=32"))
    assert job.optim.lr == pytest.approx(0.005)


@pytest.mark.parametrize(
    ("bad", "said"),
    [
        ({"weight_decay_end": -0.1}, "weight_decay_end must be at least 0"),
        ({"layer_decay": 0.0}, "layer_decay must be above 0 and at most 1"),
        ({"layer_decay": 1.5}, "layer_decay must be above 0 and at most 1"),
        ({"groups": {"encoder": 0.0}}, "optim.groups.encoder is a factor of lr above 0, got 0.0: .* is frozen"),
        ({"scale_from": 0}, "optim.scale_from is the batch that optim.lr is for"),
    ],
)
def test_refuses_settings_out_of_range(bad, said):
    with pytest.raises(ConfigError, match=said):
        AdamW(Constant(), **bad)


@pytest.mark.parametrize("bad", [{"lr": 0}, {"lr": -1.0}, {"weight_decay": -0.1}])
@pytest.mark.parametrize("kind", [AdamW, SGD, LARS])
def test_refuses_rates_that_learn_nothing(kind, bad):
    with pytest.raises(ConfigError, match="lr > 0 and weight_decay >= 0"):
        kind(Constant(), **bad)


@pytest.mark.parametrize("betas", [[0.9], [0.9, 1.0], [-0.1, 0.9], [0.9, 0.9, 0.9]])
def test_betas_that_are_none(betas):
    with pytest.raises(ConfigError, match="optim.betas must be two numbers from 0 to less than 1"):
        AdamW(Constant(), betas=betas)


@pytest.mark.parametrize("kind", [SGD, LARS])
def test_a_momentum_that_is_none(kind):
    for momentum in (1.0, 1.5, -0.1):
        with pytest.raises(ConfigError, match="optim.momentum must be from 0 to less than 1"):
            kind(Constant(), momentum=momentum)
    with pytest.raises(ConfigError, match="optim.nesterov=true needs optim.momentum above 0"):
        SGD(Constant(), momentum=0, nesterov=True)
