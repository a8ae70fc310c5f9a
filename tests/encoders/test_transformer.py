"""The trunk by itself: causality, dropped layers, masks."""

import pytest
import torch
from closeness import assert_sum_close

from sslzoo.encoders.kv_cache import KVCache, LayerKV
from sslzoo.encoders.transformer import ConvPosition, SinePosition, Transformer
from sslzoo.errors import ConfigError
from sslzoo.nn.positions import sinusoids


def trunk(**more) -> Transformer:
    torch.manual_seed(0)
    return Transformer(**{"dim": 16, "depth": 3, "heads": 2, "init_std": 0.3, "position": SinePosition(16), **more})


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("lengths", [[12, 12], [12, 9]], ids=["full", "padded"])
@torch.no_grad()
def test_causal_never_sees_later_tokens(norm, lengths):
    net, lengths = trunk(causal=True, norm=norm).eval(), torch.tensor(lengths)
    x = torch.randn(2, 12, 16)
    before = net(x, lengths)
    for place in (1, 5, 8):
        y = x.clone()
        y[:, place:] += torch.randn(2, 12 - place, 16)
        for a, b in zip(before, net(y, lengths), strict=True):
            assert torch.equal(a[:, :place], b[:, :place])
            assert not torch.allclose(a[:, place], b[:, place])


@pytest.mark.parametrize("norm", ["pre", "post"])
@torch.no_grad()
def test_a_cache_goes_on_where_it_was(norm):
    """In parts, each from the place that it has in the whole."""
    net, x = trunk(causal=True, norm=norm).eval(), torch.randn(2, 12, 16)
    whole, cache, parts = net(x, torch.tensor([12, 12])), KVCache(), []
    for part in x.split([1, 4, 1, 6], dim=1):
        hidden, state = net.run(net.prepare(part, torch.full((2,), part.shape[1]), cache))
        parts.append(hidden)
        cache = net.cache(state)
    for number, hidden in enumerate(whole):
        assert_sum_close(torch.cat([p[number] for p in parts], 1), hidden)
    assert cache.position == cache.layers[0].size == 12


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("causal", [True, False])
@torch.no_grad()
def test_rows_may_leave_between_blocks(norm, causal):
    """The others go on as if those had never been there, and an early end is `finish` of the state."""
    net, x, lengths = trunk(causal=causal, norm=norm).eval(), torch.randn(4, 9, 16), torch.tensor([9, 4, 7, 9])
    whole, state, left = net(x, lengths), net.prepare(x, lengths), torch.arange(4)
    for number, leaving in enumerate([1, 2, None]):
        state = net.block(number, state)
        if number < 2:
            assert_sum_close(state.x, whole[number + 1][left])
            left = left[left != leaving]
            state = state.select(torch.tensor([0, *range(2, len(state.x))]))
    assert left.tolist() == [0, 3]
    assert_sum_close(net.finish(state.x), whole[-1][left])


@pytest.mark.parametrize("causal", [True, False])
@pytest.mark.parametrize("lengths", [[7, 7], [7, 4]], ids=["full", "padded"])
@torch.no_grad()
def test_a_prefix_is_seen_by_every_token_and_takes_no_place(causal, lengths):
    """As attention over the prefix's keys and then one's own would be, head by head, in float64."""
    net, x, lengths = (
        trunk(causal=causal, depth=1).eval().double(),
        torch.randn(2, 7, 16).double(),
        torch.tensor(lengths),
    )
    key, value = (torch.randn(2, 2, 3, 8).double() for _ in range(2))
    prefix = (LayerKV(key, value),)
    found, _ = net.run(net.prepare(x, lengths, prefix=prefix))
    if causal and int(lengths.min()) == 7:
        parts, cache = [], KVCache()  # a prefix and a cache together
        for part in x.split([3, 4], dim=1):
            hidden, state = net.run(net.prepare(part, torch.full((2,), part.shape[1]), cache, prefix))
            parts.append(hidden[-1])
            cache = net.cache(state)
        assert cache.position == cache.layers[0].size == 7, "a prefix takes no place"
        torch.testing.assert_close(torch.cat(parts, 1), found[-1])
    plain = net(x, lengths)
    torch.testing.assert_close(found[0], plain[0])
    layer, attention = net.blocks[0], net.blocks[0].attention
    for row, length in enumerate(lengths.tolist()):
        normed = layer.attention_norm(found[0][row, :length])
        q, k, v = (f(normed).unflatten(-1, (2, 8)) for f in (attention.query, attention.key, attention.value))
        for place in range(length):
            end, heads = place + 1 if causal else length, []
            for head in range(2):
                keys, values = torch.cat([key[row, head], k[:end, head]]), torch.cat([value[row, head], v[:end, head]])
                heads.append((keys @ q[place, head] / 8**0.5).softmax(0) @ values)
            after = found[0][row, place] + attention.out(torch.cat(heads))
            expected = net.norm(after + layer.mlp(layer.mlp_norm(after)))
            torch.testing.assert_close(found[1][row, place], expected)
            assert not torch.allclose(plain[1][row, place], expected)


def test_gradients_reach_a_prefix():
    net, prefix = trunk(causal=True, depth=1), LayerKV(*torch.randn(2, 1, 2, 3, 8))
    key = prefix.key.requires_grad_()
    hidden, _ = net.run(net.prepare(torch.randn(1, 5, 16), torch.tensor([5]), prefix=(prefix,)))
    hidden[-1].square().sum().backward()
    assert (key.grad.abs().sum(-1) > 0).all()


@torch.no_grad()
def test_without_the_causal_mask_every_token_is_seen():
    net, lengths = trunk().eval(), torch.tensor([12])
    x = torch.randn(1, 12, 16)
    y = x.clone()
    y[:, -1] += 1
    assert (net(x, lengths)[-1] - net(y, lengths)[-1]).abs().sum(-1).min() > 1e-6


def test_dropped_layers_reach_every_weight():
    """A skipped layer is the identity, yet each weight has a gradient, as data-parallel ranks need."""
    net, lengths = trunk(layer_drop=1.0), torch.tensor([5])
    x = torch.randn(1, 5, 16)
    hidden = net.train()(x, lengths)
    torch.testing.assert_close(hidden[1], hidden[0])
    hidden[-1].square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert all((p.grad == 0).all() for p in net.blocks.parameters())
    assert not torch.allclose(net.eval()(x, lengths)[1], hidden[1]), "none is dropped in evaluation"


def test_layers_are_dropped_by_the_seed_that_the_trainer_sets():
    """So that all ranks drop the same ones, whatever their own generators have drawn."""
    net, lengths, x = trunk(layer_drop=0.5).train(), torch.tensor([5]), torch.randn(1, 5, 16)

    def dropped(seed: int) -> list[bool]:
        net.layer_drop_seed = seed
        state, found = net.prepare(x, lengths), []
        for number in range(net.depth):
            after = net.block(number, state)
            found.append(torch.equal(after.x, state.x))
            state = after
        return found

    many = [dropped(seed) for seed in range(200)]
    torch.manual_seed(1)
    assert [dropped(seed) for seed in range(200)] == many
    share = torch.tensor(many).float().mean(0)
    assert ((share - 0.5).abs() < 0.15).all(), "each layer half of the time"


def test_dropout_is_for_training():
    net, lengths, x = trunk(dropout=0.5, attention_dropout=0.5), torch.tensor([5]), torch.randn(1, 5, 16)
    assert not torch.equal(net.train()(x, lengths)[-1], net(x, lengths)[-1])
    assert torch.equal(net.eval()(x, lengths)[-1], net(x, lengths)[-1])


@pytest.mark.parametrize("kernel", [3, 8])
@torch.no_grad()
def test_conv_position_reaches_half_a_kernel(kernel):
    """A token's position comes from kernel // 2 tokens before it and the rest after: nothing further."""
    position = ConvPosition(16, kernel, 4).eval()
    x = torch.randn(1, 30, 16)
    y = x.clone()
    y[:, 15] += 1
    moved = (position(x) - position(y)).abs().sum(-1)[0].nonzero().flatten().tolist()
    assert moved == list(range(15 - (kernel - 1 - kernel // 2), 15 + kernel // 2 + 1))


def test_sinusoids_follow_the_paper():
    table = sinusoids(7, 8)
    for place in range(7):
        for i in range(4):
            angle = torch.tensor(place / 10000 ** (i / 4), dtype=torch.float64)
            assert float(table[place, i]) == pytest.approx(float(angle.sin()), abs=1e-6)
            assert float(table[place, 4 + i]) == pytest.approx(float(angle.cos()), abs=1e-6)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: Transformer(dim=10, heads=4), "dim=10 cannot be split over heads=4"),
        (lambda: ConvPosition(dim=10, groups=4), "dim=10 is not divisible by groups=4"),
        (lambda: SinePosition(5), "even dim, got 5"),
    ],
)
def test_refuses_what_does_not_divide(make, message):
    with pytest.raises(ConfigError, match=message):
        make()


def test_xavier_is_maes_reference():
    """Uniform between the bounds of Glorot and Bengio 2010; query, key and value as one layer of 3 D outputs."""
    torch.manual_seed(0)
    layer = Transformer(64, 1, 2, init="xavier").blocks[0]
    for linear, bound in (
        (layer.attention.query, (6 / (64 + 3 * 64)) ** 0.5),
        (layer.attention.key, (6 / (64 + 3 * 64)) ** 0.5),
        (layer.attention.value, (6 / (64 + 3 * 64)) ** 0.5),
        (layer.attention.out, (6 / 128) ** 0.5),
        (layer.up, (6 / 320) ** 0.5),
        (layer.down, (6 / 320) ** 0.5),
    ):
        assert 0.98 * bound < float(linear.weight.abs().max()) <= bound
        assert float(linear.weight.std()) == pytest.approx(bound / 3**0.5, rel=0.03)
        assert not linear.bias.any()
