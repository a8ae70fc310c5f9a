"""Families of images: ViT, ViTMAE, DINOv2, with and without registers."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from sslzoo.errors import UserError
from sslzoo.interop.configs import ACTIVATIONS, Config, Setting, always, named, of
from sslzoo.interop.family import BLOCK, TASK_HEADS, Family, Head, blocks
from sslzoo.interop.names import Weight, layer
from sslzoo.interop.task_heads import TaskHead

Node = Mapping[str, Any]


def side(value: Any, name: str) -> int:
    """A size in pixels, a side of a square."""
    sides = set(value.values() if isinstance(value, Mapping) else value if isinstance(value, list) else [value])
    if len(sides) != 1:
        raise UserError(f"{name} is {value}: only squares can be read here")
    return int(sides.pop())


def image_size(config: Config) -> int:
    return side(of(config, "image_size"), "image_size")


def read_size(config: Config) -> int:
    """The size at which DINOv2's images are read: its positions are for larger ones."""
    return side(of(config, "preprocessor.crop_size", of(config, "preprocessor.size", image_size(config))), "size")


def normal(name: str, without: float) -> Any:
    """image_mean or image_std. without: what stands for none, where do_normalize is false."""

    def read(config: Config) -> list[float]:
        channels = of(config, "num_channels", 3)
        if not of(config, "preprocessor.do_normalize", True):
            return [without] * channels
        found = of(config, f"preprocessor.{name}", [0.5] * channels)
        return [float(x) for x in (found if isinstance(found, list) else [found] * channels)]

    return read


MEAN_STD = (
    Setting(
        ("frontend.mean",),
        normal("image_mean", 0.0),
        lambda node: {"preprocessor.image_mean": node["frontend.mean"]},
    ),
    Setting(
        ("frontend.std",),
        normal("image_std", 1.0),
        lambda node: {"preprocessor.image_std": node["frontend.std"]},
    ),
)
TRUNK = (
    named(("trunk.dim", "frontend.dim"), "hidden_size"),
    named("trunk.depth", "num_hidden_layers"),
    named("trunk.heads", "num_attention_heads"),
    named("trunk.dropout", "hidden_dropout_prob", 0.0),
    named("trunk.attention_dropout", "attention_probs_dropout_prob", 0.0),
    named("trunk.eps", "layer_norm_eps", 1e-12),
    named("trunk.init_std", "initializer_range", 0.02),
    named("frontend.channels", "num_channels", 3),
    Setting(
        ("frontend.patch",),
        lambda config: side(of(config, "patch_size"), "patch_size"),
        lambda node: {"patch_size": node["frontend.patch"]},
    ),
    *MEAN_STD,
)
MLP = (
    Setting(
        ("trunk.hidden",),
        lambda config: of(config, "intermediate_size"),
        lambda node: {"intermediate_size": node["trunk.hidden"] or 4 * node["trunk.dim"]},
    ),
    named("trunk.activation", "hidden_act", "gelu", ACTIVATIONS),
)
SIZE = (
    Setting(
        ("frontend.size",),
        image_size,
        lambda node: {
            "image_size": node["frontend.size"],
            "preprocessor.size": dict.fromkeys(("height", "width"), node["frontend.size"]),
        },
    ),
)


def gated_width(dim: int, ratio: float) -> int:
    """DINOv2's: two thirds of the MLP, rounded up to a multiple of 8."""
    return (int(int(dim * ratio) * 2 / 3) + 7) // 8 * 8


def mlp_width(config: Config) -> int:
    dim, ratio = of(config, "hidden_size"), of(config, "mlp_ratio", 4)
    return gated_width(dim, ratio) if of(config, "use_swiglu_ffn", False) else int(dim * ratio)


def mlp_ratio(node: Node) -> dict[str, Any]:
    dim = node["trunk.dim"]
    ratios = (4, node["trunk.hidden"] * 1.5 / dim) if node["trunk.activation"] == "swiglu" else ()
    fits = [ratio for ratio in ratios if gated_width(dim, ratio) == node["trunk.hidden"]]
    ratio = fits[0] if fits else (node["trunk.hidden"] or 4 * dim) / dim
    return {"mlp_ratio": int(ratio) if ratio == int(ratio) else ratio}


def activation(config: Config) -> str:
    if of(config, "use_swiglu_ffn", False):
        return "swiglu"
    said = of(config, "hidden_act", "gelu")
    if said not in ACTIVATIONS:
        raise UserError(f"hidden_act is {said!r}; known are {', '.join(ACTIVATIONS)}")
    return ACTIVATIONS[said]


def said_activation(node: Node) -> dict[str, Any]:
    gated = node["trunk.activation"] == "swiglu"
    names = {ours: theirs for theirs, ours in reversed(ACTIVATIONS.items())}
    return {"use_swiglu_ffn": gated, "hidden_act": "gelu" if gated else names.get(node["trunk.activation"])}


def constants(position: str) -> dict[str, Any]:
    return {
        "_target_": "sslzoo.encoders.sequence.SequenceEncoder",
        "frontend._target_": "sslzoo.encoders.image.Patches",
        "frontend.position": position,
        "trunk._target_": "sslzoo.encoders.transformer.Transformer",
        "trunk.norm": "pre",
    }


EMBEDDINGS = [
    Weight(("frontend.cls_token",), "embeddings.cls_token", "batch2"),
    Weight(("frontend.position_embedding",), "embeddings.position_embeddings", "batch"),
    Weight(("frontend.linear.weight",), "embeddings.patch_embeddings.projection.weight", "patches"),
    Weight(("frontend.linear.bias",), "embeddings.patch_embeddings.projection.bias"),
    *layer("trunk.norm", "layernorm"),
]
ATTENTION = {
    "attention.query": "attention.attention.query",
    "attention.key": "attention.attention.key",
    "attention.value": "attention.attention.value",
    "attention.out": "attention.output.dense",
}
PARTS = ATTENTION | {
    "attention_norm": "layernorm_before",
    "up": "intermediate.dense",
    "down": "output.dense",
    "mlp_norm": "layernorm_after",
}
# as transformers 5 has them in memory, and may save them
NOW = {
    r"^(vit\.)?layers\.(\d+)\.": r"\1encoder.layer.\2.",
    r"\.decoder_encoder\.layer\.": ".decoder_layers.",
    r"\.attention\.q_proj\.": ".attention.attention.query.",
    r"\.attention\.k_proj\.": ".attention.attention.key.",
    r"\.attention\.v_proj\.": ".attention.attention.value.",
    r"\.attention\.o_proj\.": ".attention.output.dense.",
}
PICTURES = {
    "image_processor_type": "ViTImageProcessor",
    "do_normalize": True,
    "do_rescale": True,
    "do_resize": True,
    "resample": 3,
    "rescale_factor": 1 / 255,
}
MADE = (r"frontend\.(mean|std)",)
VIT_FIXED = {"qkv_bias": True, "pooler_act": "tanh"}
VIT = Family(
    "vit",
    "ViTModel",
    "image",
    "vit.",
    [*EMBEDDINGS, *blocks("encoder.layer.{i}", PARTS), *layer("pooler", "pooler.dense")],
    constants("learned"),
    (*TRUNK, *MLP, *SIZE),
    fixed=VIT_FIXED,
    alike=("frontend.position",),
    ignored=("embeddings.mask_token", r"decoder\..*", *TASK_HEADS),
    made=MADE,
    renamed=NOW,
    preprocessor=PICTURES,
    tasks=(TaskHead("item_first", "ViTForImageClassification", layer("out", "classifier")),),
)
DECODER = {
    "decoder.dim": "decoder_hidden_size",
    "decoder.depth": "decoder_num_hidden_layers",
    "decoder.heads": "decoder_num_attention_heads",
    "decoder.eps": "layer_norm_eps",
    "ratio": "mask_ratio",
    "standardize": "norm_pix_loss",
}
VIT_MAE = Family(
    "vit_mae",
    "ViTMAEModel",
    "image",
    "vit.",
    [*EMBEDDINGS, *blocks("encoder.layer.{i}", PARTS)],
    constants("sine"),
    (*TRUNK, *MLP, *SIZE),
    fixed={"qkv_bias": True},
    heads=(
        Head(
            "mae",
            "ViTMAEForPreTraining",
            [
                Weight(("mask_token",), "decoder.mask_token", "batch2"),
                Weight(("decoder_pos_embed",), "decoder.decoder_pos_embed", "batch"),
                *layer("decoder_embed", "decoder.decoder_embed"),
                *layer("decoder_pred", "decoder.decoder_pred"),
                *layer("decoder.norm", "decoder.decoder_norm"),
                *blocks("decoder.decoder_layers.{i}", PARTS, "decoder.blocks.{i}"),
            ],
            settings=(
                *(named(ours, theirs) for ours, theirs in DECODER.items()),
                Setting(
                    ("decoder.hidden",),
                    lambda config: of(config, "decoder_intermediate_size"),
                    lambda node: {"decoder_intermediate_size": node["decoder.hidden"] or 4 * node["decoder.dim"]},
                ),
                named("decoder.activation", "hidden_act", "gelu", ACTIVATIONS),
            ),
        ),
    ),
    ignored=(r"decoder\..*", *TASK_HEADS),
    made=MADE,
    renamed=NOW,
    preprocessor=PICTURES,
)
DINOV2 = Family(
    "dinov2",
    "Dinov2Model",
    "image",
    "dinov2.",
    [
        *EMBEDDINGS,
        # the gate and its input are one there
        *layer((f"{BLOCK}.gate", f"{BLOCK}.up"), "encoder.layer.{i}.mlp.weights_in"),
        *(
            Weight((f"{BLOCK}.down.{x}",), f"encoder.layer.{{i}}.mlp.weights_out.{x}", beside=f"{BLOCK}.gate.weight")
            for x in ("weight", "bias")
        ),
        *blocks("encoder.layer.{i}", ATTENTION | {"attention_norm": "norm1", "mlp_norm": "norm2"}),
        *blocks("encoder.layer.{i}", {"up": "mlp.fc1", "down": "mlp.fc2"}),
        Weight((f"{BLOCK}.attention_scale",), "encoder.layer.{i}.layer_scale1.lambda1"),
        Weight((f"{BLOCK}.mlp_scale",), "encoder.layer.{i}.layer_scale2.lambda1"),
    ],
    constants("learned"),
    (
        *TRUNK,
        Setting(("trunk.hidden",), mlp_width, mlp_ratio),
        Setting(("trunk.activation",), activation, said_activation),
        named("trunk.layer_scale", "layerscale_value", 1.0),
        Setting(
            ("frontend.size",),
            read_size,
            lambda node: {
                f"preprocessor.{name}": dict.fromkeys(("height", "width"), node["frontend.size"])
                for name in ("size", "crop_size")
            },
        ),
        Setting(
            ("frontend.trained_size",),
            lambda config: None if read_size(config) == image_size(config) else image_size(config),
            lambda node: {"image_size": node["frontend.trained_size"] or node["frontend.size"]},
        ),
        always("use_mask_token", False),
    ),
    fixed={"qkv_bias": True},
    ignored=("embeddings.mask_token", *TASK_HEADS),
    made=MADE,
    renamed=NOW,
    preprocessor=PICTURES,
)
DINOV2_REGISTERS = replace(
    DINOV2,
    name="dinov2_with_registers",
    model="Dinov2WithRegistersModel",
    prefix="dinov2_with_registers.",
    weights=[*DINOV2.weights, Weight(("frontend.register_tokens",), "embeddings.register_tokens", "batch")],
    settings=(
        *(setting for setting in DINOV2.settings if setting.ours),  # it has no setting for the mask token
        named("frontend.registers", "num_register_tokens", 4),
    ),
)
FAMILIES = (VIT, VIT_MAE, DINOV2, DINOV2_REGISTERS)
