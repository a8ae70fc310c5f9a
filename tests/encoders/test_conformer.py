"""The Conformer against torchaudio with copied weights, and its padding."""

import pytest
import torch
import torchaudio
from conftest import compose
from torch import nn

from sslzoo.build import make
from sslzoo.encoders.conformer import Conformer
from sslzoo.encoders.rotary import RotaryPosition
from sslzoo.errors import ConfigError


def pair():
    """Ours, and torchaudio's with the same weights, random in every part."""
    torch.manual_seed(0)
    theirs = torchaudio.models.Conformer(
        input_dim=16, num_heads=2, ffn_dim=24, num_layers=2, depthwise_conv_kernel_size=5
    )
    ours = Conformer(16, 2, 2, hidden=24, kernel=5)
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.1 * torch.randn_like(p))
        for block, layer in zip(ours.blocks, theirs.conformer_layers, strict=True):
            for mine, other in ((block.first, layer.ffn1), (block.last, layer.ffn2)):
                norm, up, _, _, down, _ = other.sequential
                for a, b in ((mine.norm, norm), (mine.up, up), (mine.down, down)):
                    a.load_state_dict(b.state_dict())
            parts = zip(layer.self_attn.in_proj_weight.chunk(3), layer.self_attn.in_proj_bias.chunk(3), strict=True)
            names = (block.attention.query, block.attention.key, block.attention.value)
            for mine, (weight, bias) in zip(names, parts, strict=True):
                mine.load_state_dict({"weight": weight, "bias": bias})
            block.attention.out.load_state_dict(layer.self_attn.out_proj.state_dict())
            block.attention_norm.load_state_dict(layer.self_attn_layer_norm.state_dict())
            conv, module = block.convolution, layer.conv_module
            conv.norm.load_state_dict(module.layer_norm.state_dict())
            gate, _, depthwise, norm, _, out, _ = module.sequential
            conv.gate.load_state_dict({"weight": gate.weight[..., 0], "bias": gate.bias})
            conv.out.load_state_dict({"weight": out.weight[..., 0], "bias": out.bias})
            conv.depthwise.load_state_dict(depthwise.state_dict())
            norm.running_mean.normal_(), norm.running_var.uniform_(0.5, 2)
            conv.batch_norm.load_state_dict(norm.state_dict())
            block.norm.load_state_dict(layer.final_layer_norm.state_dict())
    return ours, theirs


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluating"])
def test_layers_are_torchaudios(mode):
    ours, theirs = (net.train(mode) for net in pair())
    x = torch.randn(3, 11, 16, generator=torch.Generator().manual_seed(0))
    lengths, expected, y = torch.full((3,), 11), [x], x.transpose(0, 1)
    for layer in theirs.conformer_layers:
        y = layer(y, None)
        expected.append(y.transpose(0, 1))
    found = ours(x, lengths)
    for mine, other in zip(found, expected, strict=True):
        torch.testing.assert_close(mine, other, atol=1e-5, rtol=1e-5)
    found[-1].square().sum().backward(), expected[-1].square().sum().backward()
    mine, other = ours.blocks[0], theirs.conformer_layers[0]
    for a, b in (
        (mine.first.up, other.ffn1.sequential[1]),
        (mine.convolution.depthwise, other.conv_module.sequential[2]),
    ):
        close = 2e-5 * float(b.weight.grad.abs().max())
        torch.testing.assert_close(a.weight.grad, b.weight.grad, atol=close, rtol=1e-4)


@pytest.mark.parametrize("mode", [True, False], ids=["training", "evaluating"])
@pytest.mark.parametrize("position", [None, RotaryPosition()], ids=["none", "rotary"])
def test_padding_changes_nothing(mode, position):
    """Neither through attention, nor the convolution, nor the statistics of the batch norm."""
    lengths = torch.tensor([11, 4, 7])
    x = torch.randn(3, 11, 16, generator=torch.Generator().manual_seed(0))
    found = []
    for fill, more in ((0.0, 0), (9.0, 5)):
        torch.manual_seed(0)
        net = Conformer(16, 2, 2, kernel=5, position=position).train(mode)
        padded = nn.functional.pad(x, (0, 0, 0, more)).clone()
        for row, length in enumerate(lengths.tolist()):
            padded[row, length:] = fill
        last = net(padded, lengths)[-1]
        found.append(torch.cat([last[row, :length] for row, length in enumerate(lengths.tolist())]))
        found.append(net.blocks[1].convolution.batch_norm.running_var.clone())
    torch.testing.assert_close(found[0], found[2], atol=1e-5, rtol=0)
    torch.testing.assert_close(found[1], found[3])


def test_it_is_a_trunk_for_speech():
    node = compose("objective=mockingjay", "data=tiny_speech", "encoder=conformer_small")["encoder"]
    net = make(node)
    encoded = net(torch.randn(2, 4000), torch.tensor([4000, 2500]))
    assert {"tokens", "frames"} <= net.offers and "causal" not in net.offers
    assert len(encoded.hidden) == net.depth + 1 and encoded.pooled.shape == (2, net.dim)


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dim": 15}, "cannot be split over heads"), ({"kernel": 32}, "kernel must be odd"),
     ({"dim": 12, "position": RotaryPosition()}, "turn features in pairs")],
)  # fmt: skip
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        Conformer(**{"heads": 4, **settings})
