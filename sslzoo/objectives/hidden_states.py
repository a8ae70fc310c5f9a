"""Distillation of hidden states: a small encoder learns those of a larger one."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.encoders.base import Encoded, Encoder
from sslzoo.errors import ConfigError
from sslzoo.nn.fixed import Fixed
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.objectives.base import Loss, Objective


def uniform_layers(depth: int, teacher_depth: int) -> list[int]:
    """The teacher's layer for each of the student's layers 1 … depth, evenly spaced: g(m) = m teacher_depth / depth,
    rounded, halves up (TinyBERT, section 3.1: 3, 6, 9, 12 for 4 of 12)."""
    return [(2 * m * teacher_depth + depth) // (2 * depth) for m in range(1, depth + 1)]


class HiddenStates(Objective):
    """Transformer distillation of TinyBERT (Jiao et al. 2020, 1909.10351, section 3.1, equations 8 and 9). With student
    layers m = 1 … M, their teacher layers g(m), and layer 0 the embeddings, over the tokens t of a batch:

    loss = mean_t [ MSE(s_t^0 W_e, h_t^0) + sum_m MSE(s_t^m W_h, h_t^g(m)) ]

    MSE is the mean over the teacher's dimensions; W_e and W_h [D, D_teacher] learn. The attention maps of the paper's
    equation 7 are left out, for they need as many heads in both. Tokens of padding do not count, nor do those before an
    item's own (`Encoder.prefix`) unless both encoders have as many.

    teacher: an encoder with tokens that reads the same inputs; it is fixed, in eval mode, and in no state dict. layers:
    g(1) … g(M), from 1 to the teacher's depth; None for `uniform_layers`.
    """

    modalities = ("image", "speech", "text")
    needs = frozenset({"tokens"})

    def __init__(self, encoder: Any, data: Any, teacher: Encoder, layers: list[int] | None = None):
        super().__init__()
        if layers is None:
            if encoder.depth > teacher.depth:
                raise ConfigError(
                    f"the student has {encoder.depth} layers and its teacher {teacher.depth}: say whose hidden states each "
                    "learns (method.layers), or take a deeper teacher"
                )
            layers = uniform_layers(encoder.depth, teacher.depth)
        if len(layers) != encoder.depth or not all(1 <= layer <= teacher.depth for layer in layers):
            raise ConfigError(
                f"method.layers has one of the teacher's layers 1 to {teacher.depth} for each of the student's "
                f"{encoder.depth}, got {layers}"
            )
        self.layers = [0, *layers]
        same = encoder.prefix == teacher.prefix
        self.skipped = (0, 0) if same else (encoder.prefix, teacher.prefix)
        self.teacher = Fixed(teacher)
        self.embedding_projection = nn.Linear(encoder.dim, teacher.dim, bias=False)
        self.projection = nn.Linear(encoder.dim, teacher.dim, bias=False)

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        taught: Encoded = self.teacher(batch.inputs, batch.lengths)
        student: Encoded = encoder(batch.inputs, batch.lengths)
        (mine, theirs), lengths = self.skipped, student.lengths - self.skipped[0]
        at = indices(valid_mask(lengths, student.last.shape[1] - mine))
        losses: list[Tensor] = []
        for number, layer in enumerate(self.layers):
            project = self.projection if number else self.embedding_projection
            found, wanted = take(student.hidden[number][:, mine:], at), take(taught.hidden[layer][:, theirs:], at)
            losses.append(F.mse_loss(project(found), wanted, reduction="sum") / max(wanted.numel(), 1))
        value = torch.stack(losses).sum()
        return Loss(value, len(at), lambda: {f"layer_{number}": loss.detach() for number, loss in enumerate(losses)})
