"""A recipe's choices may be overridden like any: what it set within a choice that the user replaced goes with it.
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
WORD = re.compile(r"\+?([\w/]+)=([\w.,-]+)")  # a choice of an option, or of several to sweep over


def settled(overrides: list[str], folders: list[Path]) -> list[str]:
    """The overrides of `sslzoo pretrain`, with more of them where they replace a choice below the top (data/batch=…) of
    which their recipe sets something: that has the value of the option chosen then, or is left out.

    Hydra composes a recipe last, so that its `data.batch.size` would stand in whatever batch is chosen.
    """
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    chosen = {found[1]: found[2] for word in overrides if (found := WORD.fullmatch(word))}
    overrides = [*overrides, *natural(chosen, folders)]
    below = {group: option for group, option in chosen.items() if "/" in group}
    said, more = {word.lstrip("+~").partition("=")[0] for word in overrides}, []
    for kind in ("recipe", "experiment"):
        body = read(kind, chosen.get(kind, ""), folders) if below else {}
        for group, option in below.items():  # an option that cannot be composed is refused when all is
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
    """The data and the encoder, where none are chosen, of an objective that is not for the default data (images): those
    of its first recipe whose data are built in, so that `objective=…` alone is a run."""
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
    """What a recipe sets itself."""
    return {key: value for key, value in whole(kind, name, folders).items() if key != "defaults"}


def whole(kind: str, name: str, folders: list[Path]) -> dict:
    """An option's file; nothing where there is none of this name, or it is no yaml: Hydra says so."""
    path = next((p for folder in (*folders, CONF) if (p := folder / kind / f"{name}.yaml").exists()), None)
    try:
        node = yaml.safe_load(path.read_text(encoding="utf-8")) if path else {}
    except (yaml.YAMLError, ValueError):
        return {}
    return node if isinstance(node, dict) else {}


def plain(node) -> Any:
    from omegaconf import OmegaConf

    return OmegaConf.to_container(node)
