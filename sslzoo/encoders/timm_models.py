"""Any model of timm as an encoder that trains from its initial weights (pretrained ones: `encoder=timm:…`, see
`interop`)."""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.encoders.base import Encoded, Encoder
from sslzoo.encoders.image import patchify
from sslzoo.errors import ConfigError, nearest
from sslzoo.nn.batchnorm import BatchNorm2d
from sslzoo.nn.images import to_float
from sslzoo.nn.masked import masked_mean, valid_mask


def created(model: str, **settings: Any) -> nn.Module:
    """A model of timm without a head. Raises ConfigError without timm, for an unknown name, and for settings that the
    model does not take."""
    try:
        import timm
    except ImportError as error:
        raise ConfigError("encoder=timm_… needs timm, which is not installed: pip install 'sslzoo[timm]'") from error
    if not timm.is_model(model):
        raise ConfigError(f"timm has no model '{model}'{nearest(model, timm.list_models())}")
    try:
        return over_ranks(timm.create_model(model, pretrained=False, num_classes=0, **settings))
    except (TypeError, ValueError, AssertionError) as error:
        raise ConfigError(f"timm's {model} does not take {settings}: {' '.join(str(error).split())}") from error


class _BatchNormAct(BatchNorm2d):
    """timm's batch norm with an activation, with statistics over all ranks."""

    def forward(self, x: Tensor) -> Tensor:
        return self.act(self.drop(super().forward(x)))  # type: ignore[operator]


def over_ranks(model: nn.Module) -> nn.Module:
    """The model with batch norms whose statistics are of the global batch, as in every encoder here."""
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d) and not isinstance(module, BatchNorm2d):
            module.__class__ = _BatchNormAct if hasattr(module, "act") else BatchNorm2d
    return model


class Timm(Encoder):
    """Images [B, C, S, S] in 0..1 or uint8 -> pooled [B, D]: a model of timm with any inner structure, such as a
    convolutional network or a Swin transformer. The hidden states are the means over places of its stages, [B, 1, D],
    with zeros for the channels that a stage lacks; the last one is `pooled`. Stages wider than it are left out. size:
    pixels a side, for models that ask for one (img_size); None for those that read any size."""

    modality = "image"
    offers = frozenset()
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: str,
        size: int | None = None,
        channels: int = 3,
        mean: list[float] = [0.5, 0.5, 0.5],  # noqa: B006 (read, never written)
        std: list[float] = [0.25, 0.25, 0.25],  # noqa: B006
    ):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        sized = {} if size is None else {"img_size": size}
        made: Any = created(model, in_chans=channels, **sized)
        self.model = made
        self.reads = {"channels": channels, **({} if size is None else {"size": size})}
        self.dim = self.feature_dim = getattr(made, "head_hidden_size", None) or made.num_features
        stages = list(made.feature_info)
        self.stride = stages[-1]["reduction"]
        self.kept = [number for number, stage in enumerate(stages) if stage["num_chs"] <= self.dim]
        self.depth = len(self.kept)

    def forward(self, inputs: Tensor, lengths: Tensor) -> Encoded:
        x = (to_float(inputs) - self.mean) / self.std
        last, stages = self.model.forward_intermediates(x, output_fmt="NCHW")
        pooled = self.model.forward_head(last, pre_logits=True)
        found = [*(stages[number].mean((2, 3)) for number in self.kept), pooled]
        hidden = [F.pad(y, (0, self.dim - y.shape[1]))[:, None] for y in found]
        return Encoded(hidden, torch.ones_like(lengths), pooled)


class TimmTransformer(Encoder):
    """A vision transformer of timm (its VisionTransformer class: ViT, DeiT, DINOv2, …) in three stages, with tokens and
    patches that may be dropped. pool: the class token ("first"), or the mean of the patches.

    patch: pixels a side; None for the model's own. size: pixels a side of images.
    """

    modality = "image"
    offers = frozenset({"tokens", "patches"})
    mean: Tensor
    std: Tensor

    def __init__(
        self,
        model: str,
        size: int,
        patch: int | None = None,
        pool: str = "first",
        channels: int = 3,
        mean: list[float] = [0.5, 0.5, 0.5],  # noqa: B006 (read, never written)
        std: list[float] = [0.25, 0.25, 0.25],  # noqa: B006
    ):
        super().__init__()
        self.register_buffer("mean", torch.tensor(mean).view(-1, 1, 1))
        self.register_buffer("std", torch.tensor(std).view(-1, 1, 1))
        given = {} if patch is None else {"patch_size": patch}
        made: Any = created(model, in_chans=channels, img_size=size, **given)
        self.model = made
        parts = ("patch_embed", "blocks", "norm", "pos_embed", "num_prefix_tokens")
        if not all(hasattr(made, part) for part in parts) or not hasattr(made.patch_embed, "proj"):
            raise ConfigError(
                f"timm's {model} is no plain vision transformer: set encoder=timm_resnet encoder.model={model}"
            )
        if pool not in ("first", "mean"):
            raise ConfigError(f"encoder.pool is first or mean, got {pool!r}")
        if pool == "first" and made.cls_token is None:
            raise ConfigError(f"timm's {model} has no class token: set encoder.pool=mean")
        self.stride, self.size, self.pool = made.patch_embed.patch_size[0], size, pool
        if size % self.stride:
            raise ConfigError(f"patch={self.stride} does not divide the image size {size}: set encoder.patch")
        self.reads = {"size": size, "channels": channels}
        self.dim, self.depth = made.num_features, len(made.blocks)
        self.feature_dim, self.prefix = self.stride**2 * channels, made.num_prefix_tokens

    @property
    def frontend(self) -> "TimmTransformer":
        """What objectives ask of patches, beside the stages: `images` and `placed`."""
        return self

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        patches = patchify((to_float(inputs) - self.mean) / self.std, self.stride)
        return patches, torch.full((len(patches),), patches.shape[1])

    def project(self, features: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        embed = self.model.patch_embed
        kernel = embed.proj.weight.permute(0, 2, 3, 1).flatten(1)  # rows, columns, channels, as a patch has them
        tokens = embed.norm(F.linear(features, kernel, embed.proj.bias))
        if self.model.dynamic_img_size:  # then it takes a square
            side = math.isqrt(tokens.shape[1])
            tokens = tokens.unflatten(1, (side, side))
        return self.model.norm_pre(self.model._pos_embed(tokens)), lengths + self.prefix

    def placed(self, token: Tensor, size: int) -> Tensor:
        """A token, such as a mask token, at each of `size` patches [T, D]."""
        return token + self.model.pos_embed[0, -size:]

    def images(self, features: Tensor) -> Tensor:
        """The inverse of `features`: patches [B, T, P * P * C] -> images [B, C, S, S] in 0..1."""
        side, patch = self.size // self.stride, self.stride
        grid = features.view(len(features), side, side, patch, patch, -1).permute(0, 5, 1, 3, 2, 4)
        return (grid.reshape(len(features), -1, self.size, self.size) * self.std + self.mean).clamp(0, 1)

    def contextualize(
        self, tokens: Tensor, lengths: Tensor, *, positions: Tensor | None = None, documents: Tensor | None = None
    ) -> Encoded:
        """Rows of fewer tokens than the others, such as I-JEPA's contexts, are not attended to beyond their length."""
        size = tokens.shape[1]
        valid, hidden, mask = valid_mask(lengths, size), [tokens], None
        if not valid.all():
            away = torch.zeros(valid.shape).masked_fill(~valid, float("-inf"))[:, None, None]
            mask = away.to(tokens.device, tokens.dtype, non_blocking=True)
        for block in self.model.blocks:
            hidden.append(block(hidden[-1], **({} if mask is None else {"attn_mask": mask})))
        hidden[-1] = self.model.norm(hidden[-1])
        last, prefix = hidden[-1], self.prefix
        patches = valid_mask(lengths - prefix, size - prefix, tokens.device)
        pooled = last[:, 0] if self.pool == "first" else masked_mean(last[:, prefix:], patches)
        return Encoded(hidden, lengths, pooled)
