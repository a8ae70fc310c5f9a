"""Rotary positions, windows, gates, norms: for text, speech and images, padded and in parts (compiled: see
train/test_blocks.py)."""

import pytest
import torch
from closeness import assert_sum_close
from conftest import tiny
from test_contracts import batch_of as training_batch
from test_contracts import ready, still
from test_every_encoder import assert_close, batch_of, config, items

from sslzoo.build import make
from sslzoo.encoders.kv_cache import KVCache, LayerKV
from sslzoo.encoders.rotary import RotaryPosition, rotate
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError

ROTARY = {"_target_": "sslzoo.encoders.rotary.RotaryPosition", "base": 100.0, "local_base": 10.0, "fraction": 0.5}
OPTIONS = {
    "position": ROTARY,
    "activation": "swiglu",
    "norm_type": "rms",
    "bias": False,
    "window": 4,
    "global_every": 2,
}


def trunk(**more) -> Transformer:
    torch.manual_seed(0)
    position = RotaryPosition(100.0, 10.0, 0.5)
    options = {"position": position, "window": 4, "global_every": 2, "activation": "geglu", "norm_type": "rms"}
    return Transformer(**{"dim": 16, "depth": 3, "heads": 2, "init_std": 0.3, **options, **more}).eval()


def test_what_two_tokens_make_of_each_other_depends_on_their_distance_alone():
    """Equation 16: <R(m) q, R(n) k> is a function of n - m; a turn keeps lengths; what is not turned stays."""
    position, (q, k) = RotaryPosition(50.0, fraction=0.75), torch.randn(2, 1, 1, 1, 8)
    places = torch.arange(40)
    turned_q, turned_k = (rotate(x.expand(1, 1, 40, 8), position(places, 8)) for x in (q, k))
    products = (turned_q @ turned_k.mT)[0, 0]
    for distance in (-7, 0, 3):
        diagonal = products.diagonal(distance)
        torch.testing.assert_close(diagonal, diagonal[:1].expand_as(diagonal), atol=1e-5, rtol=0)
    assert not torch.allclose(products[0, 0], products[0, 3])
    torch.testing.assert_close(turned_q.norm(dim=-1), q.norm(dim=-1).expand(1, 1, 40))
    assert torch.equal(turned_q[..., 6:], q.expand(1, 1, 40, 8)[..., 6:])
    # by hand: the features i and i + 3 are turned by m / 50^(2 i / 6)
    angle = torch.tensor(13 / 50 ** (2 / 6))
    expected = q[..., 1] * angle.cos() - q[..., 4] * angle.sin()
    torch.testing.assert_close(turned_q[0, 0, 13, 1], expected[0, 0, 0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("name", ["tiny_text", "tiny_speech", "tiny_wave", "tiny_image"])
@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_padding_changes_nothing_with_every_option(name, norm):
    """As for every encoder; and each option is seen in what is made."""
    torch.manual_seed(0)
    node = config(name)
    node["trunk"] |= OPTIONS | {"norm": norm, "depth": 3, "init_std": 0.2}
    if name == "tiny_text":
        node["frontend"] |= {"position": "none"}
    net = make(node).eval()
    tensors = items(net.modality)
    together = net(*batch_of(tensors, 0, 2 if net.modality == "text" else 0))
    assert all(h.isfinite().all() for h in together.hidden), "padding sees something, itself"
    for row, tensor in enumerate(tensors):
        alone = net(*batch_of([tensor]))
        for a, b in zip(alone.hidden, together.hidden, strict=True):
            n = alone.lengths[0]
            assert_close(b[row, :n], a[0, :n], f"item {row}")
    for change in ({"position": None}, {"window": None}, {"activation": "relu"}, {"norm_type": "layer"}):
        torch.manual_seed(0)
        other = make(node | {"trunk": node["trunk"] | change}).eval()
        assert not torch.allclose(other(*batch_of(tensors)).last[0], net(*batch_of(tensors)).last[0], atol=1e-3), change


@torch.no_grad()
def test_tokens_may_stand_in_any_order_if_their_places_are_said():
    """What an objective does that leaves patches out, and one that packs texts whose places begin anew."""
    net, x, lengths = trunk(), torch.randn(2, 9, 16), torch.tensor([9, 9])
    order = torch.stack([torch.randperm(9), torch.randperm(9)])
    mixed = x.gather(1, order[..., None].expand_as(x))
    for whole, found in zip(net(x, lengths), net(mixed, lengths, order), strict=True):
        assert_sum_close(found, whole.gather(1, order[..., None].expand_as(whole)))
    assert not torch.allclose(net(mixed, lengths)[-1], net(mixed, lengths, order)[-1])


@torch.no_grad()
def test_mae_sees_patches_where_they_are():
    """Kept patches come in a random order: with rotary positions, the encoder makes of them what it makes of them in
    the image's order."""
    job = still(ready(tiny("mae")))
    trunk_node = job.config["encoder"]["trunk"] | {"position": ROTARY, "depth": 2}
    torch.manual_seed(0)
    encoder, seen = make(job.config["encoder"] | {"trunk": trunk_node}).eval(), []
    contextualize = encoder.contextualize

    def listen(tokens, lengths, positions):
        seen.append((tokens, positions))
        return contextualize(tokens, lengths, positions=positions)

    encoder.contextualize = listen
    job.objective(encoder, training_batch(job, 0), 0)
    [(tokens, positions)] = seen
    sizes = torch.full((len(tokens),), tokens.shape[1])
    assert positions[:, 0].eq(0).all() and not positions.diff(dim=1).gt(0).all(), "the class token, then in any order"
    order = positions.argsort(dim=1)
    ordered = tokens.gather(1, order[..., None].expand_as(tokens))
    found = contextualize(tokens, sizes, positions=positions).last
    expected = contextualize(ordered, sizes, positions=positions.gather(1, order)).last
    assert_sum_close(found.gather(1, order[..., None].expand_as(found)), expected)


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_a_cache_goes_on_where_it_was(norm):
    """In parts, with windows that reach back into the cache, a prefix before it all."""
    net, x = trunk(causal=True, norm=norm), torch.randn(2, 14, 16)
    prefix = tuple(LayerKV(*torch.randn(2, 2, 2, 3, 8)) for _ in range(3))
    for ahead in ((), prefix):
        whole, _ = net.run(net.prepare(x, torch.tensor([14, 14]), prefix=ahead))
        cache, parts = KVCache(), []
        for part in x.split([1, 5, 1, 7], dim=1):
            hidden, state = net.run(net.prepare(part, torch.full((2,), part.shape[1]), cache, ahead))
            parts.append(hidden)
            cache = net.cache(state)
        for number, hidden in enumerate(whole):
            assert_sum_close(torch.cat([p[number] for p in parts], 1), hidden)
    y = x.clone()
    y[:, 9:] = torch.randn(2, 5, 16)
    for a, b in zip(net(x, torch.tensor([14, 14])), net(y, torch.tensor([14, 14])), strict=True):
        assert torch.equal(a[:, :9], b[:, :9]), "no token sees what comes"


@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_rows_may_leave_between_blocks(causal):
    net, x, lengths = trunk(causal=causal), torch.randn(3, 9, 16), torch.tensor([9, 4, 7])
    positions = torch.arange(9).expand(3, -1) + torch.tensor([[0], [5], [20]])
    whole = net(x, lengths, positions)
    state = net.prepare(x, lengths, positions=positions)
    for number in range(3):
        state = net.block(number, state)
        if number == 0:
            state = state.select(torch.tensor([0, 2]))
    for row, n in ((0, 9), (2, 7)):
        assert_sum_close(net.finish(state.x)[row // 2, :n], whole[-1][row, :n])


def test_gated_perceptrons_have_as_many_weights():
    plain, gated = (Transformer(96, 1, 4, activation=name, bias=False) for name in ("gelu", "swiglu"))
    count = [sum(p.numel() for p in t.parameters()) for t in (plain, gated)]
    assert count[0] == count[1] and gated.blocks[0].up.out_features == 256


@pytest.mark.parametrize(
    ("make_one", "message"),
    [
        (lambda: RotaryPosition(0.0), "base must be above 0, got 0"),
        (lambda: RotaryPosition(local_base=-1.0), "local_base must be above 0"),
        (lambda: RotaryPosition(fraction=1.5), "fraction must be above 0 and at most 1, got 1.5"),
        (lambda: Transformer(18, 1, 6, position=RotaryPosition()), "3 of a head's 3 were to be turned"),
        (lambda: Transformer(16, 1, 4, position=RotaryPosition(fraction=0.3)), "1 of a head's 4 were to be turned"),
        (lambda: Transformer(16, 1, 4, window=5), "window must be an even number of tokens.* got 5"),
        (lambda: Transformer(16, 1, 4, window=4, global_every=-1), "global_every must be at least 0"),
        (lambda: Transformer(16, 2, 4, share_layers=True, input_norm=False), "share_layers=true has no first one"),
    ],
)
def test_refuses_what_cannot_be(make_one, message):
    with pytest.raises(ConfigError, match=message):
        make_one()
