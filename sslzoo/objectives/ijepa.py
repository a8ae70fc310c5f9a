"""I-JEPA: predict a teacher's features of image blocks from a context (Assran et al. 2023, 2301.08243)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.augment.base import Views
from sslzoo.augment.masking import check_mask
from sslzoo.errors import ConfigError
from sslzoo.nn.drop_path import rows_of
from sslzoo.nn.linear import Linear
from sslzoo.nn.masked import masked_mean, valid_mask
from sslzoo.nn.positions import sinusoids_2d
from sslzoo.nn.teacher import Teacher
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class IJEPA(Objective):
    """The encoder sees a context of patches; from its output, a narrow predictor g, given the positions of a target
    block B_i, predicts the features s of its patches that a teacher, which sees the whole image, has (section 3):

    loss = 1/M sum_i 1/|B_i| sum_{j in B_i} h(g(context, B_i)_j - LN(s_j)) / D

    h: the smooth L1 loss of the authors' code (L2 in the paper's text). LN: layer norm without weights. The teacher is
    the exponential moving average of the encoder, from `momentum` to `momentum_end` along half a cosine (a straight
    line in the authors' code). mask: the blocks, see `augment.target_blocks`. predictor: a trunk. views: crops, without
    changes of colour, or None. The class token, which the paper's encoder lacks, is part of the context; the mean of
    the patches is what the paper probes (`encoder.pool=mean`).
    """

    modalities = ("image",)
    needs = frozenset({"tokens", "patches"})
    places: Tensor

    def __init__(
        self,
        encoder,
        data,
        mask: Any,
        predictor: nn.Module,
        momentum: float = 0.996,
        momentum_end: float = 1.0,
        views: Views | None = None,
    ):
        super().__init__()
        check_mask(mask, "seed", "seeds", "side")
        if views is not None:
            views.check(encoder, data)
        if getattr(predictor, "position", None) is not None:
            raise ConfigError("objective.predictor.position must be null: I-JEPA places the predictor's tokens itself")
        self.views, self.mask, self.side = views, mask, data.size // encoder.stride
        mask.check(self.side)
        self.predictor = predictor
        width: int = predictor.dim  # type: ignore[assignment]
        self.predictor_embed = Linear(encoder.dim, width)
        self.predictor_proj = Linear(width, encoder.dim)
        self.mask_token = nn.Parameter(torch.randn(width) * 0.02)
        places = sinusoids_2d(self.side, width)
        self.register_buffer("places", torch.cat([torch.zeros(encoder.prefix, width), places]))
        self.teacher = Teacher(encoder, nn.Identity(), momentum, momentum_end)

    def images(self, batch) -> Tensor:
        return batch.inputs if self.views is None else self.views(batch.inputs, batch.row_seeds, "view")

    @torch.no_grad()
    def teacher_features(self, images: Tensor, lengths: Tensor) -> Tensor:
        """The teacher's normalised features of all patches [B, P, D], float32."""
        last = self.teacher.encoder(images, lengths).last[:, self.teacher.encoder.prefix :].float()
        return F.layer_norm(last, last.shape[-1:])

    def predict(self, encoder, images: Tensor, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(predictions [B, M, N, D] of the targets' features, the targets' patches [B, M, N], the context's mean
        [B, D])."""
        targets, order, counts = self.mask(batch.seed, batch.row_seeds, self.side)
        longest, prefix = int(counts.numpy().max()), encoder.prefix
        targets, kept = (x.to(images.device, non_blocking=True) for x in (targets, order[:, :longest]))
        tokens, _ = encoder.embed(images, batch.lengths)
        first = torch.arange(prefix, device=kept.device).expand(len(kept), -1)
        at = torch.cat([first, prefix + kept], dim=1)  # [B, prefix + longest]
        row, lengths = torch.arange(len(kept), device=kept.device)[:, None], prefix + counts
        context = encoder.contextualize(tokens[row, at], lengths, positions=at).last
        blocks, size = targets.shape[1:]
        seen = (self.predictor_embed(context) + self.places[at]).repeat_interleave(blocks, 0)
        asked = (self.mask_token + self.places[prefix + targets]).flatten(0, 1).to(seen.dtype)
        # what is asked comes first, so that padding is at the end
        with rows_of(copies=blocks):
            hidden = self.predictor(torch.cat([asked, seen], dim=1), size + lengths.repeat_interleave(blocks))[-1]
        predictions = self.predictor_proj(hidden[:, :size]).float().unflatten(0, (-1, blocks))
        return predictions, targets, masked_mean(context, valid_mask(lengths, at.shape[1], context.device))

    def forward(self, encoder, batch, step: int) -> Loss:
        images = self.images(batch)
        predictions, targets, pooled = self.predict(encoder, images, batch)
        row = torch.arange(len(targets), device=targets.device)[:, None, None]
        wanted = self.teacher_features(images, batch.lengths)[row, targets]
        return Loss(F.smooth_l1_loss(predictions, wanted), targets.numel(), features=pooled)

    def after_step(self, encoder, step: int, total_steps: int) -> None:
        self.teacher.update(encoder, nn.Identity(), step, total_steps)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        images = self.images(batch)
        predictions, targets, _ = self.predict(encoder, images, batch)
        every = self.teacher_features(images, batch.lengths)
        distance = torch.cdist(predictions.flatten(1, 2), every)  # of each prediction to each patch of its image
        rank = (distance < distance.gather(2, targets.flatten(1)[..., None])).sum(2)
        _, order, counts = self.mask(batch.seed, batch.row_seeds, self.side)
        kept = torch.arange(order.shape[1]) < counts[:, None]
        context = torch.zeros_like(kept).scatter_(1, order, kept)
        shown = {"kind": "target_blocks", "images": images[: MOST_ROWS // 2], "context": context[: MOST_ROWS // 2]}
        return shown | {"targets": targets[: MOST_ROWS // 2], "rank": rank[: MOST_ROWS // 2]}
