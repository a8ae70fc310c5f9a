"""Image GPT: the palette, what each prediction has seen, and the loss and its gradient against a slow loop in
float64."""

import copy

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of, train

from sslzoo.build import build, load_encoder
from sslzoo.errors import ConfigError, UserError


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    return train(tiny("igpt", "trainer.max_steps=3"), tmp_path_factory.mktemp("igpt") / "run")


def test_the_palette_is_the_clusters_of_the_training_sets_colours(run):
    encoder, data = load_encoder(run)
    front, split = encoder.frontend, data.split("train")
    assert front.fitted
    pixels = torch.cat([front.pixels(split.read(i)[None])[0] for i in range(len(split))])
    near = torch.cdist(pixels, front.palette).min(1)
    for color in range(6):  # each is the mean of its pixels, within Lloyd's last step
        own = pixels[near.indices == color]
        assert len(own) and (own.mean(0) - front.palette[color]).abs().max() < 0.03
    untrained = build(tiny("igpt")).encoder.frontend
    assert near.values.square().mean() < 0.7 * torch.cdist(pixels, untrained.palette).min(1).values.square().mean()


def test_an_encoder_that_has_its_palette_keeps_it(run):
    """As one that another run begins with: its embeddings are of those colours."""
    first, job = load_encoder(run)[0], build(tiny("igpt", "seed=5"))
    job.encoder.load_state_dict(first.state_dict())
    job.encoder.fit(job.data.split("train"), 5)
    assert torch.equal(job.encoder.frontend.palette, first.frontend.palette)


def test_a_pixel_is_its_nearest_colour():
    front = build(tiny("igpt")).encoder.frontend
    images = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    found, _ = front.features(images, torch.ones(2).long())
    for image, named in zip(images, found.view(2, 8, 8), strict=True):
        for row in range(8):
            for column in range(8):
                apart = [float((image[:, row, column] - color).square().sum()) for color in front.palette]
                assert int(named[row, column]) == min(range(6), key=apart.__getitem__)
    assert torch.equal(front.images(found)[0, :, 2, 5], front.palette[found[0, 2 * 8 + 5]])


def test_a_prediction_sees_what_came_before_alone():
    job = build(tiny("igpt"))
    batch = batch_of(job, 0)
    colors, before = job.objective.predict(job.encoder, batch)
    assert before.shape == (len(batch), 64, 6)
    whole = job.encoder.features
    changed = colors.clone()
    changed[:, 40] = (changed[:, 40] + 1) % 6
    job.encoder.features = lambda inputs, lengths: (changed, whole(inputs, lengths)[1])
    _, after = job.objective.predict(job.encoder, batch)
    torch.testing.assert_close(before[:, :41], after[:, :41])
    assert (before[:, 41:] - after[:, 41:]).abs().amax((0, 2)).min() > 0


def test_loss_and_gradient_are_the_slow_loop():
    """Pixel by pixel, each from a sequence that ends before it."""
    job = build(tiny("igpt"))
    encoder, objective, batch = job.encoder, job.objective, batch_of(job, 0)
    batch.inputs, batch.lengths = batch.inputs[:2], batch.lengths[:2]
    slow, head = copy.deepcopy(encoder).double(), copy.deepcopy(objective.head).double()
    front, total = slow.frontend, torch.zeros((), dtype=torch.float64)
    colors, _ = encoder.features(batch.inputs, batch.lengths)
    for image in colors:
        tokens = [front.start_token]
        for place, color in enumerate(image.tolist()):
            last = slow.contextualize(torch.stack(tokens)[None], torch.tensor([len(tokens)])).last[0, -1]
            total = total - head(last).log_softmax(0)[color]
            tokens.append(front.color_embedding.weight[color] + front.position_embedding[place])
    (total / colors.numel()).backward()
    loss = objective(encoder, batch, 0)
    loss.value.backward()
    assert loss.count == 128 and float(loss.value) == pytest.approx(float(total) / 128, rel=1e-5)
    for fast, exact in zip(
        [*encoder.parameters(), objective.head.weight], [*slow.parameters(), head.weight], strict=True
    ):
        torch.testing.assert_close(fast.grad.double(), exact.grad, atol=1e-5, rtol=1e-3)


def test_what_does_not_fit_is_refused():
    with pytest.raises(ConfigError, match=r"side=5 must divide the image size 16 \(one of \[1, 2, 4, 8, 16\]\)"):
        build(tiny("igpt", "encoder.frontend.side=5"))
    with pytest.raises(ConfigError, match="needs an encoder with a causal trunk and pixels as colours of a palette"):
        build(tiny("igpt", "encoder=tiny_image"))
    job = build(tiny("igpt", "encoder.frontend.colors=4000"))
    split = job.data.split("train")
    with pytest.raises(UserError, match="set fewer clusters.*encoder.frontend.colors=4000"):
        job.encoder.fit(type("Few", (), {"__len__": lambda s: 2, "read": lambda s, i: split.read(i)})(), 0)
