"""Overriding a recipe's choices: settings that it made within a choice that the user replaces are dropped.
Imports no torch."""

import contextlib
import json
import re
from pathlib import Path
from typing import Any

import yaml

from sslzoo.config import CONF, choices, leaves, options
from sslzoo.errors import ConfigError

DEFAULT_DATA = "digits"  # in conf/pretrain.yaml
WORD = re.compile(r"\+?([\w/]+)=([\w.,-]+)")  # group=option, or several options to sweep over


def settled(overrides: list[str], folders: list[Path]) -> list[str]:
    """The overrides of `sslzoo pretrain`, extended if they replace a nested choice (data/batch=…) in which their recipe
    has settings: these are reset to the values of the chosen option, or removed.

    Hydra composes a recipe last, so its `data.batch.size` would otherwise be set in any batch that is chosen.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    chosen = {found[1]: found[2] for word in overrides if (found := WORD.fullmatch(word))}
    overrides = [*overrides, *natural(chosen, folders)]
    below = {group: option for group, option in chosen.items() if "/" in group}
    said, more = {word.lstrip("+~").partition("=")[0] for word in overrides}, []
    for kind in ("recipe", "experiment"):
        body = read(kind, chosen.get(kind, ""), folders) if below else {}
        for group, option in below.items():  # invalid options are reported at the final composition
            package = group.replace("/", ".")
            inside = {key for key, _ in leaves(body) if key.startswith(f"{package}.")} - said
            if not inside:
                continue
            if "," in option:
                raise ConfigError(
                    f"{kind}={chosen[kind]} sets {min(inside)}, so that {group} cannot be swept over with it: "
                    f"sweep over {min(inside)}, or run each {group} by itself"
                )
            with contextlib.suppress(HydraException, OmegaConfBaseException):
                own = dict(leaves(plain(choices(group, [option], folders)[option]), f"{package}."))
                more += [f"{key}={json.dumps(own[key])}" if key in own else f"~{key}" for key in sorted(inside)]
    return [*overrides, *more]


def natural(chosen: dict[str, str], folders: list[Path]) -> list[str]:
    """Default data and encoder for an objective that does not fit the default data (images): those of its first recipe
    with built-in data, so that `objective=…` alone gives a run."""
    if {"recipe", "experiment"} & chosen.keys() or "objective" not in chosen:
        return []
    for recipe in options("recipe", folders):
        made = [entry for entry in whole("recipe", recipe, folders).get("defaults", []) if isinstance(entry, dict)]
        found = {k.removeprefix("override /"): v for entry in made for k, v in entry.items()}
        data = str(found.get("data", DEFAULT_DATA))
        fits = found.get("objective") == chosen["objective"] and data != DEFAULT_DATA
        if fits and "path" not in whole("data", data, folders):
            return [f"{group}={found[group]}" for group in ("data", "encoder") if group in found.keys() - chosen]
    return []


def read(kind: str, name: str, folders: list[Path]) -> dict:
    """The settings of a recipe, without its defaults list."""
    return {key: value for key, value in whole(kind, name, folders).items() if key != "defaults"}


def whole(kind: str, name: str, folders: list[Path]) -> dict:
    """The content of an option's file; {} if it is missing or not yaml, which Hydra reports."""
    path = next((p for folder in (*folders, CONF) if (p := folder / kind / f"{name}.yaml").exists()), None)
    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
    except (yaml.YAMLError, ValueError):
        return {}
    return node if isinstance(node, dict) else {}


def plain(node) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node)
