"""The architectures of transformers that are read here: of each, its settings and its weights beside ours.

The trunk is one (`encoders.transformer.Transformer`), and what tells the families apart is a table each.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from sslzoo.interop.names import Weight, layer

ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
BLOCK = "trunk.blocks.{i}"

# our settings: theirs, as BERT, RoBERTa, ALBERT and ELECTRA call them
SETTINGS = {
    "dim": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "eps": "layer_norm_eps",
    "init_std": "initializer_range",
    "vocab_size": "vocab_size",
    "max_tokens": "max_position_embeddings",
    "segments": "type_vocab_size",
}
DEFAULTS = {"init_std": 0.02, "eps": 1e-12, "activation": "gelu", "hidden": None}


@dataclass(frozen=True)
class Head:
    """Weights that are the state of an objective, by the option of conf/objective. activation: ours, that the encoder
    must have for the head to have it, too; None where it has its own."""

    objective: str
    weights: list[Weight] = field(default_factory=list)
    activation: str | None = None


@dataclass(frozen=True)
class Family:
    """settings: ours by name, theirs or a value. factorised: whether embeddings have a size of their own
    (`embedding_size`), a norm under the projection.

    encoder: weights of the encoder, `prefix` before their names in models with a head. pooler: BERT's. up: the
    projection of factorised embeddings. heads: what heads for pretraining are here, of which the first is taken that is
    there. tied: weights that are stored twice, by which. ignored: patterns of weights that may be there and have no
    place here: buffers, and heads of tasks. fixed: settings that must be as they are here.
    """

    name: str
    prefix: str
    encoder: list[Weight]
    settings: Mapping[str, Any]
    fixed: Mapping[str, Any] = field(default_factory=dict)
    factorised: bool = False
    causal: bool = False
    shared: bool = False
    offset: bool = False
    pooler: list[Weight] = field(default_factory=list)
    up: list[Weight] = field(default_factory=list)
    heads: tuple[Head, ...] = ()
    tied: Mapping[str, str] = field(default_factory=dict)
    ignored: tuple[str, ...] = ()


def embeddings(theirs: str, norm: str, segments: bool = True) -> list[Weight]:
    """The front end of the BERT family. norm: what their LayerNorm is here."""
    found = [
        Weight(("frontend.token_embedding.weight",), f"{theirs}.word_embeddings.weight", rows="vocabulary"),
        Weight(("frontend.position_embedding.weight",), f"{theirs}.position_embeddings.weight", rows="positions"),
    ]
    if segments:
        found.append(Weight(("frontend.segment_embedding.weight",), f"{theirs}.token_type_embeddings.weight"))
    return [*found, *layer(norm, f"{theirs}.LayerNorm")]


def blocks(theirs: str, names: Mapping[str, str], ours: str = BLOCK) -> list[Weight]:
    """names: their parts of a layer by ours."""
    return [w for part, name in names.items() for w in layer(f"{ours}.{part}", f"{theirs}.{name}")]


def masked_head(dense: str, norm: str, bias: str) -> list[Weight]:
    """BERT's language-model head, as `objectives.bert.BERT` has it."""
    head = [*layer("dense", dense), *layer("norm", norm)]
    return [*head, Weight(("bias",), bias, rows="vocabulary")]


PARTS = {
    "attention.query": "attention.self.query",
    "attention.key": "attention.self.key",
    "attention.value": "attention.self.value",
    "attention.out": "attention.output.dense",
    "attention_norm": "attention.output.LayerNorm",
    "up": "intermediate.dense",
    "down": "output.dense",
    "mlp_norm": "output.LayerNorm",
}
BERT_LAYERS = blocks("encoder.layer.{i}", PARTS)
BUFFERS = r"(.*\.)?embeddings\.(position_ids|token_type_ids)"
TASK_HEADS = (r"(pre_)?classifier\..*", r"qa_outputs\..*", r"score\..*")
ABSOLUTE = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}

BERT_HEAD = masked_head(
    "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"
)
BERT = Family(
    "bert",
    "bert.",
    [*embeddings("embeddings", "trunk.norm"), *BERT_LAYERS],
    SETTINGS,
    fixed=ABSOLUTE,
    pooler=layer("pooler", "pooler.dense"),
    heads=(
        Head("bert_nsp", [*BERT_HEAD, *layer("pair_head.out", "cls.seq_relationship")], "gelu"),
        Head("bert", BERT_HEAD, "gelu"),
    ),
    tied={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=(BUFFERS, r"cls\..*", *TASK_HEADS),
)
ROBERTA = Family(
    "roberta",
    "roberta.",
    BERT.encoder,
    SETTINGS,
    fixed=ABSOLUTE,
    offset=True,
    pooler=BERT.pooler,
    heads=(Head("roberta", masked_head("lm_head.dense", "lm_head.layer_norm", "lm_head.bias")),),
    tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"},
    ignored=(BUFFERS, *TASK_HEADS),
)
ALBERT = Family(
    "albert",
    "albert.",
    [
        *embeddings("embeddings", "frontend.norm"),
        *blocks(
            "encoder.albert_layer_groups.0.albert_layers.0",
            {
                "attention.query": "attention.query",
                "attention.key": "attention.key",
                "attention.value": "attention.value",
                "attention.out": "attention.dense",
                "attention_norm": "attention.LayerNorm",
                "up": "ffn",
                "down": "ffn_output",
                "mlp_norm": "full_layer_layer_norm",
            },
            "trunk.blocks.0",
        ),
    ],
    SETTINGS,
    fixed={"position_embedding_type": "absolute", "num_hidden_groups": 1, "inner_group_num": 1},
    factorised=True,
    shared=True,
    pooler=layer("pooler", "pooler"),
    up=layer("frontend.up", "encoder.embedding_hidden_mapping_in"),
    heads=(
        Head(
            "albert",
            [
                *masked_head("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
                *layer("pair_head.out", "sop_classifier.classifier"),
            ],
            "gelu_tanh",
        ),
    ),
    tied={
        "predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
    ignored=(BUFFERS, r"predictions\..*", r"sop_classifier\..*", *TASK_HEADS),
)
ELECTRA = Family(
    "electra",
    "electra.",
    [*embeddings("embeddings", "frontend.norm"), *BERT_LAYERS],
    SETTINGS,
    fixed=ABSOLUTE,
    factorised=True,
    up=layer("frontend.up", "embeddings_project"),
    heads=(
        Head(
            "bert",
            masked_head("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
        ),
    ),
    tied={"generator_lm_head.weight": "embeddings.word_embeddings.weight"},
    ignored=(BUFFERS, r"discriminator_predictions\..*", *TASK_HEADS),
)
DISTILBERT = Family(
    "distilbert",
    "distilbert.",
    [
        *embeddings("embeddings", "trunk.norm", segments=False),
        *blocks(
            "transformer.layer.{i}",
            {
                "attention.query": "attention.q_lin",
                "attention.key": "attention.k_lin",
                "attention.value": "attention.v_lin",
                "attention.out": "attention.out_lin",
                "attention_norm": "sa_layer_norm",
                "up": "ffn.lin1",
                "down": "ffn.lin2",
                "mlp_norm": "output_layer_norm",
            },
        ),
    ],
    SETTINGS
    | {
        "dim": "dim",
        "depth": "n_layers",
        "heads": "n_heads",
        "hidden": "hidden_dim",
        "activation": "activation",
        "dropout": "dropout",
        "attention_dropout": "attention_dropout",
        "segments": 0,
    },
    heads=(Head("bert", masked_head("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"), "gelu"),),
    tied={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
    ignored=(BUFFERS, r"vocab_.*", *TASK_HEADS),
)
ATTENTION = tuple(f"{BLOCK}.attention.{part}" for part in ("query", "key", "value"))
GPT2 = Family(
    "gpt2",
    "transformer.",
    [
        Weight(("frontend.token_embedding.weight",), "wte.weight", rows="vocabulary"),
        Weight(("frontend.position_embedding.weight",), "wpe.weight", rows="positions"),
        *layer("trunk.norm", "ln_f"),
        *layer(f"{BLOCK}.attention_norm", "h.{i}.ln_1"),
        *layer(ATTENTION, "h.{i}.attn.c_attn", transposed=True),
        *layer(f"{BLOCK}.attention.out", "h.{i}.attn.c_proj", transposed=True),
        *layer(f"{BLOCK}.mlp_norm", "h.{i}.ln_2"),
        *layer(f"{BLOCK}.up", "h.{i}.mlp.c_fc", transposed=True),
        *layer(f"{BLOCK}.down", "h.{i}.mlp.c_proj", transposed=True),
    ],
    SETTINGS
    | {
        "dim": "n_embd",
        "depth": "n_layer",
        "heads": "n_head",
        "hidden": "n_inner",
        "activation": "activation_function",
        "dropout": "resid_pdrop",
        "attention_dropout": "attn_pdrop",
        "eps": "layer_norm_epsilon",
        "max_tokens": "n_positions",
        "segments": 0,
    },
    fixed={"add_cross_attention": False, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    causal=True,
    heads=(Head("gpt"),),
    tied={"lm_head.weight": "wte.weight"},
    ignored=(r"h\.\d+\.attn\.(masked_)?bias", *TASK_HEADS),
)
FAMILIES = {family.name: family for family in (BERT, ROBERTA, ALBERT, ELECTRA, DISTILBERT, GPT2)}
