"""Checking the top-level keys of a command's config: an override with + can add any key, which would be ignored.
Imports no torch."""

import re
from pathlib import Path

import yaml

from sslzoo.config import CONF, options, plain
from sslzoo.errors import ConfigError, nearest
from sslzoo.hints import keys_here, meant


def groups(folders: list[Path]) -> list[str]:
    """All config groups, including nested ones."""
    found = (path.parent.relative_to(base) for base in (CONF, *folders) for path in base.rglob("*.yaml"))
    return sorted({path.as_posix() for path in found} - {"."})


def top_level(name: str, folders: list[Path] = []) -> dict[str, bool]:  # noqa: B006 (read, never written)
    """{top-level key of a command's config: whether it is required}. Groups whose options set top-level keys
    (`@package _global_`) are not keys."""
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
    """Whether the options of a group set top-level keys, none of which has the group's name."""
    files = [path for folder in (CONF, *folders) for path in (folder / group).glob("*.yaml")]
    texts = [path.read_text(encoding="utf-8", errors="replace") for path in files]
    own = any(re.search(rf"^{re.escape(group)}:", text, re.MULTILINE) for text in texts)
    return not own and any(re.search(r"^#\s*@package\s+_global_", text, re.MULTILINE) for text in texts)


def own_package(group: str, folders: list[Path]) -> str | None:
    """The key that a group's options name in `# @package objective`, or None."""
    files = [path for folder in (CONF, *folders) for path in (folder / group).glob("*.yaml")]
    texts = (path.read_text(encoding="utf-8", errors="replace") for path in files)
    named = (re.search(r"^#\s*@package\s+(\w+)", text, re.MULTILINE) for text in texts)
    return next((match[1] for match in named if match and match[1] != "_global_"), None)


def settings(name: str, config, folders: list[Path] = []) -> dict:  # noqa: B006
    """A composed config of conf/<name>.yaml as plain containers, with its top-level keys checked and without variables
    that are only referred to (`width: 64`, then `${width}`). Raises ConfigError."""
    variables = check(name, config, folders)
    return {key: value for key, value in plain(config).items() if key not in variables}


def check(name: str, config, folders: list[Path] = []) -> list[str]:  # noqa: B006
    """The top-level keys of a config that are only referred to. Raises ConfigError for an unused or a missing key."""
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
    there = set(config)  # includes keys that are "???", unlike `in config`
    for key in [key for key, needed in known.items() if needed and key not in there]:
        names = options(key, folders)
        shown = f" — `sslzoo list` shows: {', '.join(names)}" if names else ", or leave out the ~"
        raise ConfigError(f"{key} is required: set {key}=…{shown}")
    return unknown
