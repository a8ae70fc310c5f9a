"""Families of text: BERT, RoBERTa, ALBERT, ELECTRA, DistilBERT, GPT-2."""

from sslzoo.interop.configs import always
from sslzoo.interop.family import BLOCK, TASK_HEADS, Family, Head, blocks
from sslzoo.interop.names import Weight, layer
from sslzoo.interop.task_heads import pooled_head, text_heads
from sslzoo.interop.text_settings import constants, settings


def embeddings(theirs: str, norm: str) -> list[Weight]:
    """The front end of the BERT family. norm: what their LayerNorm is here."""
    return [
        Weight(("frontend.token_embedding.weight",), f"{theirs}.word_embeddings.weight", rows="vocabulary"),
        Weight(("frontend.position_embedding.weight",), f"{theirs}.position_embeddings.weight", rows="positions"),
        Weight(("frontend.segment_embedding.weight",), f"{theirs}.token_type_embeddings.weight"),
        *layer(norm, f"{theirs}.LayerNorm"),
    ]


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
OLD_NORMS = {r"\.gamma$": ".weight", r"\.beta$": ".bias"}  # as google-bert/bert-base-uncased has them
ABSOLUTE = {"position_embedding_type": "absolute", "is_decoder": False, "add_cross_attention": False}
PADS = always("pad_token_id", 0)

BERT_HEAD = masked_head(
    "cls.predictions.transform.dense", "cls.predictions.transform.LayerNorm", "cls.predictions.bias"
)
BERT = Family(
    "bert",
    "BertModel",
    "text",
    "bert.",
    [*embeddings("embeddings", "trunk.norm"), *BERT_LAYERS, *layer("pooler", "pooler.dense")],
    constants(),
    (*settings(), PADS),
    fixed=ABSOLUTE,
    heads=(
        Head(
            "bert_nsp",
            "BertForPreTraining",
            [*BERT_HEAD, *layer("pair_head.out", "cls.seq_relationship")],
            activation="gelu",
        ),
        Head("bert", "BertForMaskedLM", BERT_HEAD, activation="gelu"),
    ),
    tied={
        "cls.predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "cls.predictions.decoder.bias": "cls.predictions.bias",
    },
    ignored=(BUFFERS, r"cls\..*", *TASK_HEADS),
    renamed=OLD_NORMS,
    tasks=text_heads("Bert", pooled_head("Bert", "bert.pooler.dense", "classifier", pools=True)),
)
ROBERTA = Family(
    "roberta",
    "RobertaModel",
    "text",
    "roberta.",
    BERT.weights,
    constants(),
    settings(offsets=True),
    fixed=ABSOLUTE,
    offset=True,
    heads=(Head("roberta", "RobertaForMaskedLM", masked_head("lm_head.dense", "lm_head.layer_norm", "lm_head.bias")),),
    tied={"lm_head.decoder.weight": "embeddings.word_embeddings.weight", "lm_head.decoder.bias": "lm_head.bias"},
    ignored=(BUFFERS, *TASK_HEADS),
    renamed=OLD_NORMS,
    tasks=text_heads("Roberta", pooled_head("Roberta", "classifier.dense", "classifier.out_proj", pools=False)),
)
ALBERT = Family(
    "albert",
    "AlbertModel",
    "text",
    "albert.",
    [
        *embeddings("embeddings", "frontend.norm"),
        *layer("frontend.up", "encoder.embedding_hidden_mapping_in"),
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
        *layer("pooler", "pooler"),
    ],
    constants(trunk__input_norm=False, trunk__share_layers=True),
    (*settings(factorised=True), PADS),
    fixed={"position_embedding_type": "absolute", "num_hidden_groups": 1, "inner_group_num": 1},
    heads=(
        Head(
            "albert",
            "AlbertForPreTraining",
            [
                *masked_head("predictions.dense", "predictions.LayerNorm", "predictions.bias"),
                *layer("pair_head.out", "sop_classifier.classifier"),
            ],
            activation="gelu_tanh",
        ),
    ),
    tied={
        "predictions.decoder.weight": "embeddings.word_embeddings.weight",
        "predictions.decoder.bias": "predictions.bias",
    },
    ignored=(BUFFERS, r"predictions\..*", r"sop_classifier\..*", *TASK_HEADS),
    renamed=OLD_NORMS,
    tasks=text_heads("Albert", pooled_head("Albert", "albert.pooler", "classifier", pools=True)),
)
ELECTRA = Family(
    "electra",
    "ElectraModel",
    "text",
    "electra.",
    [*embeddings("embeddings", "frontend.norm"), *layer("frontend.up", "embeddings_project"), *BERT_LAYERS],
    constants(trunk__input_norm=False),
    (*settings(factorised=True), PADS),
    fixed=ABSOLUTE,
    heads=(
        Head(
            "bert",
            "ElectraForMaskedLM",
            masked_head("generator_predictions.dense", "generator_predictions.LayerNorm", "generator_lm_head.bias"),
        ),
        Head(
            "electra",
            "ElectraForPreTraining",
            [
                *layer("dense", "discriminator_predictions.dense"),
                *layer("out", "discriminator_predictions.dense_prediction"),
            ],
            reads=False,  # the objective has a generator, too
        ),
    ),
    tied={"generator_lm_head.weight": "embeddings.word_embeddings.weight"},
    ignored=(BUFFERS, r"discriminator_predictions\..*", *TASK_HEADS),
    renamed=OLD_NORMS,
    tasks=text_heads("Electra"),
)
DISTILBERT = Family(
    "distilbert",
    "DistilBertModel",
    "text",
    "distilbert.",
    [
        *(w for w in embeddings("embeddings", "trunk.norm") if "token_type" not in w.theirs),
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
    constants(frontend__segments=0),
    (
        *settings(
            {
                "dim": "dim",
                "depth": "n_layers",
                "heads": "n_heads",
                "hidden": "hidden_dim",
                "activation": "activation",
                "dropout": "dropout",
                "attention_dropout": "attention_dropout",
                "max_tokens": "max_position_embeddings",
            }
        ),
        PADS,
    ),
    heads=(
        Head(
            "bert",
            "DistilBertForMaskedLM",
            masked_head("vocab_transform", "vocab_layer_norm", "vocab_projector.bias"),
            activation="gelu",
        ),
    ),
    tied={"vocab_projector.weight": "embeddings.word_embeddings.weight"},
    ignored=(BUFFERS, r"vocab_.*", *TASK_HEADS),
    tasks=text_heads("DistilBert"),
)
ATTENTION = tuple(f"{BLOCK}.attention.{part}" for part in ("query", "key", "value"))
GPT2 = Family(
    "gpt2",
    "GPT2Model",
    "text",
    "transformer.",
    [
        Weight(("frontend.token_embedding.weight",), "wte.weight", rows="vocabulary"),
        Weight(("frontend.position_embedding.weight",), "wpe.weight", rows="positions"),
        *layer("trunk.norm", "ln_f"),
        *layer(f"{BLOCK}.attention_norm", "h.{i}.ln_1"),
        *layer(ATTENTION, "h.{i}.attn.c_attn", "transposed"),
        *layer(f"{BLOCK}.attention.out", "h.{i}.attn.c_proj", "transposed"),
        *layer(f"{BLOCK}.mlp_norm", "h.{i}.ln_2"),
        *layer(f"{BLOCK}.up", "h.{i}.mlp.c_fc", "transposed"),
        *layer(f"{BLOCK}.down", "h.{i}.mlp.c_proj", "transposed"),
    ],
    constants(trunk__norm="pre", trunk__causal=True, trunk__scale_residuals=True, frontend__segments=0),
    (
        *settings(
            {
                "dim": "n_embd",
                "depth": "n_layer",
                "heads": "n_head",
                "hidden": "n_inner",
                "activation": "activation_function",
                "dropout": "resid_pdrop",
                "attention_dropout": "attn_pdrop",
                "eps": "layer_norm_epsilon",
                "max_tokens": "n_positions",
            }
        ),
        always("bos_token_id", 3),  # [SEP] ends a text here
        always("eos_token_id", 3),
    ),
    fixed={"add_cross_attention": False, "scale_attn_weights": True, "scale_attn_by_inverse_layer_idx": False},
    heads=(Head("gpt", "GPT2LMHeadModel"),),
    tied={"lm_head.weight": "wte.weight"},
    ignored=(r"h\.\d+\.attn\.(masked_)?bias", *TASK_HEADS),
    tasks=text_heads("GPT2"),
)
FAMILIES = (BERT, ROBERTA, ALBERT, ELECTRA, DISTILBERT, GPT2)
