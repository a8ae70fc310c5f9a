"""data2vec: predict a teacher's view of the whole input at masked places (Baevski et al. 2022, 2202.03555)."""

from itertools import pairwise
from typing import Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.augment.base import Views
from sslzoo.augment.masking import check_mask
from sslzoo.data.base import maskable
from sslzoo.errors import ConfigError
from sslzoo.nn.health import token_std
from sslzoo.nn.masked import indices, standardize, take, valid_mask
from sslzoo.nn.teacher import Teacher
from sslzoo.objectives.base import Loss, Objective
from sslzoo.objectives.bert import replaced
from sslzoo.objectives.mask_token import with_mask_token
from sslzoo.objectives.retrieved import retrieved


def top_layers(hidden: list[Tensor], lengths: Tensor, norm: str) -> Tensor:
    """The mean of hidden states [B, T, D] each, each normalised without weights: over the valid steps of a row
    ("instance", section 3.3), or over the channels of a token ("layer")."""
    size = hidden[0].shape[-1:]
    each = [
        standardize(x.float(), lengths, 1e-5) if norm == "instance" else F.layer_norm(x.float(), size) for x in hidden
    ]
    return torch.stack(each).mean(0)


@torch.no_grad()
def taught(teacher: Any, features: Tensor, lengths: Tensor, layers: int, norm: str) -> Tensor:
    """A teacher's targets [B, T, D] of features [B, T, C]: the normalised mean of its top layers,
    without the prefix."""
    hidden = teacher.contextualize(*teacher.project(features.detach(), lengths)).hidden[-layers:]
    return top_layers([x[:, teacher.prefix :] for x in hidden], lengths, norm)


class Data2Vec(Objective):
    """A teacher, the moving average of the encoder, sees the whole input; its target y_t is the mean of the normalised
    outputs a_t of its top K blocks. The student sees the input with masked places M, and a linear layer of its output
    predicts their targets (section 3.3):

    y_t = 1/K sum_{l > L - K} norm(a_t^l)        loss = 1/|M| sum_{t in M} l(f_t(masked x), y_t)

    l is the squared error (`beta` null, speech) or the smooth L1 loss, (y - f)^2 / (2 beta) up to beta and then
    |y - f| - beta / 2, averaged over channels. layers: K, null for two thirds of the blocks. norm: of a block's
    output, see `top_layers`. ramp: share of the steps in which tau rises from `momentum` to `momentum_end`, in a
    straight line. head_layers: of the regression head (2 for text). views: crops of images, the same for both.

    The teacher reads the student's features, so that convolutions over a waveform are not averaged (section 3.2).
    Unlike in the authors' code, a^l is a block's output and not that of its MLP before the last residual connection
    (figure 3 has both), and the teacher's positions are averaged as its other weights.
    A run whose targets have the same value everywhere (`target_std` below 0.1) is stopped, as theirs is.
    """

    modalities = ("speech", "image", "text")
    needs = frozenset({"tokens"})
    skips_prefix = True

    def __init__(
        self,
        encoder,
        data,
        mask: Any,
        layers: int | None = None,
        momentum: float = 0.999,
        momentum_end: float = 0.9999,
        ramp: float = 0.075,
        beta: float | None = None,
        norm: Literal["instance", "layer"] = "instance",
        head_layers: int = 1,
        views: Views | None = None,
    ):
        super().__init__()
        self.modality, self.data, self.prefix = data.modality, data, encoder.prefix
        if data.modality not in getattr(mask, "modalities", self.modalities):
            named = {"speech": "", "image": "_image", "text": "_text"}[data.modality]
            raise ConfigError(
                f"{type(mask).__name__} masks {' and '.join(mask.modalities)}, but the data is {data.modality}: "
                f"set objective=data2vec{named}"
            )
        check_mask(mask, *(("seeds", "lengths", "size") if data.modality == "speech" else ("seeds", "allowed")))
        layers = layers or max(1, round(encoder.depth * 2 / 3))
        if not 1 <= layers <= encoder.depth or head_layers < 1 or beta is not None and beta <= 0:
            raise ConfigError(
                f"data2vec needs layers between 1 and the encoder's {encoder.depth}, head_layers >= 1 and beta > 0 or "
                f"null; got {layers}, {head_layers}, {beta}"
            )
        if views is not None:
            views.check(encoder, data)
        self.mask, self.layers, self.beta, self.norm, self.views = mask, layers, beta, norm, views
        self.vocab_size = getattr(data, "vocab_size", 0)
        self.min_tokens = mask.shortest if data.modality == "speech" else 1
        self.teacher = Teacher(encoder, nn.Identity(), momentum, momentum_end, ramp)
        self.mask_token = None if data.modality == "text" else nn.Parameter(torch.rand(encoder.dim))
        widths = [encoder.dim, *[2 * encoder.dim] * (head_layers - 1)]
        between = [m for a, b in pairwise(widths) for m in (nn.Linear(a, b), nn.GELU())]
        self.head = nn.Sequential(*between, nn.Linear(widths[-1], encoder.dim))

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        if self.modality == "text":
            self.vocab_size = self.data.real_vocab_size  # known once the data is open; larger ids are unused

    def choose(self, batch, lengths: Tensor, size: int) -> Tensor:
        """The masked places, bool [B, T], on the host."""
        if self.modality == "speech":
            return self.mask(batch.row_seeds, lengths, size)
        allowed = valid_mask(lengths, size)
        return self.mask(batch.row_seeds, allowed & maskable(batch.ids) if self.modality == "text" else allowed)

    def masked_tokens(self, encoder, batch, features: Tensor, lengths: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """The student's tokens [B, prefix + T, D] and their number: with the mask token for those in `mask`, or of text
        whose pieces are replaced as BERT's are."""
        if self.mask_token is None:
            seen = replaced(batch.ids, mask, batch.row_seeds, self.vocab_size)
            return encoder.project(seen.to(features.device, non_blocking=True), lengths)
        tokens, lengths = encoder.project(features, lengths)
        return with_mask_token(encoder, tokens, mask, self.mask_token), lengths

    def teach(self, features: Tensor, lengths: Tensor) -> Tensor:
        """The teacher's targets [B, T, D] of the whole features."""
        return taught(self.teacher.encoder, features, lengths, self.layers, self.norm)

    def predict(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """(features, the masked places bool [B, T] on the host, predictions and targets [M, D] of these)."""
        inputs = batch.inputs if self.views is None else self.views(batch.inputs, batch.row_seeds, "view")
        features, lengths = encoder.features(inputs, batch.lengths)
        mask = self.choose(batch, lengths, features.shape[1])
        at = indices(mask)
        tokens, n = self.masked_tokens(encoder, batch, features, lengths, mask)
        hidden = encoder.contextualize(tokens, n).last[:, self.prefix :]
        return features, mask, self.head(take(hidden, at)).float(), take(self.teach(features, lengths), at)

    def forward(self, encoder, batch, step: int) -> Loss:
        _, _, predicted, targets = self.predict(encoder, batch)
        if self.beta is None:
            error = (predicted - targets).square()
        else:
            error = F.smooth_l1_loss(predicted, targets, reduction="none", beta=self.beta)

        def logs() -> dict:
            return {"target_std": token_std(targets), "prediction_std": token_std(predicted)}

        return Loss(error.mean(-1).sum() / max(len(targets), 1), len(targets), logs)

    def after_step(self, encoder, step: int, total_steps: int) -> None:
        self.teacher.update(encoder, nn.Identity(), step, total_steps)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        return retrieved(encoder, batch, self.data, *self.predict(encoder, batch))
