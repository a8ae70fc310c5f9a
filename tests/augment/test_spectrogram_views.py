"""BYOL-A's views against slow loops; what they promise; what they refuse."""

import math

import pytest
import torch
from conftest import compose, tiny
from test_contracts import batch_of
from two_ranks import on_two_ranks

from sslzoo import rng
from sslzoo.augment.spectrogram_views import SpectrogramViews
from sslzoo.build import build
from sslzoo.data.base import Batch
from sslzoo.errors import ConfigError


def keys_of(n: int) -> torch.Tensor:
    return torch.tensor([rng.derive_seed(7, i) for i in range(n)])


def frames_of(n: int, size: int, bands: int = 6) -> torch.Tensor:
    return torch.randn(n, size, bands, generator=torch.Generator().manual_seed(n))


def bilinear(x: torch.Tensor, t: float, f: float) -> float:
    """x [T, F] at (t, f), zero outside."""
    total = 0.0
    for i in (math.floor(t), math.floor(t) + 1):
        for j in (math.floor(f), math.floor(f) + 1):
            if 0 <= i < x.shape[0] and 0 <= j < x.shape[1]:
                total += (1 - abs(t - i)) * (1 - abs(f - j)) * float(x[i, j])
    return total


def test_stretching_is_a_slow_loops():
    views, seeds, lengths = SpectrogramViews(frames=12), keys_of(5), torch.tensor([12, 12, 7, 3, 12])
    cut = frames_of(5, 12) * (torch.arange(12) < lengths[:, None])[..., None]
    found, u = views.stretched(cut, lengths, seeds, "a"), rng.uniform(seeds, "a", 4).double()
    for row in range(5):
        n, bands = int(lengths[row]), 6
        wide = n * (0.6 + 0.9 * float(u[row, 0]))
        left = -n / 4 + (1.5 * n - wide) * float(u[row, 1])
        high = min(bands * (0.6 + 0.9 * float(u[row, 2])), bands)
        low = (bands - high) * float(u[row, 3])
        slow = torch.zeros(n, bands, dtype=torch.float64)
        for t in range(n):
            for f in range(bands):
                slow[t, f] = bilinear(cut[row], left + (t + 0.5) * wide / n - 0.5, low + (f + 0.5) * high / bands - 0.5)
        slow = (slow - slow.mean(0)) / (slow.var(0, correction=0) + 1e-7).sqrt()
        torch.testing.assert_close(found[row, :n].double(), slow, atol=2e-4, rtol=1e-3)
        assert not found[row, n:].any()


def test_mixing_is_the_papers_and_finds_its_partner_whatever_the_order():
    views, seeds = SpectrogramViews(frames=8), keys_of(6)
    lengths = torch.tensor([8, 8, 5, 8, 2, 8])
    cut = frames_of(6, 8) * (torch.arange(8) < lengths[:, None])[..., None]
    batch = Batch(cut, lengths, seeds, torch.arange(6))
    found = views.mixed(cut, lengths, seeds, "a", *views.gather(cut, lengths, batch))
    share = 0.4 * rng.uniform(seeds, "a, share", 1, 1).double()
    for row in range(6):
        n, near = int(lengths[row]), []
        for other in range(6):
            beside = cut[other].double().exp() * (torch.arange(8) < lengths[other])[:, None]
            slow = torch.log((1 - share[row]) * cut[row].double().exp() + share[row] * beside)[:n]
            near.append(float((slow - found[row, :n]).abs().max()))
        assert min(near) < 1e-5 and near[row] > 1e-3, "mixed with another row, never with itself"
    order = torch.tensor([3, 0, 5, 1, 4, 2])
    cut, lengths, seeds = cut[order], lengths[order], seeds[order]
    gathered = views.gather(cut, lengths, Batch(cut, lengths, seeds, order))
    again = views.mixed(cut, lengths, seeds, "a", *gathered)
    assert torch.equal(again, found[order])


def test_ranks_mix_in_what_one_rank_would(tmp_path):
    """With unequal shares of a batch, whose rows are of unequal length."""
    config = tiny("byol_audio", "data.batch.max_items=5")

    def work(rank, world=2):
        job = build(config)
        drawn = job.objective.views.draw(job.encoder, batch_of(job, 0, rank, world))
        return [*drawn.views, drawn.lengths]

    found, one = on_two_ranks(work, tmp_path), work(0, 1)
    assert [len(of[0]) for of in found] == [3, 2]
    for rank, of in enumerate(found):
        for mine, whole in zip(of, one, strict=True):
            torch.testing.assert_close(mine, whole[rank::2], atol=1e-5, rtol=0)


def test_the_shares_are_uniform_up_to_mix():
    share = 0.4 * rng.uniform(keys_of(4000), "a, share", 1, 1)
    assert float(share.mean()) == pytest.approx(0.2, abs=0.01) and float(share.max()) > 0.39


def test_both_views_are_of_one_cut_and_differ():
    job = build(tiny("byol_audio"))
    batch, views = batch_of(job, 0), job.objective.views
    drawn = views.draw(job.encoder, batch)
    (a, b), lengths = drawn.views, drawn.lengths
    assert a.shape == b.shape == (len(batch), 24, 20) and int(lengths.max()) == 24
    assert not torch.allclose(a, b)
    inside = torch.arange(24) < lengths[:, None]
    for view in (a, b):
        assert float(view[inside].mean().abs()) < 1e-3, "standardised"
        assert not view[~inside].any()


def test_a_short_utterance_is_whole():
    views, frames = SpectrogramViews(frames=10), frames_of(2, 30)
    cut, lengths = views.cut(frames, torch.tensor([4, 30]), keys_of(2))
    assert lengths.tolist() == [4, 10] and torch.equal(cut[0, :4], frames[0, :4]) and not cut[0, 4:].any()
    starts = {
        int(
            views.cut(frames_of(1, 30), torch.tensor([30]), keys_of(200)[i : i + 1])[0][0, 0]
            .sub(frames_of(1, 30)[0])
            .abs()
            .sum(1)
            .argmin()
        )
        for i in range(200)
    }
    assert starts == set(range(21)), "from every place that leaves ten frames"


@pytest.mark.parametrize(
    ("bad", "says"),
    [
        ({"frames": 1}, "frames >= 2"),
        ({"mix": 1.0}, "mix < 1"),
        ({"time": [0.0, 1.0]}, "views.time"),
        ({"frequency": [1.0, 2.0]}, "views.frequency"),
    ],
)
def test_refuses_what_it_cannot_draw(bad, says):
    with pytest.raises(ConfigError, match=says):
        SpectrogramViews(**bad)


def test_refuses_data_and_encoders_that_it_is_not_for():
    with pytest.raises(ConfigError, match="ImageViews makes views of image, but the data is speech"):
        build(compose("objective=byol", "data=tiny_speech", "encoder=tiny_speech"))
    with pytest.raises(ConfigError, match="SpectrogramViews makes views of speech, but the data is image"):
        build(compose("objective=byol_audio", "data=tiny_image", "encoder=tiny_resnet"))
    with pytest.raises(ConfigError, match="SpectrogramViews needs an encoder with frames"):
        build(compose("objective=byol_audio", "data=tiny_speech", "encoder=tiny_wave"))
