"""wav2vec 2.0 and HuBERT as torchaudio and fairseq name their weights. Both have the arguments of torchaudio's
`wav2vec2_model`; of a bare state dict they are told by its shapes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from torch import Tensor

from sslzoo.errors import UserError
from sslzoo.interop.configs import Setting, named, of
from sslzoo.interop.family import Family, Head, blocks, names_of_now
from sslzoo.interop.names import Weight, layer
from sslzoo.interop.speech_families import BLOCK_OF_FAIRSEQ, BLOCK_OF_WAV2VEC2, CODES, OLD_WEIGHT_NORM, constants
from sslzoo.interop.states import StateDict, count, find, read, wanted

STRIDES = [5, 2, 2, 2, 2, 2, 2]
HEAD = 64  # channels of a head, in all published models
NORMS = {"group_norm": "group", "layer_norm": "layer"}
SETTINGS = (
    named(("trunk.dim", "frontend.dim", "trunk.position.dim"), "encoder_embed_dim"),
    named("trunk.depth", "encoder_num_layers"),
    named("trunk.heads", "encoder_num_heads"),
    Setting(
        ("trunk.hidden",),
        lambda config: of(config, "encoder_ff_interm_features"),
        lambda node: {"encoder_ff_interm_features": node["trunk.hidden"] or 4 * node["trunk.dim"]},
    ),
    named("trunk.dropout", "encoder_dropout", 0.1),
    named("trunk.attention_dropout", "encoder_attention_dropout", 0.1),
    named("trunk.activation_dropout", "encoder_ff_interm_dropout", 0.0),
    named("trunk.layer_drop", "encoder_layer_drop", 0.0),
    named("trunk.norm", "encoder_layer_norm_first", False, {False: "post", True: "pre"}),
    named("trunk.position.kernel", "encoder_pos_conv_kernel", 128),
    named("trunk.position.groups", "encoder_pos_conv_groups", 16),
    named("frontend.norm", "extractor_mode", "group_norm", NORMS),
    named("frontend.layers", "extractor_conv_layer_config"),
    named("frontend.bias", "extractor_conv_bias", False),
    named("frontend.dropout", "encoder_projection_dropout", 0.1),
    named("frontend.normalize_input", "normalize", False),
    named("frontend.sample_rate", "sample_rate", 16000),
)
ARGUMENTS = {"trunk.eps": 1e-5, "frontend.eps": 1e-5, "trunk.activation": "gelu"}
POSITION = ("bias", "parametrizations.weight.original0", "parametrizations.weight.original1")
TORCHAUDIO = Family(
    "torchaudio",
    "torchaudio.models.wav2vec2_model",
    "speech",
    "wav2vec2.",
    [
        *layer("frontend.layers.{c}.conv", "feature_extractor.conv_layers.{c}.conv"),
        *layer("frontend.layers.{c}.norm", "feature_extractor.conv_layers.{c}.layer_norm"),
        *layer("frontend.norm", "encoder.feature_projection.layer_norm"),
        *layer("frontend.linear", "encoder.feature_projection.projection"),
        *(
            Weight((f"trunk.position.conv.{name}",), f"encoder.transformer.pos_conv_embed.conv.{name}")
            for name in POSITION
        ),
        *layer("trunk.norm", "encoder.transformer.layer_norm"),
        *blocks("encoder.transformer.layers.{i}", BLOCK_OF_WAV2VEC2),
    ],
    constants() | ARGUMENTS,
    SETTINGS,
    ignored=(r"aux\..*", r"mask_generator\..*", r"logit_generator\..*"),
    renamed=OLD_WEIGHT_NORM,
)
FAIRSEQ = replace(
    TORCHAUDIO,
    name="fairseq",
    model="fairseq",
    prefix="",
    weights=[
        *layer("frontend.layers.{c}.conv", "feature_extractor.conv_layers.{c}.0"),
        *layer("frontend.layers.{c}.norm", "feature_extractor.conv_layers.{c}.2"),
        *layer("frontend.norm", "layer_norm"),
        *layer("frontend.linear", "post_extract_proj"),
        *(Weight((f"trunk.position.conv.{name}",), f"encoder.pos_conv.0.{name}") for name in POSITION),
        *layer("trunk.norm", "encoder.layer_norm"),
        *blocks("encoder.layers.{i}", BLOCK_OF_FAIRSEQ),
    ],
    heads=(
        Head(
            "wav2vec2",
            "",
            [
                Weight(("quantizer.codes",), "quantizer.vars", "codes"),
                *layer("quantizer.logits", "quantizer.weight_proj"),
                *layer("project_context", "final_proj"),
                *layer("project_code", "project_q"),
                Weight(("mask_token",), "mask_emb"),
            ],
            settings=tuple(named(ours, theirs) for ours, theirs in CODES.items() if ours in ("groups", "entries"))
            + tuple(named(ours, CODES[ours]) for ours in ("code_dim", "output_dim")),
        ),
    ),
    # a fine-tuned model has the encoder within; with "layer", the norm lies between two transpositions
    renamed={
        **OLD_WEIGHT_NORM,
        r"^(w2v_encoder\.)?w2v_model\.": "",
        r"^(feature_extractor\.conv_layers\.\d+\.2)\.1\.": r"\1.",
    },
    ignored=(
        "mask_emb",
        "label_embs_concat",
        r"(w2v_encoder\.)?proj\..*",
        r"(quantizer|final_proj|project_q|target_glu)\..*",
        "_ema|.*num_updates",
    ),
    exports=False,
)
PLACES = {  # of a state dict, to tell its shapes by: projection, a layer, its first linear layer, a convolution
    "torchaudio": (
        "encoder.feature_projection.projection",
        "encoder.transformer.layers.",
        "feed_forward.intermediate_dense",
        "conv",
    ),
    "fairseq": ("post_extract_proj", "encoder.layers.", "fc1", "0"),
}


def arguments(state: Mapping[str, Tensor], kind: str) -> dict[str, Any]:
    """`wav2vec2_model`'s, of a state dict under its names of now. Strides, heads and normalisation are those of the
    published models; one with other convolutions is refused."""
    projection, layers, up, conv = PLACES[kind]
    start = "feature_extractor.conv_layers."
    dim = len(wanted(state, f"{projection}.weight", f"{kind}'s wav2vec 2.0 or HuBERT"))
    convs = [state[f"{start}{c}.{conv}.weight"] for c in range(count(state, start))]
    norm = "layer_norm" if kind == "torchaudio" else "2"
    large = f"{start}1.{norm}.weight" in state
    if len(convs) != len(STRIDES):
        raise UserError(
            f"it has {len(convs)} convolutions, and their strides are known for {len(STRIDES)}: put the arguments of "
            "wav2vec2_model in a config.json beside model.safetensors, as `sslzoo export to=torchaudio` does"
        )
    position = next(x for name, x in state.items() if name.endswith("original1"))
    return {
        "extractor_mode": "layer_norm" if large else "group_norm",
        "extractor_conv_layer_config": [[*x.shape[::2], s] for x, s in zip(convs, STRIDES, strict=True)],
        "extractor_conv_bias": f"{start}0.{conv}.bias" in state,
        "encoder_embed_dim": dim,
        "encoder_pos_conv_kernel": position.shape[2],
        "encoder_pos_conv_groups": dim // position.shape[1],
        "encoder_num_layers": count(state, layers),
        "encoder_num_heads": dim // HEAD,
        "encoder_ff_interm_features": len(state[f"{layers}0.{up}.weight"]),
        "encoder_layer_norm_first": large,
        "normalize": large,
    }


def codes(state: Mapping[str, Tensor]) -> dict[str, Any]:
    """The quantiser's settings, by fairseq's tensors."""
    if not {"quantizer.vars", "project_q.weight"} <= state.keys():
        return {}
    output, dim = state["project_q.weight"].shape
    groups = dim // state["quantizer.vars"].shape[2]
    sizes = {"groups": groups, "entries": state["quantizer.vars"].shape[1] // groups}
    return {CODES[name]: value for name, value in {**sizes, "code_dim": dim, "output_dim": output}.items()}


def open_wave(name: str, family: Family, given: dict[str, Any] | None = None) -> StateDict:
    """A state dict of a file or a folder. given: its arguments, where they are known."""
    path, beside = find(name, family.name)
    state = names_of_now(read(path), family)
    said = given or beside.get("arguments")
    if said is not None:
        return StateDict(path, family, said, state)
    config = arguments(state, family.name) | (codes(state) if family is FAIRSEQ else {})
    how = "standardised" if config["normalize"] else "as they are"
    assumed = f"taken for granted: strides {STRIDES}, heads of {HEAD} channels, inputs at 16,000 Hz {how}"
    return StateDict(path, family, config, state, assumed)
