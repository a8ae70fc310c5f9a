"""Settings of text encoders in the config.json of the families of BERT and GPT-2."""

from collections.abc import Mapping
from typing import Any

from sslzoo.interop.configs import ACTIVATIONS, Config, Setting, named, of

# our settings: theirs, as BERT, RoBERTa, ALBERT and ELECTRA call them
NAMES = {
    "dim": "hidden_size",
    "depth": "num_hidden_layers",
    "heads": "num_attention_heads",
    "hidden": "intermediate_size",
    "activation": "hidden_act",
    "dropout": "hidden_dropout_prob",
    "attention_dropout": "attention_probs_dropout_prob",
    "eps": "layer_norm_eps",
    "max_tokens": "max_position_embeddings",
    "segments": "type_vocab_size",
}


def offset(config: Config) -> int:
    """Rows of RoBERTa's positions before that of the first token."""
    return int(of(config, "pad_token_id", 1)) + 1


def settings(names: Mapping[str, str] = NAMES, factorised: bool = False, offsets: bool = False) -> tuple[Setting, ...]:
    """factorised: whether embeddings have a size of their own, a norm under the projection."""
    places = named("frontend.max_tokens", names["max_tokens"])
    if offsets:
        places = Setting(
            places.ours,
            lambda config: of(config, names["max_tokens"]) - offset(config),
            lambda node: {names["max_tokens"]: node["frontend.max_tokens"] + 1, "pad_token_id": 0},  # [PAD] is 0 here
        )
    found = [
        named(("trunk.dim", "frontend.dim"), names["dim"]),
        *(named(f"trunk.{ours}", names[ours]) for ours in ("depth", "heads", "dropout", "attention_dropout")),
        named("trunk.activation", names["activation"], "gelu", ACTIVATIONS),
        hidden(names["hidden"]),
        named(("trunk.init_std", "frontend.init_std"), "initializer_range", 0.02),
        named("frontend.vocab_size", "vocab_size"),
        places,
    ]
    eps = ("trunk.eps", "frontend.eps") if factorised else ("trunk.eps",)
    found.append(named(eps, names["eps"], 1e-12) if "eps" in names else Setting(eps, lambda c: 1e-12, lambda n: {}))
    if "segments" in names:
        found.append(named("frontend.segments", names["segments"]))
    if factorised:
        found.append(
            Setting(
                ("frontend.embedding_dim",),
                lambda config: of(config, "embedding_size", of(config, names["dim"])),
                lambda node: {"embedding_size": node["frontend.embedding_dim"]},
            )
        )
        found.append(Setting(("frontend.dropout",), lambda config: of(config, names["dropout"]), lambda node: {}))
    return tuple(found)


def hidden(name: str) -> Setting:
    """The width of the MLPs; GPT-2 may leave it open, as this project does."""
    optional = {"default": None} if name == "n_inner" else {}

    def write(node: Mapping[str, Any]) -> dict[str, Any]:
        return {name: node["trunk.hidden"] or 4 * node["trunk.dim"]}

    return Setting(("trunk.hidden",), lambda config: of(config, name, **optional), write)


def constants(**changes: Any) -> dict[str, Any]:
    """Of a post-norm encoder with learned positions, changed where a family has it otherwise."""
    found = {
        "_target_": "sslzoo.encoders.sequence.SequenceEncoder",
        "frontend._target_": "sslzoo.encoders.text.WordPieces",
        "trunk._target_": "sslzoo.encoders.transformer.Transformer",
        "trunk.norm": "post",
        "trunk.causal": False,
        "trunk.scale_residuals": False,
        "trunk.input_norm": True,
        "trunk.share_layers": False,
    }
    return found | {name.replace("__", "."): value for name, value in changes.items()}
