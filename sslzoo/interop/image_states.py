"""timm's vision transformers and torchvision's residual networks: their names of weights, and their arguments, which of
a bare state dict are told by its shapes."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from sslzoo.errors import UserError
from sslzoo.interop.configs import Setting, named, of
from sslzoo.interop.family import BLOCK, Family, blocks
from sslzoo.interop.image_families import MADE, constants
from sslzoo.interop.names import Weight, layer
from sslzoo.interop.states import StateDict, count, find, read, wanted

HEAD = 64  # channels of a head, in ViT-Ti to ViT-L
IMAGENET = [0.485, 0.456, 0.406], [0.229, 0.224, 0.225]
FUSED = tuple(f"{BLOCK}.attention.{part}" for part in ("query", "key", "value"))
TIMM = Family(
    "timm",
    "timm.models.vision_transformer.VisionTransformer",
    "image",
    "",
    [
        Weight(("frontend.cls_token",), "cls_token", "batch2"),
        Weight(("frontend.position_embedding",), "pos_embed", "batch"),
        Weight(("frontend.linear.weight",), "patch_embed.proj.weight", "patches"),
        Weight(("frontend.linear.bias",), "patch_embed.proj.bias"),
        *layer("trunk.norm", "norm"),
        *layer(FUSED, "blocks.{i}.attn.qkv"),
        *blocks(
            "blocks.{i}",
            {
                "attention_norm": "norm1",
                "attention.out": "attn.proj",
                "mlp_norm": "norm2",
                "up": "mlp.fc1",
                "down": "mlp.fc2",
            },
        ),
        Weight((f"{BLOCK}.attention_scale",), "blocks.{i}.ls1.gamma"),
        Weight((f"{BLOCK}.mlp_scale",), "blocks.{i}.ls2.gamma"),
    ],
    constants("learned") | {"pool": "first", "trunk.eps": 1e-6, "trunk.activation": "gelu"},
    (
        named(("trunk.dim", "frontend.dim"), "embed_dim"),
        named("trunk.depth", "depth"),
        named("trunk.heads", "num_heads"),
        Setting(
            ("trunk.hidden",),
            lambda config: int(of(config, "embed_dim") * of(config, "mlp_ratio")),
            lambda node: {"mlp_ratio": (node["trunk.hidden"] or 4 * node["trunk.dim"]) / node["trunk.dim"]},
        ),
        named("trunk.layer_scale", "init_values", None),
        named("frontend.size", "img_size"),
        named("frontend.patch", "patch_size"),
        named("frontend.channels", "in_chans", 3),
        named("frontend.mean", "mean", [0.5] * 3),
        named("frontend.std", "std", [0.5] * 3),
    ),
    ignored=(r"head\..*", r"head_dist\..*", r"fc_norm\..*"),
    made=MADE,
    alike=("frontend.position",),
)


def vit_arguments(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """`VisionTransformer`'s, of a state dict; heads are of 64 channels."""
    projection = wanted(state, "patch_embed.proj.weight", "timm's VisionTransformer")
    places = wanted(state, "pos_embed", "timm's VisionTransformer").shape[1]
    dim, channels, patch, _ = projection.shape
    return {
        "img_size": math.isqrt(places - 1) * patch,
        "patch_size": patch,
        "in_chans": channels,
        "embed_dim": dim,
        "depth": count(state, "blocks."),
        "num_heads": dim // HEAD,
        "mlp_ratio": len(state["blocks.0.mlp.fc1.weight"]) / dim,
        "init_values": 1.0 if "blocks.0.ls1.gamma" in state else None,
    }


def open_timm(name: str) -> StateDict:
    path, beside = find(name, "timm")
    state = read(path)
    said, config = beside.get("arguments"), vit_arguments(state)
    if said is not None:
        return StateDict(path, TIMM, said, state)
    picture = beside.get("pretrained_cfg", {})  # as timm writes it to a hub's folder
    config |= {k: picture[k] for k in ("mean", "std") if k in picture}
    assumed = f"taken for granted: heads of {HEAD} channels"
    assumed += "" if "mean" in picture else ", images normalised by 0.5 and 0.5"
    return StateDict(path, TIMM, config, state, assumed)


def resnet(depths: list[int], bottleneck: bool) -> Family:
    """The residual networks of these depths. Here their blocks are numbered through."""

    def normed(ours: str, conv: str, norm: str) -> list[Weight]:
        buffers = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
        return [
            Weight((f"{ours}.0.weight",), f"{conv}.weight"),
            *(Weight((f"{ours}.1.{name}",), f"{norm}.{name}") for name in buffers),
        ]

    weights, number = normed("stem", "conv1", "bn1"), 0
    for stage, depth in enumerate(depths, start=1):
        for place in range(depth):
            there = f"layer{stage}.{place}"
            for i in range(3 if bottleneck else 2):
                weights += normed(f"blocks.{number}.convs.{i}", f"{there}.conv{i + 1}", f"{there}.bn{i + 1}")
            weights += normed(f"blocks.{number}.shortcut", f"{there}.downsample.0", f"{there}.downsample.1")
            number += 1
    return Family(
        "torchvision",
        "torchvision.models.resnet.ResNet",
        "image",
        "",
        weights,
        {"_target_": "sslzoo.encoders.resnet.ResNet", "width": 64, "channels": 3, "stem": [7, 2], "pool": True},
        (
            named("depths", "layers"),
            named("bottleneck", "block", "BasicBlock", {"BasicBlock": False, "Bottleneck": True}),
            named("mean", "mean", IMAGENET[0]),
            named("std", "std", IMAGENET[1]),
        ),
        ignored=(r"fc\..*",),
        made=("mean", "std"),
    )


def open_torchvision(name: str) -> StateDict:
    path, beside = find(name, "torchvision")
    state = read(path)
    stem = wanted(state, "conv1.weight", "torchvision's ResNet")
    if list(stem.shape) != [64, 3, 7, 7] or "layer4.0.conv1.weight" not in state:
        raise UserError(f"{path} is no ResNet of torchvision's: its conv1.weight is {list(stem.shape)}")
    bottleneck = "layer1.0.conv3.weight" in state
    depths = [count(state, f"layer{stage}.") for stage in range(1, 5)]
    config = {"layers": depths, "block": "Bottleneck" if bottleneck else "BasicBlock"}
    assumed = "" if "arguments" in beside else "taken for granted: images of 224 pixels, normalised as ImageNet's"
    return StateDict(path, resnet(depths, bottleneck), beside.get("arguments", config), state, assumed)
