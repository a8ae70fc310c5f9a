"""MAE against transformers with copied weights and the same patches kept, and against a slow loop."""

import sys
from pathlib import Path

import pytest
import torch
from conftest import compose, tiny

from sslzoo import rng
from sslzoo.build import build
from sslzoo.data.base import Batch
from sslzoo.encoders.image import Patches, patchify
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.transformer import SinePosition, Transformer
from sslzoo.errors import ConfigError
from sslzoo.nn.images import to_float
from sslzoo.objectives.mae import MAE

sys.path.insert(0, str(Path(__file__).parents[1] / "encoders"))
import copies

MEAN, STD = [0.4, 0.5, 0.6], [0.2, 0.25, 0.3]


class Images:
    modality, size, channels = "image", 16, 3


def job(standardize: bool):
    torch.manual_seed(0)
    encoder = SequenceEncoder(
        Patches(32, 16, 4, 3, MEAN, STD, position="learned"), Transformer(32, 2, 2, hidden=64, eps=1e-12), pool="first"
    )
    decoder = Transformer(16, 1, 2, hidden=64, eps=1e-12)
    return encoder, MAE(encoder, Images(), decoder, ratio=0.75, standardize=standardize)


def batch() -> Batch:
    images = torch.randint(0, 256, (3, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    seeds = torch.tensor([rng.derive_seed(7, i) for i in range(3)])
    return Batch(images, torch.ones(3, dtype=torch.long), seeds, torch.arange(3))


@pytest.mark.parametrize("standardize", [True, False])
def test_loss_and_pixels_are_those_of_transformers(standardize):
    transformers = pytest.importorskip("transformers")
    config = transformers.ViTMAEConfig(
        hidden_size=32, num_hidden_layers=2, num_attention_heads=2, intermediate_size=64, image_size=16, patch_size=4,
        decoder_hidden_size=16, decoder_num_hidden_layers=1, decoder_num_attention_heads=2, decoder_intermediate_size=64,
        norm_pix_loss=standardize, mask_ratio=0.75,
    )  # fmt: skip
    theirs = copies.shaken(transformers.ViTMAEForPreTraining(config)).eval()
    encoder, objective = job(standardize)
    with torch.no_grad():
        copies.vit_model(encoder, theirs.vit)
        copies.take(objective.decoder_embed, theirs.decoder.decoder_embed)
        copies.take(objective.decoder_pred, theirs.decoder.decoder_pred)
        copies.take(objective.decoder.norm, theirs.decoder.decoder_norm)
        objective.mask_token.copy_(theirs.decoder.mask_token[0, 0])
        objective.decoder_pos_embed.copy_(theirs.decoder.decoder_pos_embed[0])
        copies.vit_layers(objective.decoder.blocks, theirs.decoder.decoder_layers)
    given = batch()
    prepared = (to_float(given.inputs) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    noise = rng.uniform(given.row_seeds, "mask", 16)
    expected = theirs(prepared, noise=noise)
    _, rebuilt, masked = objective.rebuild(encoder, given)
    assert torch.equal(masked, expected.mask.bool())
    torch.testing.assert_close(rebuilt, expected.logits, atol=1e-5, rtol=0)
    loss = objective(encoder, given, 0)
    torch.testing.assert_close(loss.value, expected.loss, atol=1e-5, rtol=0)
    loss.value.backward()
    expected.loss.backward()
    ours = encoder.trunk.blocks[0].up.weight.grad
    torch.testing.assert_close(ours, theirs.vit.layers[0].mlp.fc1.weight.grad, atol=1e-5, rtol=0)


def test_the_encoder_sees_the_kept_patches_alone(monkeypatch):
    encoder, objective = job(True)
    visible = []
    whole = encoder.contextualize
    monkeypatch.setattr(
        encoder, "contextualize", lambda tokens, *more, **named: visible.append(tokens) or whole(tokens, *more, **named)
    )
    given = batch()
    _, _, masked = objective.rebuild(encoder, given)
    assert visible[0].shape[1] == 1 + 4 and (masked.sum(1) == 12).all()
    # what a masked patch holds reaches the loss's target, never the encoder
    grid = masked.view(3, 1, 4, 4).repeat_interleave(4, 2).repeat_interleave(4, 3)
    given.inputs = torch.where(grid, 255 - given.inputs, given.inputs)
    objective.rebuild(encoder, given)
    assert torch.equal(visible[0], visible[1])


def test_loss_is_the_slow_loop():
    encoder, objective = job(True)
    given = batch()
    features, rebuilt, masked = objective.rebuild(encoder, given)
    total, count = 0.0, 0
    for image, made, hidden in zip(features.double(), rebuilt.double(), masked, strict=True):
        for patch, guess, out in zip(image, made, hidden, strict=True):
            if out:
                target = (patch - patch.mean()) / (patch.var() + 1e-6).sqrt()
                total, count = total + float((guess - target).square().mean()), count + 1
    loss = objective(encoder, given, 0)
    assert float(loss.value) == pytest.approx(total / count, abs=1e-5) and loss.count == count


def test_loss_is_lightlys():
    """Their parts as their own MAE puts them together: patches of whole images, standardised, the masked ones' MSE."""
    lightly = pytest.importorskip("lightly.models.utils")
    encoder, objective = job(True)
    given = batch()
    _, rebuilt, masked = objective.rebuild(encoder, given)
    prepared = (to_float(given.inputs) - torch.tensor(MEAN).view(3, 1, 1)) / torch.tensor(STD).view(3, 1, 1)
    where = masked.nonzero()[:, 1].view(3, 12)
    target = lightly.normalize_mean_var(lightly.get_at_index(lightly.patchify(prepared, 4), where))
    theirs = torch.nn.MSELoss()(lightly.get_at_index(rebuilt, where), target)
    torch.testing.assert_close(objective(encoder, given, 0).value, theirs, atol=1e-5, rtol=0)


def test_images_undoes_features():
    encoder, _ = job(True)
    given = batch()
    features, _ = encoder.features(given.inputs, given.lengths)
    torch.testing.assert_close(encoder.frontend.images(features), to_float(given.inputs), atol=1e-5, rtol=0)
    assert features.shape == patchify(to_float(given.inputs), 4).shape


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["objective.ratio=1.0"], "leaves 0 of 16 patches"),
        (
            ["encoder=tiny_resnet"],
            "needs an encoder with patches and tokens; these fit: encoder=timm_vit, vit_base, vit_registers_small, vit_small",
        ),
        (["encoder.frontend.patch=5"], "patch=5 does not divide the image size 16; the nearest that does is 4"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build(tiny("mae", *overrides))


def test_a_decoder_that_places_its_tokens_is_refused():
    encoder, _ = job(True)
    decoder = Transformer(16, 1, 2, position=SinePosition(16))
    with pytest.raises(ConfigError, match="objective.decoder.position must be null"):
        MAE(encoder, Images(), decoder)


def test_views_are_what_is_masked_and_rebuilt():
    views = "{_target_: sslzoo.augment.image_views.ImageViews, scale: [0.2, 0.9], jitter: 0, gray: 0, blur: 0}"
    config = tiny("mae", f"objective.views={views}")
    job, plain = build(config), build(tiny("mae"))
    images = torch.randint(0, 256, (4, 3, 16, 16), dtype=torch.uint8, generator=torch.Generator().manual_seed(5))
    given = Batch(
        images, torch.ones(4).long(), torch.tensor([rng.derive_seed(7, i) for i in range(4)]), torch.arange(4)
    )
    features, _, masked = job.objective.rebuild(job.encoder, given)
    expected, _ = job.encoder.features(job.objective.views(images, given.row_seeds, "view"), given.lengths)
    torch.testing.assert_close(features, expected)
    whole, _, same = plain.objective.rebuild(plain.encoder, given)
    assert torch.equal(masked, same) and not torch.allclose(features, whole, atol=0.1)


def test_the_decoder_of_the_papers_recipe_is_the_references():
    decoder = compose("recipe=imagenet_mae", "data.path=somewhere")["objective"]["decoder"]
    assert (decoder["dim"], decoder["depth"], decoder["heads"]) == (512, 8, 16)
