"""Residual networks against torchvision's, with its weights copied."""

import copies
import pytest
import torch
import torchvision

from sslzoo.encoders.resnet import ResNet
from sslzoo.errors import ConfigError

NETS = {
    "resnet18": (torchvision.models.resnet18, {"depths": [2, 2, 2, 2], "bottleneck": False}),
    "resnet50": (torchvision.models.resnet50, {"depths": [3, 4, 6, 3], "bottleneck": True}),
}


@pytest.mark.parametrize("name", NETS)
def test_is_torchvisions(name):
    """In train mode, running statistics included, and then in eval mode, which reads them. In float64: batch
    norm over few values makes much of float32's rounding, which the memory format changes."""
    make, shape = NETS[name]
    torch.manual_seed(0)
    theirs = make(weights=None)
    theirs.fc = torch.nn.Identity()
    ours = ResNet(**shape, stem=[7, 2], pool=True, mean=[0.0] * 3, std=[1.0] * 3)
    copies.resnet(ours, theirs)
    ours, theirs = ours.double(), theirs.double()
    images, ones = torch.rand(4, 3, 64, 64, dtype=torch.float64), torch.ones(4, dtype=torch.long)
    with torch.no_grad():
        for mode in (True, False):
            a, b = ours.train(mode)(images, ones).pooled, theirs.train(mode)(images)
            torch.testing.assert_close(a, b, atol=1e-8, rtol=0)

    def statistics(net):
        return [b for n, b in net.named_buffers() if n.endswith(("running_mean", "running_var"))]

    mine = statistics(ours)
    # downsampling comes last in torchvision's blocks, as the shortcut in ours
    for a, b in zip(mine, statistics(theirs), strict=True):
        torch.testing.assert_close(a, b, atol=1e-8, rtol=0)
    assert any(float(b.abs().max()) > 0 for b in mine[::2])


def test_small_images_keep_their_pixels():
    """The small stem neither strides nor pools (SimCLR, appendix B.9): 32 pixels end as 4 x 4."""
    net, seen = ResNet([1, 1, 1, 1], width=4), []
    net.blocks[-1].register_forward_hook(lambda m, args, out: seen.append(out.shape))
    encoded = net(torch.randint(0, 256, (2, 3, 32, 32), dtype=torch.uint8), torch.ones(2, dtype=torch.long))
    assert seen == [(2, 32, 4, 4)] and net.stride == 8 and net.dim == 32
    assert encoded.pooled.shape == (2, 32) and encoded.last.shape == (2, 1, 32) and encoded.lengths.tolist() == [1, 1]


def test_bytes_and_floats_are_one_image():
    net = ResNet([1], width=4).eval()
    images, ones = torch.randint(0, 256, (2, 3, 8, 8), dtype=torch.uint8), torch.ones(2, dtype=torch.long)
    with torch.no_grad():
        torch.testing.assert_close(net(images, ones).pooled, net(images.float() / 255, ones).pooled)


@pytest.mark.parametrize("bad", [{"depths": []}, {"depths": [1, 0]}, {"width": 0}])
def test_refuses_no_layers(bad):
    with pytest.raises(ConfigError, match="at least 1"):
        ResNet(**bad)


def test_no_convolution_of_one_pixel_strides():
    """oneDNN's writes past its buffer where channels are fewer than a vector's (uxlfoundation/oneDNN#6035)."""
    net = ResNet([1, 2, 1], width=8, bottleneck=True)
    convs = [m for m in net.modules() if isinstance(m, torch.nn.Conv2d) and m.kernel_size == (1, 1)]
    assert len(convs) > 6 and all(m.stride == (1, 1) for m in convs)
