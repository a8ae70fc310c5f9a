"""data2vec 2.0: many masked copies of one teacher's pass, and a convolutional decoder
(Baevski et al. 2023, 2212.07525).

On patches of spectrograms, with the loss of the class token, it is EAT (Chen et al. 2024, 2401.03497)."""

import inspect
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.augment.base import Views
from sslzoo.data.base import maskable
from sslzoo.errors import ConfigError
from sslzoo.nn.conv_decoder import ConvDecoder
from sslzoo.nn.drop_path import rows_of
from sslzoo.nn.health import token_std
from sslzoo.nn.masked import indices, masked_mean, take, valid_mask
from sslzoo.nn.places import gather_tokens, kept_places, spread_tokens
from sslzoo.nn.teacher import Teacher
from sslzoo.objectives.base import Loss, Objective
from sslzoo.objectives.data2vec import taught
from sslzoo.objectives.retrieved import retrieved


class Data2Vec2(Objective):
    """The teacher sees the whole input once, as in data2vec; the student sees `copies` = M of it with other masks, and
    of each only the visible tokens. Their outputs, with normal noise of deviation `noise` at the masked places, go
    through a decoder of convolutions, whose outputs f_t predict the targets there; the class token's output c predicts
    the mean of the targets (sections 3.1 to 3.3):

    loss = 1/(M |M_i|) sum_i sum_{t in M_i} |f_t - y_t|^2 / D + global_weight 1/M sum_i |c_i - mean_t y_t|^2 / D

    y: see `data2vec.taught`, each layer's output normalised over a row's tokens. layers: K, null for all but a sixth
    of the blocks; norm_targets: a layer norm of the mean of layers (images). decoder_grid: convolutions over the grid
    of patches. global_weight needs an encoder with a class token; 0 for none. ramp: as in data2vec.
    """

    modalities = ("speech", "image", "text")
    needs = frozenset({"tokens"})
    skips_prefix = True
    batch_terms = "global loss"
    min_tokens = 2

    def __init__(
        self,
        encoder,
        data,
        mask: Any,
        copies: int = 8,
        layers: int | None = None,
        momentum: float = 0.999,
        momentum_end: float = 0.99999,
        ramp: float = 0.1875,
        decoder_dim: int = 384,
        decoder_depth: int = 4,
        decoder_kernel: int = 7,
        decoder_groups: int = 16,
        decoder_grid: bool = False,
        noise: float = 0.01,
        norm_targets: bool = False,
        global_weight: float = 0.0,
        views: Views | None = None,
    ):
        super().__init__()
        if views is not None:
            views.check(encoder, data)
        if "columns" not in inspect.signature(mask).parameters:
            raise ConfigError(
                f"objective.mask: {type(mask).__name__} masks no grid: choose objective/mask=inverse_blocks, "
                "inverse_squares or inverse_pieces"
            )
        layers = layers or max(1, round(encoder.depth * 5 / 6))
        if copies < 1 or not 1 <= layers <= encoder.depth or global_weight < 0:
            raise ConfigError(
                f"data2vec2 needs copies >= 1, layers between 1 and the encoder's {encoder.depth} and global_weight >= 0; "
                f"got {copies}, {layers}, {global_weight}"
            )
        if global_weight and not encoder.prefix:
            raise ConfigError(
                "objective.global_weight is of a class token, which this encoder lacks: set it to 0, or take an encoder "
                "of patches (`sslzoo list encoders`)"
            )
        self.modality, self.data, self.prefix = data.modality, data, encoder.prefix
        self.mask, self.copies, self.layers, self.noise, self.views = mask, copies, layers, noise, views
        self.norm_targets, self.global_weight = norm_targets, global_weight
        self.teacher = Teacher(encoder, nn.Identity(), momentum, momentum_end, ramp)
        self.decoder = ConvDecoder(
            encoder.dim, decoder_dim, decoder_depth, decoder_kernel, decoder_groups, decoder_grid
        )

    def copies_of(self, encoder, batch, lengths: Tensor, size: int) -> tuple[Tensor, Tensor, int]:
        """(a seed for each copy [B M], its masked places bool [B M, T] on the host, the width of the tokens' grid)."""
        seeds = batch.row_seeds.repeat_interleave(self.copies)
        seeds = rng.fold_in(seeds, torch.arange(self.copies).repeat(len(lengths)))
        allowed = valid_mask(lengths, size)
        if self.modality == "text":
            allowed = allowed & maskable(batch.ids)
        columns = encoder.frontend.columns(size) if hasattr(encoder, "frontend") else 1
        return seeds, self.mask(seeds, allowed.repeat_interleave(self.copies, 0), columns), columns

    def predict(self, encoder, batch):
        """(features; masks of the copies [B M, T] on the host; predictions and targets [N, D] of masked tokens; the
        class token's output [B M, D] and its target [B M, D], or None)."""
        inputs = batch.inputs if self.views is None else self.views(batch.inputs, batch.row_seeds, "view")
        features, lengths = encoder.features(inputs, batch.lengths)
        size, device, many = features.shape[1], features.device, self.copies
        targets = taught(self.teacher.encoder, features, lengths, self.layers, "instance")
        if self.norm_targets:
            targets = F.layer_norm(targets, targets.shape[-1:])
        seeds, mask, columns = self.copies_of(encoder, batch, lengths, size)
        tokens = encoder.project(features, lengths)[0].repeat_interleave(many, 0)
        each = lengths.repeat_interleave(many)
        places, kept = kept_places(mask, each)
        first = torch.arange(self.prefix).expand(len(places), -1)
        positions = torch.cat([first, self.prefix + places], dim=1)  # on the host
        visible = gather_tokens(tokens, positions.to(device, non_blocking=True))
        with rows_of(copies=many):
            hidden = encoder.contextualize(visible, kept + self.prefix, positions=positions).last
        whole = spread_tokens(hidden[:, self.prefix :], places.to(device, non_blocking=True), size)
        noise = self.noise * rng.normal(seeds, "decoder noise", size, whole.shape[2], device=device)
        whole = torch.where(mask.to(device, non_blocking=True)[..., None], noise, whole)
        at = indices(mask)
        predicted = take(self.decoder(whole, each, columns), at).float()
        wanted = take(targets, at // size // many * size + at % size)
        if not self.global_weight:
            return features, mask, predicted, wanted, None, None
        mean = masked_mean(targets, valid_mask(lengths, size, device)).repeat_interleave(many, 0)
        return features, mask, predicted, wanted, hidden[:, self.prefix - 1].float(), mean

    def forward(self, encoder, batch, step: int) -> Loss:
        _, _, predicted, targets, whole, mean = self.predict(encoder, batch)
        value = (predicted - targets).square().mean(-1).sum() / max(len(targets), 1)
        if whole is not None:  # of the global batch, as rows may have unlike numbers of masked tokens
            errors = (whole - mean).square().mean(-1)
            value = value + self.global_weight * distributed.all_reduce_mean(errors.sum(), len(errors))

        def logs() -> dict:
            return {"target_std": token_std(targets), "prediction_std": token_std(predicted)}

        return Loss(value, len(targets), logs)

    def after_step(self, encoder, step: int, total_steps: int) -> None:
        self.teacher.update(encoder, nn.Identity(), step, total_steps)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        features, mask, predicted, targets, *_ = self.predict(encoder, batch)
        shown = (torch.arange(len(mask)) % self.copies == 0).repeat_interleave(mask.sum(1)).to(features.device)
        return retrieved(encoder, batch, self.data, features, mask[:: self.copies], predicted[shown], targets[shown])
