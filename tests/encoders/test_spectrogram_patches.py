"""Patches of spectrograms: their order, their positions, and what comes back of them."""

import pytest
import torch

from sslzoo.encoders.spectrogram_patches import SpectrogramPatches
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import standardize
from sslzoo.nn.mel import LogMel


def test_a_row_of_the_grid_is_all_bands_of_a_time():
    front = SpectrogramPatches(16, n_mels=20, patch=5)
    wave, lengths = torch.randn(2, 6000), torch.tensor([6000, 4000])
    patches, counts = front.features(wave, lengths)
    mels, n = LogMel(16000, 20)(wave, lengths)
    mels = standardize(mels, n)
    assert front.columns(patches.shape[1]) == 4 and counts.tolist() == [-(-int(x) // 5) * 4 for x in n]
    for time in range(int(n[1]) // 5):
        for band in range(4):
            part = mels[1, 5 * time : 5 * time + 5, 5 * band : 5 * band + 5]
            assert torch.equal(patches[1, 4 * time + band], part.flatten())
    torch.testing.assert_close(front.frames(patches)[:, : mels.shape[1]], mels)
    tokens, more = front.project(patches, counts)
    assert tokens.shape[1] == patches.shape[1] + 1 and torch.equal(more, counts + 1)


def test_positions_tell_time_and_band_at_any_length():
    front = SpectrogramPatches(16, n_mels=20, patch=5)
    few = front.positions(40).clone()
    many = front.positions(4000)
    torch.testing.assert_close(few, many[:40])
    grid = many.view(1000, 4, 16)
    assert torch.equal(grid[3, 1, :8], grid[3, 2, :8]) and torch.equal(grid[3, 1, 8:], grid[9, 1, 8:])
    assert len(torch.unique(many, dim=0)) == 4000


def test_a_patch_that_does_not_divide_is_refused():
    with pytest.raises(ConfigError, match="patch=6 must divide n_mels=20"):
        SpectrogramPatches(16, n_mels=20, patch=6)
