"""Block masks: as many in every row, blocks that hang together, each row by its own seed."""

import pytest
import torch

from sslzoo import rng
from sslzoo.augment.block_masking import BlockMask, InverseBlockMask
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import valid_mask


def seeds(n: int) -> torch.Tensor:
    return torch.tensor([rng.derive_seed(3, i) for i in range(n)])


def neighbours(mask: torch.Tensor, side: int) -> float:
    """Share of masked patches whose right neighbour is masked."""
    grid = mask.view(-1, side, side)
    return float((grid[:, :, :-1] & grid[:, :, 1:]).sum() / grid[:, :, :-1].sum())


def test_blocks_do_not_differ_in_count_between_rows():
    mask = BlockMask(0.6)(seeds(50), torch.ones(50, 196, dtype=torch.bool))
    assert (mask.sum(1) == 118).all(), ".6 of 196"
    assert neighbours(mask, 14) > 0.8, "blocks, of which independent patches would have .6"
    share = mask.float().mean(0).view(14, 14)
    assert share[5:9, 5:9].mean() > share.mean() and share.min() > 0
    assert torch.equal(mask[:7], BlockMask(0.6)(seeds(7), torch.ones(7, 196, dtype=torch.bool)))


@pytest.mark.parametrize(("ratio", "block"), [(0.5, 5), (0.8, 3), (0.42, 1)])
def test_what_is_visible_lies_in_blocks(ratio, block):
    lengths = torch.tensor([60, 60, 41, 2, 1])
    mask = InverseBlockMask(ratio, block, 0.05)(seeds(5), valid_mask(lengths, 60))
    wanted = [min(max(1, round(ratio * n)), n - 1) for n in lengths.tolist()]
    assert mask.sum(1).tolist() == wanted and not (mask & ~valid_mask(lengths, 60)).any()
    many = ~InverseBlockMask(ratio, block, 0.05)(seeds(200), valid_mask(torch.full((200,), 60), 60))
    together = float((many[:, 1:] & many[:, :-1]).sum() / many[:, 1:].sum())
    assert (together > 1 - ratio + 0.15) is (block > 1)


def test_squares_of_a_grid_are_visible():
    visible = ~InverseBlockMask(0.8, 3, 0.07)(seeds(100), torch.ones(100, 196, dtype=torch.bool), columns=14)
    assert (visible.sum(1) == 39).all() and neighbours(visible, 14) > 0.5
    down = visible.view(-1, 14, 14).transpose(1, 2)
    assert neighbours(down.reshape(100, -1), 14) > 0.5


def test_padding_changes_no_row():
    lengths = torch.tensor([30, 18])
    mask = InverseBlockMask(0.5, 5, 0.05)
    assert torch.equal(mask(seeds(2), valid_mask(lengths, 30)), mask(seeds(2), valid_mask(lengths, 44))[:, :30])


def test_bad_settings_are_refused():
    for make in (lambda: BlockMask(1.0), lambda: InverseBlockMask(0.5, 0)):
        with pytest.raises(ConfigError, match="mask needs 0 < ratio < 1"):
            make()
