"""Multi-crop: the sizes and draws of its views, and what it refuses."""

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of

from sslzoo.build import build
from sslzoo.errors import ConfigError


def views_of(*overrides: str):
    job = build(tiny("dino", *overrides))
    return job, job.objective.views


def test_two_large_views_then_small_ones_all_different():
    job, views = views_of("objective.views.count=3")
    drawn = views.draw(job.encoder, batch_of(job, 0))
    assert [tuple(v.shape) for v in drawn.views] == [(8, 3, 16, 16)] * 2 + [(8, 3, 8, 8)] * 3
    assert [len(v) for v in drawn.large.views] == [8, 8]
    small = drawn.views[2:]
    for i in range(3):
        for j in range(i):
            assert (small[i] - small[j]).abs().flatten(1).amax(1).min() > 0.05
    assert (drawn.views[0] - drawn.views[1]).abs().max() > 0.05


def test_a_rows_views_do_not_depend_on_the_other_rows():
    job, views = views_of()
    batch = batch_of(job, 0)
    whole = views.draw(job.encoder, batch).views
    for i, view in enumerate(whole[2:]):
        alone = views.small(batch.inputs[5:6], batch.row_seeds[5:6], f"small view {i}")
        torch.testing.assert_close(alone, view[5:6])


def test_small_views_show_a_small_part():
    """Of an image whose value is the horizontal place: a crop of 4 % of the area spans a fifth of it."""
    job, views = views_of("objective.views.small.scale=[0.04,0.04]", "objective.views.small.ratio=[1.0,1.0]")
    for part in (views.small, views.large):
        part.factors, part.hue = [0, 0, 0], 0
        part.chances = {name: [0.0, 0.0] for name in part.chances}
    batch = batch_of(job, 0)
    batch.inputs = torch.linspace(0, 1, 16).expand(8, 3, 16, 16).contiguous()
    view = views.draw(job.encoder, batch).views[2]
    spans = view.amax((1, 2, 3)) - view.amin((1, 2, 3))
    assert float(spans.max()) < 0.22 and float(spans.mean()) > 0.1


@pytest.mark.parametrize(("size", "message"), [(6, "set it to 8"), (24, "set it to 16")])
def test_a_size_that_the_encoder_cannot_take_is_refused(size, message):
    with pytest.raises(ConfigError, match=rf"views.small.size={size} is not for images of 16 pixels .* {message}"):
        views_of(f"objective.views.small.size={size}")


@pytest.mark.parametrize("objective", ["simclr", "moco", "byol", "vicreg", "deepcluster"])
def test_methods_of_two_views_refuse_more(objective):
    crops = "{_target_: sslzoo.augment.image_views.ImageViews}"
    views = f"+objective.views={{_target_: sslzoo.augment.multi_crop.MultiCrop, large: {crops}, small: {crops}}}"
    with pytest.raises(ConfigError, match="MultiCrop makes 8 views, but this objective takes 2"):
        build(tiny(objective, "~objective.views", views))


def test_crops_of_patches_get_interpolated_positions():
    """As in DINO's code: those of the whole image, at half the resolution, not those of its upper left."""
    frontend = build(tiny("dino", "data.size=32")).encoder.frontend
    grid = torch.arange(64.0).view(8, 8)
    frontend.position_embedding[1:] = grid.view(64, 1)
    assert frontend.positions(64) is frontend.position_embedding
    small = frontend.positions(16)
    assert small.shape == (17, 16) and torch.equal(small[0], frontend.position_embedding[0])
    pooled = torch.nn.functional.avg_pool2d(grid[None], 2)[0]
    # a line is interpolated exactly but at its ends
    torch.testing.assert_close(small[1:, 0].view(4, 4)[1:3, 1:3], pooled[1:3, 1:3])


@pytest.mark.parametrize("objective", ["lejepa", "visreg"])
def test_lejepa_takes_small_views_too(objective):
    crops = "{_target_: sslzoo.augment.image_views.ImageViews}"
    views = (
        f"+objective.views={{_target_: sslzoo.augment.multi_crop.MultiCrop, large: {crops}, small: {crops}, count: 2}}"
    )
    job = build(tiny(objective, "~objective.views", views))
    drawn, _, z = job.objective.project(job.encoder, batch_of(job, 0))
    assert len(drawn.views) == len(z) == 4
    assert job.objective(job.encoder, batch_of(job, 0), 0).value.isfinite()
