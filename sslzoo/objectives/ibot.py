"""iBOT: self-distillation of the class token and of masked patches (Zhou et al. 2022, 2111.07832)."""

from typing import Any, Literal

import torch
from torch import Tensor, nn

from sslzoo.augment.base import Drawn, Views
from sslzoo.augment.masking import check_mask
from sslzoo.errors import ConfigError
from sslzoo.nn.koleo import koleo
from sslzoo.nn.masked import indices, take
from sslzoo.nn.prototypes import sinkhorn
from sslzoo.nn.self_distillation import Center, assignment_logs, cross_view, warmed_up
from sslzoo.objectives.base import MOST_ROWS, Loss
from sslzoo.objectives.dino import DINO
from sslzoo.objectives.mask_token import with_mask_token


class IBOT(DINO):
    """DINO's loss of the class token, with the student's large views masked block-wise, and the same of the masked
    patches M: the student's distribution is to be the teacher's for the same patch of the same view, not masked
    (eq. 2):

    loss = L_cls + patch_weight mean over views of 1/|M| sum_{i in M} H(P_t^i, P_s^i) + koleo_weight L_koleo

    The head is shared by class token (the encoder's pooled output) and patches (section 3.2), which have centers of
    their own; that of patches is of the masked ones, as in DINOv2's code. mask: see `PartialBlockMask`; the patch loss
    is 0 for a view without masked patches. patch_temperature: the teacher's for patches, to `patch_temperature_end`.

    DINOv2's (2304.07193, section 4) are settings: centering=sinkhorn assigns the teacher's outputs of the global batch
    in equal shares, without centers; koleo_weight (its: 0.1) spreads the class tokens of the global batch.
    """

    needs = frozenset({"tokens", "patches"})
    batch_terms = "centers or assignments, and neighbours"

    def __init__(
        self,
        encoder,
        data,
        views: Views,
        mask: Any,
        prototypes: int = 4096,
        momentum: float = 0.996,
        momentum_end: float = 1.0,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        teacher_temperature_end: float = 0.07,
        patch_temperature: float = 0.04,
        patch_temperature_end: float = 0.07,
        warmup_epochs: int = 30,
        frozen_epochs: int = 1,
        center_momentum: float = 0.9,
        hidden_dim: int = 2048,
        bottleneck: int = 256,
        patch_weight: float = 1.0,
        centering: Literal["mean", "sinkhorn"] = "mean",
        koleo_weight: float = 0.0,
    ):
        super().__init__(
            encoder, data, views, prototypes, momentum, momentum_end, temperature, teacher_temperature,
            teacher_temperature_end, warmup_epochs, frozen_epochs, center_momentum, hidden_dim, bottleneck,
        )  # fmt: skip
        check_mask(mask, "seeds", "side", "name")
        if min(patch_temperature, patch_temperature_end) <= 0 or min(patch_weight, koleo_weight) < 0:
            raise ConfigError("objective's temperatures must be above 0, and its weights 0 or more")
        self.mask, self.side = mask, data.size // encoder.stride
        self.patch_warmup = (patch_temperature, patch_temperature_end, warmup_epochs)
        self.patch_weight, self.centering, self.koleo_weight = patch_weight, centering, koleo_weight
        self.mask_token = nn.Parameter(torch.randn(encoder.dim) * 0.02)
        self.patch_center = Center(prototypes, center_momentum)

    def masks(self, batch) -> Tensor:
        """The masked patches of both large views, bool [2B, P], on the host."""
        return torch.cat([self.mask(batch.row_seeds, self.side, f"mask of view {view}") for view in "ab"])

    def see_masked(self, encoder, drawn: Drawn, mask: Tensor) -> tuple[Tensor, Tensor]:
        """(pooled [2B, D], patches [2B, P, D]) of the large views, with a mask token for masked patches."""
        large = drawn.large
        features, lengths = encoder.features(torch.cat(large.views), large.lengths.repeat(2))
        tokens, lengths = encoder.project(features, lengths)
        encoded = encoder.contextualize(with_mask_token(encoder, tokens, mask, self.mask_token), lengths)
        return encoded.pooled, encoded.last[:, encoder.prefix :]

    @torch.no_grad()
    def teach_patches(self, drawn: Drawn, at: Tensor) -> tuple[Tensor, Tensor]:
        """The teacher's cosines of both large views [2B, K], and of their patches at the flat indices `at` [M, K]."""
        encoder, large = self.teacher.encoder, drawn.large
        encoded = encoder(torch.cat(large.views), large.lengths.repeat(2))
        patches = take(encoded.last[:, encoder.prefix :], at)
        found = self.teacher.projector.cosines(torch.cat([encoded.pooled, patches]))
        return found[: len(encoded.pooled)], found[len(encoded.pooled) :]

    def targets(self, taught: Tensor, patches: Tensor, step: int) -> tuple[Tensor, Tensor]:
        """The teacher's distributions for class tokens [2B, K] and patches [M, K]."""
        warm = self.teacher_temperature(step), warmed_up(*self.patch_warmup, step // self.epoch_steps)
        if self.centering == "sinkhorn":
            return sinkhorn(taught, warm[0]), sinkhorn(patches, warm[1])
        return self.center(taught, warm[0]), self.patch_center(patches, warm[1])

    def forward(self, encoder, batch, step: int) -> Loss:
        drawn, mask = self.views.draw(encoder, batch), self.masks(batch)
        at, frozen = indices(mask), self.frozen(step)
        pooled, hidden = self.see_masked(encoder, drawn, mask)
        small = self.views.embed(encoder, Drawn(drawn.views[2:], drawn.lengths), joint=True)
        both = torch.cat([pooled, *small, take(hidden, at)])
        logits = self.projector.cosines(both, frozen) / self.temperature
        classes, patches = logits[: len(both) - len(at)], logits[len(both) - len(at) :]
        taught, taught_patches = self.teach_patches(drawn, at)
        targets, patch_targets = self.targets(taught, taught_patches, step)
        losses = cross_view(list(targets.chunk(2)), list(classes.chunk(len(drawn.views))))
        # the mean over each view's masked patches, then over views, those without any included
        shares = (mask / mask.sum(1, keepdim=True).clamp(min=1)).flatten()[at].to(hidden.device, non_blocking=True)
        patch_loss = -((patch_targets * patches.log_softmax(1)).sum(1) * shares).sum() / len(mask)
        terms = {"class_loss": losses.mean(), "patch_loss": patch_loss}
        value = terms["class_loss"] + self.patch_weight * patch_loss
        if self.koleo_weight:
            terms["koleo"] = torch.stack([koleo(x, batch.rows()).mean() for x in pooled.chunk(2)]).sum()
            value = value + self.koleo_weight * terms["koleo"]
        if self.training and self.centering == "mean":
            self.center.update(taught)
            self.patch_center.update(taught_patches)

        def logs() -> dict:
            found = assignment_logs(targets)
            del found["uniform_loss"]  # the loss has other terms
            return terms | found

        return Loss(value, len(batch), logs, features=pooled)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        drawn, mask = self.views.draw(encoder, batch), self.masks(batch)
        at = indices(mask)
        named = self.projector.cosines(take(self.see_masked(encoder, drawn, mask)[1], at)).argmax(1)
        wanted = self.targets(*self.teach_patches(drawn, at), step)[1].argmax(1)
        right = torch.zeros(mask.numel(), dtype=torch.bool, device=named.device)
        right[at.to(named.device)] = named == wanted
        rows = mask[: len(batch)].any(1).nonzero()[: MOST_ROWS // 2, 0]
        shown = {"kind": "masked_codes", "images": drawn.views[0][rows.to(named.device)], "mask": mask[rows]}
        return shown | {"right": right.view_as(mask)[rows.to(named.device)], "mean": encoder.frontend.mean}
