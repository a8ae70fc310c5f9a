"""Which modules a config may name in `_target_`: ours, those of the libraries below, and those that the user allows.

A config from someone else could otherwise run anything on this machine. The user's own are the modules in the folders
of --config-dir, and those that --allow names; they are kept in an environment variable, for ranks and other child
processes. Imports nothing of ours but errors, and nothing that a config names.
"""

import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from sslzoo.errors import ConfigError

PREFIXES = ("sslzoo", "torch", "torchvision", "torchaudio", "lightning")
HYDRA = ("hydra", "hydra_plugins")  # of Hydra's own settings: launchers and sweepers
VARIABLE = "SSLZOO_ALLOW"  # top-level modules, separated by commas


def add(modules: Iterable[str]) -> None:
    """Allow more top-level modules, in this process and its children."""
    known = [name for name in os.environ.get(VARIABLE, "").split(",") if name]
    os.environ[VARIABLE] = ",".join(dict.fromkeys([*known, *modules]))


def held_by(folder: Path) -> list[str]:
    """The top-level modules and packages in a folder."""
    return sorted(path.stem for path in folder.iterdir() if path.suffix == ".py" or path.is_dir())


def targets(node: Any, where: str = "") -> Iterator[tuple[str, str]]:
    """(dotted key, value) of every `_target_` in a config."""
    if isinstance(node, dict):
        if "_target_" in node:
            yield where, str(node["_target_"])
        for key, value in node.items():
            yield from targets(value, f"{where}.{key}" if where else str(key))
    elif isinstance(node, list):
        for number, item in enumerate(node):
            yield from targets(item, f"{where}[{number}]")


def check(config: Any, source: str = "", more: Iterable[str] = ()) -> None:
    """Raise ConfigError, before anything is imported, if a config names a module that is not allowed. source: what
    holds it, for the message; more: other modules that are allowed in it."""
    known = {*PREFIXES, *more, *filter(None, os.environ.get(VARIABLE, "").split(","))}
    for where, path in targets(config):
        top = path.split(".")[0]
        if top not in known and "${" not in top:
            at = f"{source}: {where}" if source else where
            raise ConfigError(
                f"{at} names {path}, and a config may name classes of {', '.join(PREFIXES)} and of the modules in your "
                f"--config-dir: if you trust it, add --allow {top}"
            )
