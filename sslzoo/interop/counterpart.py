"""Which architecture of another library an encoder of ours is, by the tables that imports are read with."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sslzoo.config import leaves
from sslzoo.errors import UserError
from sslzoo.interop.configs import config_of, nested, node_of
from sslzoo.interop.family import Family
from sslzoo.nodes import with_defaults

# settings that say how weights are begun or trained, not what they compute
NOISE = ("dropout", "attention_dropout", "activation_dropout", "layer_drop", "drop_path")
UNHEARD = (*NOISE, "init", "init_std", "scale_residuals")
SHOWN = 3  # differences in a message


@dataclass(frozen=True)
class Counterpart:
    """family, and the settings of its config that stand for an encoder: dotted names."""

    family: Family
    config: dict[str, Any]


def heard(node: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of an encoder that determine its outputs, by dotted key, with defaults filled in."""
    found = {k: v for k, v in leaves(with_defaults(dict(node))) if k.rsplit(".", 1)[-1] not in UNHEARD and k != "pool"}
    if found.get("frontend.embedding_dim", ...) is None:
        found.pop("frontend.eps", None)  # of a norm that it has not
    trunk = {name: found.get(f"trunk.{name}") for name in ("dim", "hidden", "activation")}
    if trunk["hidden"] is None and trunk["dim"] is not None:
        gated = trunk["activation"] in ("geglu", "swiglu")
        found["trunk.hidden"] = 8 * round(trunk["dim"] / 3) if gated else 4 * trunk["dim"]
    if found.get("trunk.window", ...) is None:
        found.pop("trunk.global_every", None)
    return found


def differences(family: Family, node: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
    """(in what an encoder's node is none of the family, in words; the family's settings of it)."""
    ours = heard(node)
    if "frontend.position" in family.alike:  # a fixed table is one that could have been learned
        ours["frontend.position"] = family.constants["frontend.position"]
    kinds = [k for k, v in family.constants.items() if k.endswith("_target_") and ours.get(k) != v]
    if kinds:
        return [f"{k.removesuffix('._target_')} is {str(ours.get(k)).rsplit('.', 1)[-1]}" for k in kinds], {}
    if node.get("pool") == "pooler" and not family.pools:
        return ["pool is pooler"], {}
    config = config_of(family.settings, {**dict(leaves(with_defaults(dict(node)))), **ours})
    try:
        theirs = heard(node_of(family.settings, family.constants, nested(config), family.name))
    except UserError as error:  # a value that has no counterpart
        return [str(error)], {}
    differ = [k for k in sorted(ours.keys() | theirs.keys()) if ours.get(k) != theirs.get(k)]
    return [f"{k} is {ours.get(k)}, there {theirs.get(k)}" for k in differ], config


def counterpart(node: Mapping[str, Any], families: Mapping[str, Family], preferred: str | None = None) -> Counterpart:
    """The first family that an encoder's node is of, `preferred` before others. Raises UserError, saying in what the
    nearest differs and which families there are."""
    near: tuple[int, str] | None = None
    for name in sorted(families, key=lambda name: name != preferred):
        if not families[name].exports:
            continue
        differ, config = differences(families[name], node)
        if not differ:
            return Counterpart(families[name], config)
        if config and (near is None or len(differ) < near[0]):  # else its parts are of other kinds
            more = f" and {len(differ) - SHOWN} more" if len(differ) > SHOWN else ""
            near = len(differ), f": nearest is {name}, but {'; '.join(differ[:SHOWN])}{more}"
    known = ", ".join(name for name in families if families[name].exports)
    raise UserError(
        f"an encoder of {described(node)} has no counterpart there{near[1] if near else ''} — those that have one are of "
        f"{known}; to=safetensors takes any"
    )


def described(node: Mapping[str, Any]) -> str:
    """The classes of an encoder and its parts."""
    parts = [node.get(name) for name in ("frontend", "trunk")]
    kinds = [part["_target_"] for part in parts if isinstance(part, Mapping)] or [node.get("_target_", "")]
    return " and ".join(str(kind).rsplit(".", 1)[-1] for kind in kinds)
