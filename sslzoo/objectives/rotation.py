"""RotNet: predict the rotation of an image (Gidaris et al. 2018, 1803.07728)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.nn.drop_path import rows_of
from sslzoo.nn.metrics import choice_logs
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective

ANGLES = 4  # quarter turns: 0, 90, 180, 270 degrees


class Rotation(Objective):
    """Each image is rotated by four angles, and a linear layer predicts the angle (eq. 2):

    loss = -1/(4N) sum_i sum_y log F(g(x_i | y))_y

    views: random augmentations, or None for the original images, on which a small set overfits.
    """

    modalities = ("image",)

    def __init__(self, encoder, data, views: nn.Module | None = None):
        super().__init__()
        if views is not None:
            views.check(encoder, data)
        self.views = views
        self.head = nn.Linear(encoder.dim, ANGLES)

    def rotated(self, batch) -> tuple[Tensor, Tensor]:
        """(images [4B, C, S, S], the four rotations of each image in turn; the numbers of the angles [4B])."""
        images = batch.inputs if self.views is None else self.views(batch.inputs, batch.row_seeds, "view")
        turned = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(ANGLES)], dim=1)
        return turned.flatten(0, 1), torch.arange(ANGLES, device=images.device).repeat(len(images))

    def forward(self, encoder, batch, step: int) -> Loss:
        images, angles = self.rotated(batch)
        with rows_of(copies=ANGLES):
            logits = self.head(encoder(images, batch.lengths.repeat_interleave(ANGLES)).pooled)
        logs = partial(choice_logs, logits, angles, chance=1 / ANGLES)
        return Loss(F.cross_entropy(logits.float(), angles), len(images), logs)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        images, _ = self.rotated(batch)
        prediction = self.head(encoder(images, batch.lengths.repeat_interleave(ANGLES)).pooled).argmax(1)
        views = images.unflatten(0, (-1, ANGLES))[: MOST_ROWS // 2]
        return {"kind": "rotations", "views": views, "prediction": prediction.view(-1, ANGLES)}
