"""Families of speech: wav2vec 2.0, HuBERT, WavLM, data2vec, Whisper's encoder."""

from collections.abc import Mapping
from typing import Any

from sslzoo.interop.configs import ACTIVATIONS, Config, Setting, always, named, of
from sslzoo.interop.family import BLOCK, TASK_HEADS, Family, Head, blocks
from sslzoo.interop.names import Weight, layer
from sslzoo.interop.task_heads import speech_heads

CONVOLUTIONS = ("conv_dim", "conv_kernel", "conv_stride")


def triples(config: Config) -> list[list[int]]:
    """Channels, kernel and stride of each convolution."""
    return [list(triple) for triple in zip(*(of(config, name) for name in CONVOLUTIONS), strict=True)]


def apart(node: Mapping[str, Any]) -> dict[str, Any]:
    parts = map(list, zip(*node["frontend.layers"], strict=True))
    return {**dict(zip(CONVOLUTIONS, parts, strict=True)), "num_feat_extract_layers": len(node["frontend.layers"])}


TRUNK = (
    named(("trunk.dim", "frontend.dim", "trunk.position.dim"), "hidden_size"),
    named("trunk.depth", "num_hidden_layers"),
    named("trunk.heads", "num_attention_heads"),
    Setting(
        ("trunk.hidden",),
        lambda config: of(config, "intermediate_size"),
        lambda node: {"intermediate_size": node["trunk.hidden"] or 4 * node["trunk.dim"]},
    ),
    named("trunk.activation", "hidden_act", "gelu", ACTIVATIONS),
    named("trunk.dropout", "hidden_dropout", 0.1),
    named("trunk.attention_dropout", "attention_dropout", 0.1),
    named("trunk.activation_dropout", "activation_dropout", 0.1),
    named("trunk.layer_drop", "layerdrop", 0.1),
    named(("trunk.eps", "frontend.eps"), "layer_norm_eps", 1e-5),
    named(("trunk.init_std", "frontend.init_std"), "initializer_range", 0.02),
)
FRONTEND = (
    Setting(("frontend.layers",), triples, apart),
    named("frontend.bias", "conv_bias", False),
    named("frontend.dropout", "feat_proj_dropout", 0.0),
    named("frontend.sample_rate", "preprocessor.sampling_rate", 16000),
    named("frontend.normalize_input", "preprocessor.do_normalize", True),
    # a mask token is an objective's here: without masks, theirs has none
    *(always(name, 0.0) for name in ("mask_time_prob", "mask_feature_prob")),
)
NORMS = (
    named("trunk.norm", "do_stable_layer_norm", False, {False: "post", True: "pre"}),
    named("frontend.norm", "feat_extract_norm", "group", {"group": "group", "layer": "layer"}),
)
CONV_POSITION = (
    named("trunk.position.kernel", "num_conv_pos_embeddings", 128),
    named("trunk.position.groups", "num_conv_pos_embedding_groups", 16),
)


def constants(trunk: str = "transformer.Transformer", position: str = "transformer.ConvPosition") -> dict[str, Any]:
    return {
        "_target_": "sslzoo.encoders.sequence.SequenceEncoder",
        "pool": "mean",
        "frontend._target_": "sslzoo.encoders.speech.Waveform",
        "trunk._target_": f"sslzoo.encoders.{trunk}",
        "trunk.position._target_": f"sslzoo.encoders.{position}",
    }


WAVE = [
    *layer("frontend.layers.{c}.conv", "feature_extractor.conv_layers.{c}.conv"),
    *layer("frontend.layers.{c}.norm", "feature_extractor.conv_layers.{c}.layer_norm"),
    *layer("frontend.norm", "feature_projection.layer_norm"),
    *layer("frontend.linear", "feature_projection.projection"),
]
WEIGHT_NORM = [
    Weight((f"trunk.position.conv.{name}",), f"encoder.pos_conv_embed.conv.{name}")
    for name in ("bias", "parametrizations.weight.original0", "parametrizations.weight.original1")
]
BLOCK_OF_WAV2VEC2 = {
    "attention.query": "attention.q_proj",
    "attention.key": "attention.k_proj",
    "attention.value": "attention.v_proj",
    "attention.out": "attention.out_proj",
    "attention_norm": "layer_norm",
    "up": "feed_forward.intermediate_dense",
    "down": "feed_forward.output_dense",
    "mlp_norm": "final_layer_norm",
}
BLOCK_OF_FAIRSEQ = {  # and of Whisper
    "attention.query": "self_attn.q_proj",
    "attention.key": "self_attn.k_proj",
    "attention.value": "self_attn.v_proj",
    "attention.out": "self_attn.out_proj",
    "attention_norm": "self_attn_layer_norm",
    "up": "fc1",
    "down": "fc2",
    "mlp_norm": "final_layer_norm",
}
LAYERS = [
    *layer("trunk.norm", "encoder.layer_norm"),
    *blocks("encoder.layers.{i}", BLOCK_OF_WAV2VEC2),
]
OLD_WEIGHT_NORM = {
    r"\.weight_g$": ".parametrizations.weight.original0",
    r"\.weight_v$": ".parametrizations.weight.original1",
}
LEFT = ("masked_spec_embed", r"lm_head\..*", r"projector\..*", "layer_weights", *TASK_HEADS)
SOUND = {
    "feature_extractor_type": "Wav2Vec2FeatureExtractor",
    "feature_size": 1,
    "padding_side": "right",
    "padding_value": 0.0,
}
CODES = {
    "groups": "num_codevector_groups",
    "entries": "num_codevectors_per_group",
    "code_dim": "codevector_dim",
    "output_dim": "proj_codevector_dim",
    "negatives": "num_negatives",
    "temperature": "contrastive_logits_temperature",
    "diversity": "diversity_loss_weight",
    "feature_dropout": "feat_quantizer_dropout",
}
WAV2VEC2 = Family(
    "wav2vec2",
    "Wav2Vec2Model",
    "speech",
    "wav2vec2.",
    [*WAVE, *WEIGHT_NORM, *LAYERS],
    constants(),
    (*TRUNK, *FRONTEND, *NORMS, *CONV_POSITION),
    fixed={"add_adapter": False, "feat_extract_activation": "gelu"},
    heads=(
        Head(
            "wav2vec2",
            "Wav2Vec2ForPreTraining",
            [
                Weight(("quantizer.codes",), "quantizer.codevectors", "codes"),
                *layer("quantizer.logits", "quantizer.weight_proj"),
                *layer("project_context", "project_hid"),
                *layer("project_code", "project_q"),
            ],
            [Weight(("mask_token",), "masked_spec_embed")],
            settings=(
                *(named(ours, theirs) for ours, theirs in CODES.items()),
                always("mask_time_prob", 0.65),  # above 0, for there is a mask token
            ),
        ),
    ),
    ignored=(*LEFT, r"quantizer\..*", r"project_(hid|q)\..*"),
    renamed=OLD_WEIGHT_NORM,
    preprocessor=SOUND,
    tasks=speech_heads("Wav2Vec2"),
)
HUBERT = Family(
    "hubert",
    "HubertModel",
    "speech",
    "hubert.",
    WAV2VEC2.weights,
    constants(),
    WAV2VEC2.settings,
    fixed={"feat_proj_layer_norm": True, "conv_pos_batch_norm": False, "feat_extract_activation": "gelu"},
    ignored=LEFT,
    renamed=OLD_WEIGHT_NORM,
    preprocessor=SOUND,
    tasks=tuple(head for head in speech_heads("Hubert") if "Frame" not in head.model),
)
RELATIVE = "trunk.relative.embedding.weight"
WAVLM = Family(
    "wavlm",
    "WavLMModel",
    "speech",
    "wavlm.",
    [
        *WAV2VEC2.weights,
        Weight((f"{BLOCK}.attention.gate_scale",), "encoder.layers.{i}.attention.gru_rel_pos_const"),
        *layer(f"{BLOCK}.attention.gate", "encoder.layers.{i}.attention.gru_rel_pos_linear"),
        Weight((RELATIVE,), "encoder.layers.0.attention.rel_attn_embed.weight"),  # the first layer's is all layers'
    ],
    constants("relative.RelativeTransformer"),
    (
        *WAV2VEC2.settings,
        named("trunk.buckets", "num_buckets", 320),
        named("trunk.max_distance", "max_bucket_distance", 800),
    ),
    fixed={"add_adapter": False, "feat_extract_activation": "gelu"},
    ignored=WAV2VEC2.ignored,
    renamed=OLD_WEIGHT_NORM,
    preprocessor=SOUND,
    tasks=speech_heads("WavLM"),
)
DATA2VEC = Family(
    "data2vec-audio",
    "Data2VecAudioModel",
    "speech",
    "data2vec_audio.",
    [*WAVE, *layer("trunk.position.layers.{p}", "encoder.pos_conv_embed.layers.{p}.conv"), *LAYERS],
    constants(position="conv_position.StackedConvPosition") | {"trunk.norm": "post", "frontend.norm": "layer"},
    (
        *TRUNK,
        *FRONTEND,
        named("trunk.position.depth", "num_conv_pos_embeddings", 5),
        named("trunk.position.kernel", "conv_pos_kernel_size", 19),
        named("trunk.position.groups", "num_conv_pos_embedding_groups", 16),
    ),
    fixed={"add_adapter": False, "feat_extract_activation": "gelu"},
    ignored=LEFT,
    preprocessor=SOUND,
    tasks=speech_heads("Data2VecAudio"),
)
WHISPER = Family(
    "whisper",
    "WhisperModel",
    "speech",
    "",
    [
        *layer("frontend.conv1", "conv1"),
        *layer("frontend.conv2", "conv2"),
        Weight(("frontend.position_embedding",), "embed_positions.weight"),
        *layer("trunk.norm", "layer_norm"),
        *(w for w in blocks("layers.{i}", BLOCK_OF_FAIRSEQ) if not w.theirs.endswith("k_proj.bias")),
    ],
    {
        "_target_": "sslzoo.encoders.whisper.WhisperEncoder",
        "frontend._target_": "sslzoo.encoders.whisper.WhisperMel",
        "trunk._target_": "sslzoo.encoders.transformer.Transformer",
        "trunk.norm": "pre",
        "trunk.eps": 1e-5,
    },
    (
        named(("trunk.dim", "frontend.dim"), "d_model"),
        named("trunk.depth", "encoder_layers"),
        named("trunk.heads", "encoder_attention_heads"),
        named("trunk.hidden", "encoder_ffn_dim"),
        named("trunk.activation", "activation_function", "gelu", ACTIVATIONS),
        named(("trunk.dropout", "frontend.dropout"), "dropout", 0.0),
        named("trunk.attention_dropout", "attention_dropout", 0.0),
        named("trunk.activation_dropout", "activation_dropout", 0.0),
        named("trunk.layer_drop", "encoder_layerdrop", 0.0),
        named("trunk.init_std", "init_std", 0.02),
        Setting(
            ("frontend.n_mels",),
            lambda config: of(config, "num_mel_bins"),
            lambda node: {
                "num_mel_bins": node["frontend.n_mels"],
                "preprocessor.feature_size": node["frontend.n_mels"],
            },
        ),
        named("frontend.sample_rate", "preprocessor.sampling_rate", 16000),
        named("frontend.fft", "preprocessor.n_fft", 400),
        named("frontend.hop", "preprocessor.hop_length", 160),
        Setting(
            ("frontend.frames",),
            lambda config: 2 * of(config, "max_source_positions"),
            lambda node: {
                "max_source_positions": node["frontend.frames"] // 2,
                "preprocessor.chunk_length": node["frontend.frames"]
                * node["frontend.hop"]
                // node["frontend.sample_rate"],
            },
        ),
        always("decoder_layers", 0),
    ),
    fixed={"scale_embedding": False},
    ignored=(r"(model\.)?decoder\..*", r"proj_out\..*", "masked_spec_embed", r"projector\..*", *TASK_HEADS),
    renamed={r"^(model\.)?encoder\.": ""},
    made=(r"trunk\.blocks\.\d+\.attention\.key\.bias",),  # 0: a bias of all keys alike changes no softmax
    at="encoder.",
    lacks="the decoder, of which transformers makes a new one: AutoModel.from_pretrained(FOLDER).encoder",
    preprocessor={"feature_extractor_type": "WhisperFeatureExtractor", "padding_side": "right", "padding_value": 0.0},
)
FAMILIES = (WAV2VEC2, HUBERT, WAVLM, DATA2VEC, WHISPER)
