"""ConvNeXt against torchvision with copied weights, stage by stage; and registers, which hold no patch."""

import pytest
import torch
from conftest import compose
from torchvision.models import convnext

from sslzoo.build import make
from sslzoo.encoders.convnext import ConvNeXt
from sslzoo.errors import ConfigError


def pair():
    """Ours, and torchvision's with the same weights, random in every part."""
    torch.manual_seed(0)
    blocks = [convnext.CNBlockConfig(8, 12, 1), convnext.CNBlockConfig(12, 20, 2), convnext.CNBlockConfig(20, None, 1)]
    theirs = convnext.ConvNeXt(blocks, layer_scale=1.0, num_classes=3).eval()
    ours = ConvNeXt([1, 2, 1], [8, 12, 20], mean=[0.0] * 3, std=[1.0] * 3).eval()
    with torch.no_grad():
        for p in theirs.parameters():
            p.add_(0.1 * torch.randn_like(p))
        features = theirs.features  # stem, stage, downsampling, stage, downsampling, stage
        ours.stem.load_state_dict(features[0].state_dict())
        stages = [cn for stage in (1, 3, 5) for cn in features[stage]]
        for block, cn in zip(ours.blocks, stages, strict=True):
            depthwise, _, norm, up, _, down, _ = cn.block
            for mine, other in ((block.depthwise, depthwise), (block.norm, norm), (block.up, up), (block.down, down)):
                mine.load_state_dict(other.state_dict())
            block.scale.copy_(cn.layer_scale[:, 0, 0])
        ours.blocks[1].downsample.load_state_dict(features[2].state_dict())
        ours.blocks[3].downsample.load_state_dict(features[4].state_dict())
        ours.norm.load_state_dict(theirs.classifier[0].state_dict())
    return ours, theirs


@torch.no_grad()
def test_every_stage_is_torchvisions():
    ours, theirs = pair()
    images = torch.rand(3, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    found, x, expected = ours(images, torch.ones(3).long()), images, []
    for number, part in enumerate(theirs.features):
        x = part(x)
        if number in (0, 1, 3, 5):
            expected.append(x.mean((2, 3)))
    pooled = theirs.classifier[:2](theirs.avgpool(x))
    assert len(found.hidden) == ours.depth + 1 == 4
    for mine, other in zip(found.hidden[:-1], expected[:-1], strict=True):
        torch.testing.assert_close(mine[:, 0, : other.shape[1]], other, atol=1e-5, rtol=0)
        assert not mine[:, 0, other.shape[1] :].any(), "zeros for channels that the stage lacks"
    torch.testing.assert_close(found.pooled, pooled, atol=1e-5, rtol=0)
    assert torch.equal(found.last[:, 0], found.pooled)


def test_gradients_are_torchvisions():
    ours, theirs = pair()
    images = torch.rand(2, 3, 32, 32, generator=torch.Generator().manual_seed(1))
    ours(images, torch.ones(2).long()).pooled.square().sum().backward()
    theirs.classifier[:2](theirs.avgpool(theirs.features(images))).square().sum().backward()
    for mine, other in ((ours.stem, theirs.features[0]), (ours.blocks[1].downsample, theirs.features[2])):
        for a, b in zip(mine.parameters(), other.parameters(), strict=True):
            torch.testing.assert_close(a.grad, b.grad, atol=1e-5 * float(b.grad.abs().max()), rtol=1e-4)


def test_convnext_t_has_its_weights():
    """28 589 128 with a head of 769 000 (the paper's 29 M)."""
    with torch.device("meta"):
        made = make(compose("data=cifar10", "data.path=x", "encoder=convnext_tiny")["encoder"])
    assert sum(p.numel() for p in made.parameters()) == 28_589_128 - 769_000


@pytest.mark.parametrize(
    ("settings", "message"),
    [({"dims": [8, 8], "depths": [1, 1]}, "dims that grow"), ({"dims": [8], "depths": [1, 1]}, "as many dims")],
)
def test_what_does_not_fit_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        ConvNeXt(**settings)


def test_images_smaller_than_the_stride_are_refused():
    with pytest.raises(ConfigError, match="smaller than the stride 32"):
        ConvNeXt([1, 1, 1, 1], [8, 9, 10, 11])(torch.rand(1, 3, 16, 16), torch.ones(1).long())


@torch.no_grad()
def test_registers_are_no_patches():
    """They come after the class token, have no position, and are in no mean of patches."""
    words = ["objective=rotation", "data=tiny_image", "encoder=tiny_image"]
    node = compose(*words)["encoder"]
    node["frontend"]["registers"], node["pool"] = 3, "mean"
    net = make(node).eval()
    images = torch.rand(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    tokens, lengths = net.embed(images, torch.ones(2).long())
    assert net.prefix == 4 and lengths.tolist() == [20, 20]
    for row in tokens:
        assert torch.equal(row[1:4], net.frontend.register_tokens)
    encoded = net(images, torch.ones(2).long())
    torch.testing.assert_close(encoded.pooled, encoded.last[:, 4:].mean(1))
    net.frontend.register_tokens.zero_()
    assert not torch.allclose(net(images, torch.ones(2).long()).pooled, encoded.pooled), "but they are attended to"
