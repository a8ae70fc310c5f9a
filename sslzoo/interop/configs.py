"""Mapping of an encoder's settings between config.json of a family and our config node: one table for both ways."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from sslzoo.config import choices, leaves
from sslzoo.errors import UserError

Config = Mapping[str, Any]  # config.json, with preprocessor_config.json as "preprocessor"
Flat = Mapping[str, Any]  # a config node of ours by dotted keys
REQUIRED = object()
ACTIVATIONS = {"gelu": "gelu", "gelu_new": "gelu_tanh", "gelu_pytorch_tanh": "gelu_tanh", "relu": "relu"}
PREPROCESSOR = "preprocessor"


@dataclass(frozen=True)
class Setting:
    """One entry of a table. ours: dotted keys of our node, all with the same value. read: gets it from config.json.
    write: makes config.json's settings, by name, from our node; preprocessor.… are preprocessor_config.json's."""

    ours: tuple[str, ...]
    read: Callable[[Config], Any]
    write: Callable[[Flat], dict[str, Any]]


def of(config: Config, name: str, default: Any = REQUIRED) -> Any:
    """A setting of config.json by its dotted name. Raises KeyError if it is missing and has no default."""
    found: Any = config
    for part in name.split("."):
        found = found.get(part) if isinstance(found, Mapping) else None
    if found is None and default is REQUIRED:
        raise KeyError(name)
    return default if found is None else found


def named(
    ours: str | tuple[str, ...], theirs: str, default: Any = REQUIRED, values: Mapping[Any, Any] | None = None
) -> Setting:
    """A setting that differs in its name only. values: {config.json's value: ours}, if they differ too."""
    keys = (ours,) if isinstance(ours, str) else ours

    def read(config: Config) -> Any:
        said = of(config, theirs, default)
        if values is None:
            return said
        if said not in values:
            raise UserError(f"{theirs} is {said!r}; known are {', '.join(map(str, values))}")
        return values[said]

    def write(node: Flat) -> dict[str, Any]:
        said = node.get(keys[0])
        if values is not None:  # one that has no counterpart is seen when it is read again
            said = next((a for a, b in values.items() if b == said), said)
        return {theirs: said}

    return Setting(keys, read, write)


def always(theirs: str, value: Any) -> Setting:
    """A constant setting of config.json that an export writes and our node does not have."""
    return Setting((), lambda config: None, lambda node: {theirs: value})


def node_of(settings: tuple[Setting, ...], constants: Mapping[str, Any], config: Config, where: str) -> dict[str, Any]:
    """Our config node from config.json. Raises UserError, naming the setting, if one is missing or not supported."""
    found = dict(constants)
    try:
        for setting in settings:
            value = setting.read(config) if setting.ours else None
            found |= dict.fromkeys(setting.ours, value)
    except UserError as error:
        raise UserError(f"{where}: {error}") from error
    except KeyError as error:
        raise UserError(f"{where} says no {error.args[0]}: was it written by transformers' save_pretrained?") from error
    return nested(found)


def config_of(settings: Iterable[Setting], node: Mapping[str, Any]) -> dict[str, Any]:
    """The settings of config.json, by dotted name, from our node."""
    flat = dict(leaves(node))
    found: dict[str, Any] = {}
    for setting in settings:
        found |= setting.write(flat)
    return found


def nested(flat: Mapping[str, Any]) -> dict[str, Any]:
    """{"a.b": 1} as {"a": {"b": 1}}."""
    found: dict[str, Any] = {}
    for key, value in flat.items():
        *parents, last = key.split(".")
        inner = found
        for part in parents:
            inner = inner.setdefault(part, {})
        inner[last] = value
    return found


def objective_node(option: str, changes: Mapping[str, Any]) -> dict[str, Any]:
    """The config node of an objective, with changes, {dotted key: value}; keys that it does not have are ignored."""
    from omegaconf import OmegaConf

    found: Any = OmegaConf.to_container(choices("objective", [option])[option], resolve=True)
    flat = dict(leaves(found))
    return nested(flat | {name: value for name, value in changes.items() if name in flat})
