"""Layers of a pretrained encoder that share one block's weights from then on."""

from typing import Literal

import torch
from torch import nn

from sslzoo.adapt.methods import Method, transformer_of
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError


class LayerSharing(Method):
    """Neighbouring layers share one block, and everything learns. The layers are cut into `groups` of equal size, or
    nearly so, as ALBERT's hidden groups are (Lan et al. 2020, 1909.11942, section 3.1), and each block is stored once:
    12 layers in 3 groups have a quarter of the blocks' weights, and take as long as before.

    ALBERT is pretrained so, and this encoder was not: its shared blocks start as "Average" or, from layers at equal
    intervals, "Stepwise" of Bae et al. 2024 (2410.20672), who make loops of pretrained layers. Until it has learned the
    task, it is another encoder than the pretrained one: expect less of it than of method=full,
    the more the fewer groups.

    groups: the number of blocks that are left; the depth for the encoder as it was. start: a group's block begins as
    the "mean" of its layers' weights, or as its "first" layer's.
    """

    def __init__(self, groups: int = 3, start: Literal["mean", "first"] = "mean"):
        self.groups, self.start = groups, start

    def __call__(self, encoder: Encoder) -> Encoder:
        trunk = transformer_of(encoder, "Layer sharing")
        own, depth = len(trunk.blocks), trunk.depth
        if self.groups > own:
            raise ConfigError(
                f"method.groups={self.groups} is more than the {own} blocks of this encoder: choose {own} or less"
            )
        groups: list[list[nn.Module]] = [[] for _ in range(self.groups)]
        for number in range(depth):
            groups[number * self.groups // depth].append(trunk.blocks[number * own // depth])
        trunk.blocks = nn.ModuleList(self.shared(members) for members in groups)
        return encoder.train()

    @torch.no_grad()
    def shared(self, members: list[nn.Module]) -> nn.Module:
        """The block of a group of layers: the first one, with its weights or their mean."""
        first = members[0]
        named = [dict(block.named_parameters()) for block in members]
        if any(one.keys() != named[0].keys() for one in named):
            raise ConfigError(
                "the first block of this encoder does not normalise its input (encoder.trunk.input_norm=false), so that "
                "it can share with no other: choose another method"
            )
        for name, parameter in named[0].items() if self.start == "mean" else ():
            parameter.copy_(torch.stack([one[name] for one in named]).mean(0))
        return first
