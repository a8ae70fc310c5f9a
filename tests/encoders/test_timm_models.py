"""timm's models as encoders that train, against timm itself."""

import pytest
import torch
from conftest import compose, tiny
from test_contracts import batch_of, gradients, ready

from sslzoo.build import make
from sslzoo.encoders.timm_models import Timm, TimmTransformer
from sslzoo.errors import ConfigError
from sslzoo.nn.batchnorm import BatchNorm2d

timm = pytest.importorskip("timm")
VIT = "vit_tiny_patch16_224"


def images(size: int = 32) -> torch.Tensor:
    return torch.rand(2, 3, size, size, generator=torch.Generator().manual_seed(0))


def standardized(x: torch.Tensor) -> torch.Tensor:
    return (x - 0.5) / 0.25


@pytest.mark.parametrize(
    ("model", "size"),
    [("test_resnet", None), ("test_convnext", None), ("test_efficientnet", None), ("swin_s3_tiny_224", 224)],
)
@torch.no_grad()
def test_pooled_is_timms(model, size):
    torch.manual_seed(0)
    net = Timm(model, size).eval()
    torch.manual_seed(0)
    theirs = timm.create_model(model, num_classes=0, **({"img_size": size} if size else {})).eval()
    x = images(size or 64)
    found = net(x, torch.ones(2).long())
    torch.testing.assert_close(found.pooled, theirs(standardized(x)), atol=1e-5, rtol=1e-5)
    assert len(found.hidden) == net.depth + 1 and all(h.shape == (2, 1, net.dim) for h in found.hidden)
    first = theirs.forward_intermediates(standardized(x), output_fmt="NCHW")[1][0].mean((2, 3))
    torch.testing.assert_close(found.hidden[0][:, 0, : first.shape[1]], first, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("pool", ["first", "mean"])
@torch.no_grad()
def test_a_transformers_stages_are_timms(pool):
    torch.manual_seed(0)
    net = TimmTransformer(VIT, 32, 4, pool).eval()
    torch.manual_seed(0)
    theirs = timm.create_model(VIT, num_classes=0, img_size=32, patch_size=4).eval()
    found, expected = net(images(), torch.ones(2).long()), theirs.forward_features(standardized(images()))
    torch.testing.assert_close(found.last, expected, atol=1e-5, rtol=1e-5)
    torch.testing.assert_close(
        found.pooled, expected[:, 0] if pool == "first" else expected[:, 1:].mean(1), atol=1e-5, rtol=0
    )
    between = theirs.forward_intermediates(standardized(images()), indices=[3], output_fmt="NLC", norm=False)[1][0]
    torch.testing.assert_close(found.hidden[4][:, 1:], between, atol=1e-5, rtol=1e-5)
    features, _ = net.features(images(), torch.ones(2).long())
    torch.testing.assert_close(net.images(features), images(), atol=1e-5, rtol=0)


@torch.no_grad()
def test_padding_changes_no_valid_token():
    torch.manual_seed(0)
    net = TimmTransformer(VIT, 32, 8).eval()
    tokens, _ = net.embed(images(), torch.ones(2).long())
    lengths = torch.tensor([17, 9])
    together, alone = net.contextualize(tokens, lengths), net.contextualize(tokens[1:, :9], lengths[1:])
    torch.testing.assert_close(together.last[1, :9], alone.last[0], atol=1e-5, rtol=0)
    torch.testing.assert_close(together.pooled[1], alone.pooled[0], atol=1e-5, rtol=0)


@pytest.mark.parametrize("objective", ["mae", "simmim", "ijepa"])
def test_objectives_of_patches_take_it(objective):
    config = tiny(objective)
    config["encoder"] = {
        "_target_": "sslzoo.encoders.timm_models.TimmTransformer", "model": "test_vit", "size": 16, "patch": 4,
        "channels": 3, "mean": [0.5], "std": [0.25],
    }  # fmt: skip
    job = ready(config)
    logs, grads = gradients(job, batch_of(job, 0))
    assert logs["loss"] == logs["loss"]
    assert any(bool(g.abs().sum() > 0) for n, g in grads.items() if g is not None and n.startswith("encoder."))


def test_batch_norms_are_of_the_global_batch():
    net = Timm("test_resnet")
    norms = [m for m in net.modules() if isinstance(m, torch.nn.BatchNorm2d)]
    assert norms and all(isinstance(m, BatchNorm2d) for m in norms)


def test_what_timm_lacks_is_said():
    with pytest.raises(ConfigError, match="timm has no model 'resnet19' — did you mean 'resnet"):
        Timm("resnet19")
    with pytest.raises(ConfigError, match="no plain vision transformer"):
        TimmTransformer("swin_s3_tiny_224", 224)
    with pytest.raises(ConfigError, match="patch=4 does not divide the image size 30"):
        TimmTransformer(VIT, 30, 4)


def test_without_timm_one_line_says_what_to_install(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "timm", None)
    with pytest.raises(ConfigError, match=r"pip install 'sslzoo\[timm\]'"):
        Timm("resnet18")


def test_the_configs_are_of_small_models():
    for name in ("timm_resnet", "timm_vit"):
        node = compose("objective=rotation", "data=tiny_image", f"encoder={name}")["encoder"]
        with torch.device("meta"):
            assert sum(p.numel() for p in make(node).parameters()) < 8e6
