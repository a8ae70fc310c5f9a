"""What every encoder promises, checked over every conf/encoder/*.yaml and the tiny ones. Large
ones are narrowed, and keep their shape otherwise."""

from functools import cache

import pytest
import torch
import torch.nn.functional as F
from closeness import assert_sum_close
from conftest import TINY, compose
from omegaconf import OmegaConf
from torch.nn.utils.rnn import pad_sequence

from sslzoo.build import make
from sslzoo.config import CONF, choices
from sslzoo.data.base import CLS, SEP, SPECIALS
from sslzoo.encoders.base import Encoded
from sslzoo.errors import ConfigError

LARGE = 15e6  # weights
NAMES = sorted(p.stem for folder in (CONF, TINY) for p in (folder / "encoder").glob("*.yaml"))
KINDS = {
    "Waveform": "speech",
    "Spectrogram": "speech",
    "WordPieces": "text",
    "SpectrogramPatches": "speech",
    "Patches": "image",
    "Colors": "image",
    "ResNet": "image",
    "ConvNeXt": "image",
    "timm_models": "image",
}


def config(name: str) -> dict:
    """An encoder's node, composed with tiny data of its kind; images are large enough for a patch of 16."""
    own = TINY / "encoder" / f"{name}.yaml"
    node = OmegaConf.load(own) if own.exists() else choices("encoder", [name])[name]
    kind = next(KINDS[word] for word in KINDS if word in OmegaConf.to_yaml(node))
    size = ["data.size=32"] if kind == "image" else []
    return compose("objective=rotation", f"data=tiny_{kind}", f"encoder={name}", *size)["encoder"]


def weights(encoder) -> int:
    return sum(p.numel() for p in encoder.parameters())


@cache
def narrow(name: str) -> dict:
    """An encoder's node, with fewer channels and layers where it is large."""
    node = config(name)
    with torch.device("meta"):
        if weights(make(node)) <= LARGE:
            return node
    if "trunk" not in node:
        return node | ({"dims": [8, 12, 16, 20]} if "dims" in node else {"width": 8})
    node["trunk"] |= {"dim": 64, "depth": 2} | ({"heads": 4} if "heads" in node["trunk"] else {})
    node["frontend"]["dim"] = 64
    if "layers" in node["frontend"]:
        node["frontend"]["layers"] = [[32, kernel, stride] for _, kernel, stride in node["frontend"]["layers"]]
    if "dim" in (node["trunk"].get("position") or {}):
        node["trunk"]["position"]["dim"] = 64
    return node


@cache
def encoder(name: str):
    torch.manual_seed(0)
    made = make(narrow(name))
    with torch.no_grad():  # zero biases would hide a padding that a bias fills
        for p in made.parameters():
            if p.ndim == 1:
                p.add_(0.1 * torch.randn_like(p))
    return made.eval()


def items(modality: str) -> list[torch.Tensor]:
    """Items of unlike sizes; for speech, two shorter than a receptive field or window of 25 ms."""
    g = torch.Generator().manual_seed(0)
    if modality == "image":
        return [torch.randint(0, 256, (3, 32, 32), generator=g, dtype=torch.uint8) for _ in range(3)]
    if modality == "speech":
        return [0.1 * torch.randn(n, generator=g) + 0.02 for n in (8000, 1, 200, 3210, 5000)]
    made = []
    for n in (20, 1, 9, 14):
        words = torch.randint(SPECIALS, 60, (n,), generator=g)
        words[n // 2] = SEP
        made.append(torch.tensor([CLS, *words.tolist(), SEP]))
    return made


def batch_of(tensors, fill: float = 0, extra: int = 0):
    if tensors[0].ndim > 1:
        return torch.stack(tensors), torch.ones(len(tensors), dtype=torch.long)
    padded = pad_sequence(tensors, batch_first=True, padding_value=fill)
    return torch.nn.functional.pad(padded, (0, extra), value=fill), torch.tensor([len(x) for x in tensors])


def assert_close(a, b, what: str):
    """Within 1e-5 of the values' size: an untrained residual network's grow with its depth."""
    assert torch.isfinite(a).all(), what
    torch.testing.assert_close(a, b, atol=1e-5 * max(1.0, float(b.abs().max())), rtol=0, msg=lambda m: f"{what}: {m}")


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_padding_changes_nothing(name):
    """An item alone and in a padded batch agree at every valid token, whatever is behind its end."""
    net = encoder(name)
    tensors = items(net.modality)
    extra = {"speech": 1234, "text": 2, "image": 0}[net.modality]
    for fill in (0, 7):
        together = net(*batch_of(tensors, fill, extra))
        for row, tensor in enumerate(tensors):
            alone = net(*batch_of([tensor]))
            assert alone.lengths[0] == together.lengths[row] >= 1
            for number, (a, b) in enumerate(zip(alone.hidden, together.hidden, strict=True)):
                n = alone.lengths[0]
                assert_close(b[row, :n], a[0, :n], f"hidden[{number}] of item {row}")
            assert_close(together.pooled[row], alone.pooled[0], f"pooled of item {row}")
            assert alone.hidden[0].shape[1] == alone.lengths[0], "an item alone has no padding"


@pytest.mark.parametrize("name", NAMES)
@torch.no_grad()
def test_is_what_it_says(name):
    net = encoder(name)
    inputs, lengths = batch_of(items(net.modality))
    encoded = net(inputs, lengths)
    assert len(encoded.hidden) == net.depth + 1
    assert all(h.shape == (len(inputs), int(encoded.lengths.max()), net.dim) for h in encoded.hidden)
    if "tokens" not in net.offers:  # a vector a stage, if any
        assert int(encoded.lengths.max()) == 1
    assert encoded.pooled.shape == (len(inputs), net.dim) and encoded.last is encoded.hidden[-1]
    assert encoded.pooled.std(0).max() > 1e-3, "unlike items have unlike vectors"
    if "tokens" not in net.offers:
        return
    features, feature_lengths = net.features(inputs, lengths)
    if net.feature_dim:
        assert features.shape == (len(inputs), int(feature_lengths.max()), net.feature_dim)
        assert net.normalize(features).shape == features.shape
    assert torch.equal(feature_lengths + net.prefix, encoded.lengths)
    if net.modality == "image":
        assert feature_lengths.tolist() == [(32 // net.stride) ** 2] * len(inputs)
    else:  # the ends of an item may make a token less or more
        bands = getattr(net.frontend, "bands", 1)  # tokens at a time
        assert ((feature_lengths - lengths / net.stride).abs() <= 2.5 * bands).all()
    steps: Encoded = net.contextualize(*net.embed(inputs, lengths))
    assert all(torch.equal(a, b) for a, b in zip(steps.hidden, encoded.hidden, strict=True))
    assert torch.equal(steps.pooled, encoded.pooled) and torch.equal(steps.lengths, encoded.lengths)


@pytest.mark.parametrize("name", NAMES)
def test_weights_follow_from_the_seed_alone(name):
    """Made twice from one seed, every weight and buffer is the same: nothing is left unset."""

    def made():
        torch.manual_seed(5)
        return make(narrow(name)).state_dict()

    a, b = made(), made()
    assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert all(torch.isfinite(w).all() for w in a.values())


def test_a_front_end_and_a_trunk_of_unlike_width_are_refused():
    node = config("tiny_text")
    node["trunk"]["dim"] = 32
    with pytest.raises(ConfigError, match="16.*32.*equal"):
        make(node)


def test_a_patch_that_does_not_divide_the_image_is_refused():
    node = config("tiny_image")
    node["frontend"]["patch"] = 5
    with pytest.raises(ConfigError, match="patch=5 does not divide the image size 32; the nearest that does is 4"):
        make(node)


@pytest.mark.parametrize("position", ["sine", "learned"])
@torch.no_grad()
def test_a_piece_of_an_image_has_the_whole_images_positions_at_its_resolution(position):
    node = config("tiny_image")
    node["frontend"]["position"] = position
    net, [image, *_] = make(node).eval(), items("image")
    whole, piece = (net.embed(x[None], torch.ones(1).long()) for x in (image, image[:, :12, :12]))
    of_piece = [0] + [1 + 8 * row + column for row in range(3) for column in range(3)]
    assert piece[1].tolist() == [10]
    table = net.frontend.position_embedding
    placed = F.interpolate(table[1:].T.view(1, -1, 8, 8), (3, 3), mode="bicubic").flatten(2)[0].T
    found = piece[0] - torch.cat([table[:1], placed])
    assert_sum_close(found, (whole[0] - table)[:, of_piece], scale=1)  # products of another number of rows


@pytest.mark.parametrize("pool", ["mean", "first"])
@pytest.mark.parametrize("name", ["tiny_image", "tiny_text", "tiny_speech"])
@torch.no_grad()
def test_pooling(name, pool):
    """The mean of an item's own tokens, which a class token is none of, or its first token."""
    torch.manual_seed(0)
    net = make(config(name) | {"pool": pool}).eval()
    encoded = net(*batch_of(items(net.modality)))
    for row, length in enumerate(encoded.lengths.tolist()):
        last = encoded.last[row]
        expected = last[0] if pool == "first" else last[net.prefix : length].mean(0)
        torch.testing.assert_close(encoded.pooled[row], expected, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize("trunk", ["transformer_small", "transformer_small_causal", "transformer_base", "bert_small"])
def test_no_position_is_a_choice_of_a_trunk(trunk):
    words = ["data=tiny_speech", "encoder=logmel_small", f"encoder/trunk={trunk}", "encoder/trunk/position=none"]
    assert compose("objective=rotation", *words)["encoder"]["trunk"]["position"] is None
