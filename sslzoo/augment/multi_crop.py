"""Multi-crop: two large views and several small ones of each image."""

from torch import nn

from sslzoo.augment.base import Drawn, Views
from sslzoo.errors import ConfigError


class MultiCrop(Views):
    """Two large views, as other methods have, then `count` small crops of lower resolution (Caron et al. 2020, SwAV,
    2006.09882, section 3.3), which cost little and see parts of the image.

    large, small: `ImageViews`. Without a size, small views have half the side of large ones, rounded to the encoder's
    stride. Of the chances in `small` that are lists, one per view, the first holds.
    """

    modality = "image"
    crops = True

    def __init__(self, large: Views, small: Views, count: int = 6):
        super().__init__()
        if count < 0:
            raise ConfigError(f"views.count is a number of small views, 0 or more, got {count}")
        self.large, self.small, self.small_count = large, small, count
        self.count = 2 + count

    def check(self, encoder, data, most: int | None = 2) -> None:
        super().check(encoder, data, most)
        stride = encoder.stride
        if self.small.size is None:
            self.small.size = max(1, round(data.size / 2 / stride)) * stride
        size = self.small.size
        if size > data.size or ("patches" in encoder.offers and size % stride):
            fits = min(max(round(size / stride), 1), data.size // stride) * stride
            raise ConfigError(
                f"objective.views.small.size={size} is not for images of {data.size} pixels and an encoder whose stride "
                f"is {stride}: set it to {fits}"
            )
        for views in (self.large, self.small):
            views.check(encoder, data)

    def draw(self, encoder, batch) -> Drawn:
        drawn = self.large.draw(encoder, batch)
        small = [self.small(batch.inputs, batch.row_seeds, f"small view {i}") for i in range(self.small_count)]
        return Drawn([*drawn.views, *small], drawn.lengths)

    def encode(self, encoder: nn.Module, view, lengths):
        return encoder(view, lengths)

    def whole(self, inputs):
        """Images without augmentation, of the large views' size."""
        return self.large.whole(inputs)
