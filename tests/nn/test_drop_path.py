"""Which branches are dropped: how often, by which seeds, and alike on any rank."""

import pytest
import torch
from timm.layers import DropPath
from timm.models.vision_transformer import VisionTransformer
from torchvision.ops import StochasticDepth

from sslzoo import rng
from sslzoo.nn.drop_path import branch_scales, draw_row_seeds, linear_rates, rows_of

SEEDS = torch.tensor([rng.derive_seed(7, row) for row in range(6)])


def test_rates_grow_as_timms():
    vit = VisionTransformer(img_size=8, patch_size=4, embed_dim=8, depth=5, num_heads=2, drop_path_rate=0.3)
    theirs = [getattr(block.drop_path1, "drop_prob", 0.0) for block in vit.blocks]
    assert linear_rates(0.3, 5).tolist() == pytest.approx(theirs)
    assert linear_rates(0.3, 1).tolist() == [0.0]


def test_each_branch_is_dropped_as_often_as_it_should_be():
    """And those kept are as much larger as timm's and torchvision's, so that the mean stays."""
    torch.manual_seed(0)
    rows, depth, last = 20_000, 4, 0.6
    rates, scales = linear_rates(last, depth), branch_scales(torch.zeros(rows, 1), last, depth, 2)
    assert scales.shape == (rows, depth, 2, 1)
    spread = (rates * (1 - rates) / rows).sqrt()[:, None]
    dropped = (scales == 0).float().mean(0)[..., 0]
    assert ((dropped - rates[:, None]).abs() <= 5 * spread).all(), dropped
    assert ((scales.mean(0)[..., 0] - 1).abs() <= 5 * spread / (1 - rates[:, None])).all()
    for number, p in enumerate(rates.tolist()):
        ones = torch.ones(2000, 3)
        for theirs in (DropPath(p), StochasticDepth(p, "row")):
            values = theirs.train()(ones).unique()
            torch.testing.assert_close(values, scales[:, number].unique())
    both = (scales[:, 3] == 0).all(1).float().mean()  # attention's and the MLP's are drawn apart
    assert float(both) == pytest.approx(last**2, abs=0.02)


def test_seeds_are_of_the_item_the_view_the_copy_and_the_call():
    with rows_of(SEEDS):
        first, second = draw_row_seeds(12), draw_row_seeds(12)
        with rows_of(copies=3):
            third = draw_row_seeds(36)
    with rows_of(SEEDS):
        assert torch.equal(draw_row_seeds(12), first), "a step's draws are the same whenever it is taken"
    assert len(torch.cat([first, second, third]).unique()) == 60


@pytest.mark.parametrize(("views", "copies"), [(1, 1), (2, 1), (1, 3), (2, 3)])
def test_ranks_have_the_seeds_of_their_rows(views, copies):
    with rows_of(SEEDS, copies):
        whole = draw_row_seeds(views * 6 * copies).view(views, 6, copies)
    for rank in range(2):
        with rows_of(SEEDS[rank::2], copies):
            assert torch.equal(draw_row_seeds(views * 3 * copies).view(views, 3, copies), whole[:, rank::2])


def test_elsewhere_they_are_as_dropout_is():
    """Outside of a step, and for rows that are no multiple of the items: by torch's generator."""
    for seeds in (None, SEEDS, SEEDS[:0]):
        with rows_of(seeds):
            torch.manual_seed(0)
            drawn, other = draw_row_seeds(5), draw_row_seeds(5)
            torch.manual_seed(0)
            assert torch.equal(draw_row_seeds(5), drawn) and not torch.equal(drawn, other)
    assert draw_row_seeds(0).shape == (0,) and branch_scales(torch.zeros(0, 2), 0.1, 3, 2).shape == (0, 3, 2, 1)


def test_a_packed_rows_items_have_their_own():
    items = torch.tensor([[1, 1, 1, 2, 2], [1, 2, 2, 2, 3]])
    with rows_of(SEEDS[:2]):
        scales = branch_scales(torch.zeros(2, 5), 0.5, 40, 2, items)
    assert scales.shape == (2, 40, 2, 5)
    same = (scales[..., 1:] == scales[..., :-1]).all(2).all(1)
    assert same.tolist() == [[True, True, False, True], [False, True, True, False]]
