"""Masks beside lightly's of the same settings: how much of an image they take, where, and how it hangs together."""

import random

import pytest
import torch
from conftest import tiny

from sslzoo import rng
from sslzoo.augment.block_masking import PartialBlockMask
from sslzoo.build import build

IMAGES = 800
SEEDS = torch.tensor([rng.derive_seed(5, image) for image in range(IMAGES)])


@pytest.fixture
def lightly():
    found = pytest.importorskip("lightly.models.utils")
    torch.manual_seed(0)
    random.seed(0)
    return found


@pytest.mark.parametrize("ratio", [0.75, 0.6, 0.3])
def test_as_many_patches_are_kept_by_mae_and_msn(lightly, ratio):
    """And each is kept as often as any other. The class token always is."""
    job = build(tiny("mae", f"objective.ratio={ratio}"))
    objective, patches = job.objective, (job.data.size // job.encoder.stride) ** 2
    order, _ = objective.shuffle(SEEDS, patches, "cpu")
    kept, _ = lightly.random_token_mask((IMAGES, 1 + patches), ratio)
    assert (kept[:, 0] == 0).all()
    ours, theirs = (
        torch.zeros(IMAGES, patches).scatter_(1, x, 1.0) for x in (order[:, : objective.kept], kept[:, 1:] - 1)
    )
    assert torch.equal(ours.sum(1), theirs.sum(1))
    share = ours.sum(1)[0] / patches
    for mask in (ours, theirs):
        assert ((mask.mean(0) - share).abs() < 5 * (share * (1 - share) / IMAGES) ** 0.5).all()


def test_ibots_blocks_are_like_lightlys(lightly):
    ours = PartialBlockMask(prob=0.5, ratio=[0.1, 0.5], smallest=4, aspect=0.3)(SEEDS, 14, "mask").view(-1, 14, 14)
    theirs = lightly.random_block_mask((IMAGES, 14, 14), 0.5, 0.1, 0.5, 4, None, 0.3)
    found = []
    for mask in (ours, theirs):
        some = mask[mask.flatten(1).any(1)].float()
        right = (some[:, :, :-1] * some[:, :, 1:]).sum() / some[:, :, :-1].sum()  # next to a masked one
        middle = some[:, 4:10, 4:10].mean() / some.mean()
        found.append([len(some) / IMAGES, some.mean(), some.flatten(1).mean(1).std(), right, middle])
    (images, share, spread, right, middle), other = (list(map(float, x)) for x in found)
    assert images == pytest.approx(other[0], abs=0.08)  # ours is a chance, theirs a count
    assert share == pytest.approx(other[1], abs=0.03) and spread == pytest.approx(other[2], abs=0.02)
    assert right == pytest.approx(other[3], abs=0.06) and middle == pytest.approx(other[4], rel=0.15)
