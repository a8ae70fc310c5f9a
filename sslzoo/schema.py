"""What a command's config may have at its top: an override with a + puts anything there, and nobody would read it.
Imports no torch."""

import re
from pathlib import Path

import yaml

from sslzoo.config import CONF, options, plain
from sslzoo.errors import ConfigError, nearest
from sslzoo.hints import keys_here, meant


def groups(folders: list[Path]) -> list[str]:
    """Every group that there is, deeper ones too."""
    found = (path.parent.relative_to(base) for base in (CONF, *folders) for path in base.rglob("*.yaml"))
    return sorted({path.as_posix() for path in found} - {"."})


def top_level(name: str, folders: list[Path] = []) -> dict[str, bool]:  # noqa: B006 (read, never written)
    """The keys at the top of a command's config, and whether each must be there. A group whose options lie at the
    top themselves (`@package _global_`) is no key."""
    path = next(path for folder in (*folders, CONF) if (path := folder / f"{name}.yaml").exists())
    config = yaml.safe_load(path.read_text(encoding="utf-8"))
    found = {key: True for key in config if key not in ("defaults", "hydra")}
    for entry in config.get("defaults", []):
        for group, option in entry.items() if isinstance(entry, dict) else ():
            group = group.removeprefix("optional ")
            if group.startswith("override "):
                continue
            package = group.partition("@")[2].split(".")[0] or group.lstrip("/").split("/")[0]
            if package != "_global_" and not at_the_top(group, folders):
                found.setdefault(own_package(group, folders) or package, option is not None)
    return found


def at_the_top(group: str, folders: list[Path]) -> bool:
    """Whether the options of a group set keys at the top of the config, and none of the group's own name."""
    files = [path for folder in (CONF, *folders) for path in (folder / group).glob("*.yaml")]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    own = any(re.search(rf"^{re.escape(group)}:", text, re.MULTILINE) for text in texts)
    return not own and any(re.search(r"^#\s*@package\s+_global_", text, re.MULTILINE) for text in texts)


def own_package(group: str, folders: list[Path]) -> str | None:
    """The key that the options of a group say that they are put at (`# @package objective`); None where they do not."""
    files = [path for folder in (CONF, *folders) for path in (folder / group).glob("*.yaml")]
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in files)
    named = (re.search(r"^#\s*@package\s+(\w+)", text, re.MULTILINE) for text in texts)
    return next((match[1] for match in named if match and match[1] != "_global_"), None)


def settings(name: str, config, folders: list[Path] = []) -> dict:  # noqa: B006
    """A composed config of conf/<name>.yaml as plain containers, its top held to what the command reads; without what
    is there only to be referred to (`width: 64`, then `${width}`). Raises ConfigError."""
    variables = check(name, config, folders)
    return {key: value for key, value in plain(config).items() if key not in variables}


def check(name: str, config, folders: list[Path] = []) -> list[str]:  # noqa: B006
    """The keys at the top of a config that are only referred to. Raises ConfigError where one is read by nobody, or
    one is missing."""
    from omegaconf import OmegaConf

    known = top_level(name, folders)
    unknown = [str(key) for key in config if key not in known]
    text = OmegaConf.to_yaml(config) if unknown else ""
    for key in unknown:
        if re.search(rf"\$\{{{re.escape(key)}[.}}\[]", text):
            continue
        if at_the_top(key, folders):
            raise ConfigError(f"{key} is a choice, and has no settings of its own: {key}=NAME")
        if "/" in key:
            raise ConfigError(f"there is no group '{key}'{nearest(key, groups(folders))}")
        hint = meant(key, keys_here(config)) or nearest(key, [*known, *groups(folders)])
        raise ConfigError(f"there is no setting '{key}'{hint}")
    there = set(config)  # what is "???" too, which is not `in` it
    for key in [key for key, needed in known.items() if needed and key not in there]:
        names = options(key, folders)
        shown = f" — `sslzoo list` shows: {', '.join(names)}" if names else ", or leave out the ~"
        raise ConfigError(f"{key} is required: set {key}=…{shown}")
    return unknown
