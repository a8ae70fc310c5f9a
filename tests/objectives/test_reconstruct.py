"""Mockingjay and TERA: what is altered, what counts, and the loss against a slow loop."""

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of

from sslzoo import rng
from sslzoo.augment.masking import FrameChannelCorruption, FrameCorruption
from sslzoo.build import build
from sslzoo.errors import ConfigError


def many(rows: int, size: int, channels: int = 20):
    seeds = torch.tensor([rng.derive_seed(11, i) for i in range(rows)])
    return seeds, rng.normal(seeds, "frames", size, channels) + 3, torch.full((rows,), size)


def test_mockingjay_alters_about_fifteen_percent_in_spans_of_seven():
    seeds, frames, lengths = many(600, 200)
    altered, counts = FrameCorruption()(seeds, frames, lengths)
    masked = counts[..., 0]
    assert torch.equal(counts, masked[..., None].expand_as(counts))
    # spans overlap now and then, so a little less than prob
    assert 0.12 < masked.float().mean() < 0.15
    starts = masked & ~torch.nn.functional.pad(masked, (1, 0))[:, :-1]
    assert int(masked.sum()) >= 7 * int(starts.sum())
    assert torch.equal(altered[~counts], frames[~counts])


def test_the_fate_is_rolled_once_an_utterance():
    seeds, frames, lengths = many(2000, 60)
    altered, counts = FrameCorruption()(seeds, frames, lengths)
    kinds = []
    for x, y, m in zip(frames, altered, counts[..., 0], strict=True):
        zero, same = (y[m] == 0).all(1), (y[m] == x[m]).all(1)
        kind = "zero" if zero.all() else "same" if same.all() else "random"
        if kind == "random":  # each comes from the utterance
            assert not zero.any() and all((frame == x).all(1).any() for frame in y[m])
        kinds.append(kind)
    shares = {kind: kinds.count(kind) / len(kinds) for kind in ("zero", "random", "same")}
    assert shares["zero"] == pytest.approx(0.8, abs=0.03)
    assert shares["random"] == pytest.approx(0.1, abs=0.02)
    assert shares["same"] == pytest.approx(0.1, abs=0.02)


def test_padding_is_never_altered_from_nor_counted():
    seeds, frames, _ = many(300, 80)
    lengths = torch.full((300,), 50)
    frames[:, 50:] = 99.0
    for corruption in (FrameCorruption(), FrameChannelCorruption(width=5)):
        altered, counts = corruption(seeds, frames, lengths)
        assert not counts[:, 50:].any()
        assert not (altered[:, :50] > 50).any()


def test_tera_zeroes_a_block_of_channels_throughout():
    seeds, frames, lengths = many(1500, 40)
    altered, counts = FrameChannelCorruption(width=6, noisy=0.0)(seeds, frames, lengths)
    block = (altered == 0).all(1)
    widths = block.sum(1)
    assert set(widths.tolist()) == set(range(7))
    assert widths.float().mean() == pytest.approx(3.0, abs=0.2)
    edges = (block[:, 1:] != block[:, :-1]).sum(1) + block[:, 0].long() + block[:, -1].long()
    assert (edges[widths > 0] == 2).all()  # in one piece
    assert counts.transpose(1, 2)[block].all()


def test_tera_is_noisy_now_and_then_and_then_everything_counts():
    seeds, frames, lengths = many(1500, 40)
    altered, counts = FrameChannelCorruption(width=0, noisy=0.1, noise=0.2, zero=0.0, random=0.0)(
        seeds, frames, lengths
    )
    noisy = counts.all(2).all(1)
    assert noisy.float().mean() == pytest.approx(0.1, abs=0.03)
    assert (altered - frames)[noisy].std() == pytest.approx(0.2, abs=0.01)
    assert torch.equal(altered[~noisy], frames[~noisy])


@pytest.mark.parametrize("name", ["mockingjay", "tera"])
def test_the_loss_is_the_slow_loop(name):
    job = build(tiny(name))
    batch = batch_of(job, 0)
    frames, _, rebuilt, counts = job.objective.rebuild(job.encoder, batch)
    total, count = 0.0, 0
    for b in range(len(frames)):
        for t in range(frames.shape[1]):
            for c in counts[b, t].nonzero()[:, 0].tolist():
                total, count = total + (rebuilt[b, t, c].double() - frames[b, t, c].double()).abs(), count + 1
    loss = job.objective(job.encoder, batch, 0)
    assert float(loss.value) == pytest.approx(float(total) / count, abs=1e-5)
    assert int(loss.count) == count
    weights = [*job.encoder.trunk.parameters(), *job.objective.head.parameters()]
    for ours, slow in zip(*(torch.autograd.grad(x, weights) for x in (loss.value, total / count)), strict=True):
        torch.testing.assert_close(ours, slow, atol=2e-6, rtol=2e-3)


def test_a_block_wider_than_a_frame_is_refused_before_any_data():
    said = "objective.corruption.width=21 is more than the 20 channels there are: set objective.corruption.width=20 or less"
    with pytest.raises(ConfigError, match=said):
        build(tiny("tera", "objective.corruption.width=21"))
    assert build(tiny("tera", "objective.corruption.width=20"))


def test_a_waveform_encoder_is_refused():
    with pytest.raises(ConfigError, match="needs an encoder with log-mel frames; these fit: encoder=.*logmel_small"):
        build(tiny("mockingjay", "encoder=tiny_wave"))
