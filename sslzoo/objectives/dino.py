"""DINO: self-distillation without labels (Caron et al. 2021, 2104.14294)."""

from functools import partial

import torch
from torch import Tensor

from sslzoo.augment.base import Drawn, Views
from sslzoo.errors import ConfigError
from sslzoo.nn.heads import PrototypeHead
from sslzoo.nn.self_distillation import Center, assignment_logs, cross_view, warmed_up
from sslzoo.nn.teacher import Teacher
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class DINO(Objective):
    """The student's distribution over K prototypes for any view is to be the teacher's for another, large view
    (eq. 3):

    loss = mean over t, s != t of H(P_t, P_s),   P_s = softmax(g_s / temperature),
    P_t = softmax((g_t - center) / teacher temperature)

    The teacher is a moving average of the encoder and the head (with `momentum`, to `momentum_end`). Its low
    temperature sharpens, the center (eq. 4) makes it uniform: each alone would collapse (section 5.3). It goes from
    `teacher_temperature` to `teacher_temperature_end` over `warmup_epochs`. The last layer does not learn during the
    first `frozen_epochs` (appendix A). views: the paper's multi-crop, or two views.
    """

    modalities = ("image",)
    batch_terms = "center"  # with accumulation, it is updated per part

    def __init__(
        self,
        encoder,
        data,
        views: Views,
        prototypes: int = 4096,
        momentum: float = 0.996,
        momentum_end: float = 1.0,
        temperature: float = 0.1,
        teacher_temperature: float = 0.04,
        teacher_temperature_end: float = 0.07,
        warmup_epochs: int = 30,
        frozen_epochs: int = 1,
        center_momentum: float = 0.9,
        hidden_dim: int = 2048,
        bottleneck: int = 256,
    ):
        super().__init__()
        if min(temperature, teacher_temperature, teacher_temperature_end) <= 0 or prototypes < 2:
            raise ConfigError("objective's temperatures must be above 0, and objective.prototypes 2 or more")
        views.check(encoder, data, most=None)
        self.views, self.temperature = views, temperature
        self.warmup = (teacher_temperature, teacher_temperature_end, warmup_epochs)
        self.frozen_epochs, self.epoch_steps = frozen_epochs, 1
        self.projector = PrototypeHead(encoder.dim, hidden_dim, bottleneck, prototypes)
        self.teacher = Teacher(encoder, self.projector, momentum, momentum_end)
        self.center = Center(prototypes, center_momentum)

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        self.epoch_steps = epoch_steps

    def teacher_temperature(self, step: int) -> float:
        return warmed_up(*self.warmup, step // self.epoch_steps)

    def frozen(self, step: int) -> bool:
        """Whether the last layer does not learn at this step."""
        return step < self.frozen_epochs * self.epoch_steps

    def student(self, encoder, drawn: Drawn, step: int) -> tuple[list[Tensor], list[Tensor]]:
        """(representations [B, D], cosines with prototypes [B, K]) of all views."""
        features = self.views.embed(encoder, drawn, joint=True)
        return features, list(self.projector.cosines(torch.cat(features), self.frozen(step)).chunk(len(features)))

    @torch.no_grad()
    def teach(self, drawn: Drawn) -> Tensor:
        """The teacher's cosines [2B, K] of both large views."""
        features = self.views.embed(self.teacher.encoder, drawn.large, joint=True)
        return self.teacher.projector.cosines(torch.cat(features))

    def forward(self, encoder, batch, step: int) -> Loss:
        drawn = self.views.draw(encoder, batch)
        features, logits = self.student(encoder, drawn, step)
        taught = self.teach(drawn)
        targets = self.center(taught, self.teacher_temperature(step))
        losses = cross_view(list(targets.chunk(2)), [x / self.temperature for x in logits])
        if self.training:
            self.center.update(taught)
        logs = partial(assignment_logs, targets)
        return Loss(losses.mean(), len(losses), logs, features=torch.cat(features[:2]))

    def after_step(self, encoder, step: int, total_steps: int) -> None:
        self.teacher.update(encoder, self.projector, step, total_steps)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        drawn = self.views.draw(encoder, batch)
        named = self.student(encoder, drawn, step)[1][1].argmax(1)
        wanted = self.center(self.teach(drawn), self.teacher_temperature(step)).chunk(2)[0]
        views = torch.stack(drawn.large.views, 1)[:MOST_ROWS]
        shown = {"kind": "clusters", "views": views, "clusters": wanted.shape[1]}
        return shown | {"target": wanted.argmax(1), "prediction": named}
