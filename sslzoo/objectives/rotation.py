"""RotNet: which way is up? (Gidaris et al. 2018, 1803.07728)."""

from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.objectives.base import Loss, Objective
from sslzoo.parts.metrics import choice_logs

ANGLES = (0, 90, 180, 270)


class Rotation(Objective):
    """Each image is shown in four orientations and a linear layer names each one's (eq. 2):

    loss = -1/(4N) sum_i sum_y log F(g(x_i | y))_y
    """

    modalities = ("image",)

    def __init__(self, encoder, data, views: nn.Module | None = None):
        super().__init__()
        self.views = views
        self.head = nn.Linear(encoder.dim, len(ANGLES))

    def rotated(self, batch) -> tuple[Tensor, Tensor]:
        """Images [4B, C, S, S], image by image through the angles, and the angles' numbers [4B]."""
        images = batch.inputs if self.views is None else self.views(batch.inputs, batch.keys, "view")
        turned = torch.stack([torch.rot90(images, k, (2, 3)) for k in range(len(ANGLES))], dim=1)
        return turned.flatten(0, 1), torch.arange(len(ANGLES), device=images.device).repeat(len(images))

    def forward(self, encoder, batch, step: int) -> Loss:
        images, angles = self.rotated(batch)
        logits = self.head(encoder(images, batch.lengths.repeat_interleave(len(ANGLES))).pooled)
        logs = partial(choice_logs, logits, angles, chance=1 / len(ANGLES))
        return Loss(F.cross_entropy(logits.float(), angles), len(images), logs)

    @torch.no_grad()
    def show(self, encoder, batch, step: int) -> dict:
        images, angles = self.rotated(batch)
        guessed = self.head(encoder(images, batch.lengths.repeat_interleave(4)).pooled).argmax(1)
        captions = [f"{ANGLES[a]}°: said {ANGLES[g]}°" for a, g in zip(angles.tolist(), guessed.tolist(), strict=True)]
        return {
            "kind": "images",
            "title": "Each image in four orientations, and the one that was named",
            "images": images[:32].cpu(),
            "captions": captions[:32],
            "right": (angles == guessed)[:32].cpu(),
            "columns": 4,
        }
