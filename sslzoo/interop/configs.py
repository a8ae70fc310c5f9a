"""From the config.json of a family to config nodes of ours."""

from collections.abc import Mapping
from typing import Any

from sslzoo.config import choices
from sslzoo.errors import UserError
from sslzoo.interop.families import ACTIVATIONS, DEFAULTS, FAMILIES, Family


def family_of(config: Mapping[str, Any], where: str) -> Family:
    """The family that a config.json is of. Raises UserError, naming those that are known."""
    name = config.get("model_type")
    if name not in FAMILIES:
        said = f"{name!r} ({', '.join(config.get('architectures') or ['no architecture'])})"
        raise UserError(f"{where} is of {said}; the architectures that are read here are: {', '.join(FAMILIES)}")
    return FAMILIES[name]


def settings(family: Family, config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Our settings of an encoder, as a config.json has them. Raises UserError for one that makes another encoder."""
    for name, value in family.fixed.items():
        if config.get(name, value) != value:
            raise UserError(f"{where}: {name} is {config[name]!r}, and only {value!r} can be read here")
    found = {}
    for ours, theirs in family.settings.items():
        found[ours] = config.get(theirs, DEFAULTS.get(ours)) if isinstance(theirs, str) else theirs
        if found[ours] is None and ours != "hidden":
            raise UserError(f"{where} says no {theirs}: was it written by transformers' save_pretrained?")
    if found["activation"] not in ACTIVATIONS:
        some = ", ".join(ACTIVATIONS)
        raise UserError(f"{where}: {family.settings['activation']} is {found['activation']!r}; known are {some}")
    found["activation"] = ACTIVATIONS[found["activation"]]
    return found


def encoder_node(family: Family, config: Mapping[str, Any], where: str, vocab_size: int, pool: str) -> dict[str, Any]:
    """The config node of our encoder. vocab_size: ids here, which may be more than theirs by specials."""
    said = settings(family, config, where)
    frontend = {
        "_target_": "sslzoo.encoders.text.WordPieces",
        "dim": said["dim"],
        "vocab_size": vocab_size,
        "max_tokens": said["max_tokens"] - offset(family, config),
        "segments": said["segments"],
        "init_std": said["init_std"],
    }
    if family.factorised:
        size = config.get("embedding_size", said["dim"])
        frontend |= {"embedding_dim": size, "dropout": said["dropout"], "eps": said["eps"]}
    trunk = {
        "_target_": "sslzoo.encoders.transformer.Transformer",
        **{name: said[name] for name in ("dim", "depth", "heads", "hidden", "activation", "dropout")},
        **{name: said[name] for name in ("attention_dropout", "eps", "init_std")},
        "norm": "pre" if family.causal else "post",
        "causal": family.causal,
        "scale_residuals": family.causal,
        "input_norm": not family.factorised,
        "share_layers": family.shared,
    }
    target = "sslzoo.encoders.sequence.SequenceEncoder"
    return {"_target_": target, "frontend": frontend, "trunk": trunk, "pool": pool}


def offset(family: Family, config: Mapping[str, Any]) -> int:
    """Rows of their positions before that of the first token."""
    if not family.offset:
        return 0
    pad = config.get("pad_token_id")
    return (1 if pad is None else pad) + 1


def objective_node(option: str, eps: float) -> dict[str, Any]:
    """The config node of an objective that is only read from then on. eps: of its head's norm, if it has one."""
    from omegaconf import OmegaConf

    found: Any = OmegaConf.to_container(choices("objective", [option])[option], resolve=True)
    return found | ({"eps": eps} if "eps" in found else {})
