"""`sslzoo COMMAND group=choice … --help`: the settings of the choices made, with type, value and meaning.

The meaning is the comment beside a setting in the composed files, or from its class's docstring; types are from the
class's signature, read from its source. Imports no torch, except for a class of the user's.
"""

import ast
import inspect
import re
import types
import typing
from pathlib import Path

import yaml

from sslzoo import allowed
from sslzoo.cli.early import Source, written_signature
from sslzoo.config import CONF, FURTHER, options, text_of
from sslzoo.errors import ConfigError
from sslzoo.hints import first_of_sweep, one_line
from sslzoo.nodes import target

LINE = re.compile(r"^( *)([\w-]+):(?: (.*?))??(?:\s+# (.*))?$")
WIDEST = 44  # of a value


def composition(name: str, overrides: list[str], folders: list[Path]):
    """conf/<name>.yaml composed with the overrides, including Hydra's config; for a sweep, of the first job. Raises
    ConfigError."""
    from hydra import compose, initialize_config_dir

    given = [word for word in overrides if word.startswith("hydra.searchpath=")]
    paths = [f"file://{folder.resolve()}" for folder in folders] + [p for word in given for p in searched(word)]
    overrides = [word for word in overrides if word not in given]
    search = [f"hydra.searchpath=[{','.join(paths)}]"] if paths else []
    try:
        with initialize_config_dir(str(CONF), version_base="1.3"):
            return compose(name, [*search, *first_of_sweep(overrides)], return_hydra_config=True)
    except Exception as error:
        raise ConfigError(one_line(error, folders, name, overrides)) from error


def searched(override: str) -> list[str]:
    """The paths of hydra.searchpath=[file://…,…]."""
    return [path.strip(" '\"") for path in override.partition("=")[2].strip("[]'\"").split(",") if path.strip(" '\"")]


def table(name: str, overrides: list[str], folders: list[Path]) -> str:
    """The help of conf/<name>.yaml composed with the overrides. Raises ConfigError."""
    from omegaconf import OmegaConf

    config = composition(name, overrides, folders)
    chosen = {k: v for k, v in config.hydra.runtime.choices.items() if not k.startswith("hydra/") and v is not None}
    said = comments(CONF / f"{name}.yaml", "")
    for group, option in chosen.items():
        said |= of_choice(group, str(option), folders)
    raw = OmegaConf.to_container(config)
    del raw["hydra"]
    top = rows({key: value for key, value in raw.items() if not isinstance(value, dict)}, "", config, said)
    parts = [f"usage: sslzoo {name} {' '.join(overrides)} [key=value …] [--cfg job] [--multirun] [--config-dir DIR]"]
    parts += [*said_first(CONF / f"{name}.yaml"), "", *columns(top)]
    for key, node in raw.items():
        if isinstance(node, dict):
            option = str(chosen.get(key, ""))
            title = f"{key}={option}  {options(key, folders).get(option, '')}" if option else key
            parts += ["", title.rstrip(), *columns(rows(node, f"{key}.", config, said))]
            below = {group: choice for group, choice in chosen.items() if re.match(rf"{key}[/@]", group)}
            for group, choice in below.items():
                others = [other for other in options(group.partition("@")[0], folders) if other != choice]
                parts.append(
                    f"  chosen by {group}={choice}  (or {', '.join(others)})"
                    if others
                    else f"  chosen by {group}={choice}"
                )
    return "\n".join([*parts, "", FURTHER])


def rows(node: dict, path: str, config, said: dict[str, str]) -> list[tuple[str, str, str, str]]:
    """(name, type, value, meaning) of every setting of a node and the nodes below it."""
    hints, meant = signature(node.get("_target_"))
    found = []
    for key, value in node.items():
        where = f"{path}{key}"
        if key == "_target_":
            continue
        if isinstance(value, dict) and value and ("_target_" in value or key not in hints):
            found += rows(value, f"{where}.", config, said)
        else:
            kind = hints.get(key) or ("" if value is None or value == "???" else kind_of(config, where, value))
            found.append((where, kind, shown(config, where, value), said.get(where) or meant.get(key, "")))
    return found


def signature(path: str | None) -> tuple[dict[str, str], dict[str, str]]:
    """({parameter: type}, {parameter: meaning}) of a class; meanings are from its docstring (`name: what it is.`)."""
    if path is None:
        return {}, {}
    module, _, name = path.rpartition(".")
    written = written_signature(path, "")
    if written is None:
        try:
            allowed.check({"_target_": path})
            cls = target(path, "")
            parameters, doc = inspect.signature(cls).parameters, inspect.getdoc(cls) or ""
        except Exception:  # noqa: BLE001 (help without this class)
            return {}, {}
    else:
        source = Source.of(module)
        parameters, doc = written[1], (source and ast.get_docstring(source.classes[name])) or ""
    hints = {key: word(p.annotation) for key, p in parameters.items() if p.annotation not in (p.empty, typing.Any)}
    text = " ".join(doc.split())
    names = (
        r"(?:^|[.;)] )((?:\w+, )*{}(?:, \w+)*): (.+?)(?:\. (?=[A-Z]|[\w, ]+: )|\.$|$)"  # "flip, gray: chances. size: …"
    )
    found = {key: re.search(names.format(re.escape(key)), text) for key in parameters}
    return hints, {key: match[2] for key, match in found.items() if match}


def word(hint) -> str:
    """A type in short: Literal as a|b, None as null."""
    if typing.get_origin(hint) is typing.Literal:
        return "|".join(map(str, typing.get_args(hint)))
    if typing.get_origin(hint) in (typing.Union, types.UnionType):
        return "|".join("null" if arg is type(None) else word(arg) for arg in typing.get_args(hint))
    if typing.get_args(hint):
        inner = ", ".join(word(arg) for arg in typing.get_args(hint) if arg is not Ellipsis)
        return f"{getattr(typing.get_origin(hint), '__name__', hint)}[{inner}]"
    return hint.__name__ if isinstance(hint, type) else str(hint)


def kind_of(config, where: str, value) -> str:
    """The type of a value without annotation."""
    from omegaconf import OmegaConf

    try:
        value = OmegaConf.select(config, where)
    except Exception:  # noqa: BLE001 (a reference to a missing setting)
        return ""
    names = {"ListConfig": "list", "DictConfig": "dict", "NoneType": ""}
    return names.get(type(value).__name__, type(value).__name__)


def shown(config, where: str, value) -> str:
    """A value as text, with references resolved if possible."""
    from omegaconf import OmegaConf

    if value == "???":
        return "(required)"
    if isinstance(value, str) and "${" in value:
        try:
            now = OmegaConf.select(config, where)
        except Exception:  # noqa: BLE001
            return value
        if isinstance(now, str) and now.startswith("???"):
            return "(required)" if now == "???" else f"(required: {value})"
        return f"{plain(now)}" if now is not None else value
    return plain(value)


def plain(value) -> str:
    if value is None:
        return "null"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int | float | str):
        return str(value) if value != "" else "''"
    from omegaconf import OmegaConf

    value = OmegaConf.to_container(value) if OmegaConf.is_config(value) else value
    text = yaml.safe_dump(value, default_flow_style=True, width=10**6, allow_unicode=True).strip()
    return text if len(text) <= WIDEST else text[: WIDEST - 1] + "…"


def columns(found: list[tuple[str, str, str, str]]) -> list[str]:
    wide = [min(max((len(row[i]) for row in found), default=0), WIDEST) for i in range(3)]
    return [
        f"  {name:{wide[0]}}  {kind:{wide[1]}}  {value:{wide[2]}}  {text}".rstrip() for name, kind, value, text in found
    ]


def of_choice(group: str, option: str, folders: list[Path]) -> dict[str, str]:
    """{dotted key: comment} of an option's file and the files in its defaults."""
    group, _, package = group.partition("@")
    path = next((p for f in (*folders, CONF) if (p := f / group / f"{option}.yaml").exists()), None)
    if path is None:
        return {}
    text = path.read_text(encoding="utf-8", errors="replace")
    at_top = re.search(r"^#\s*@package\s+_global_", text, re.MULTILINE)
    prefix = "" if at_top or package == "_global_" else (package or group.replace("/", ".")) + "."
    found = {}
    try:
        defaults = (yaml.safe_load(text) or {}).get("defaults", [])
    except (yaml.YAMLError, AttributeError):
        return {}
    for base in defaults:
        if isinstance(base, str) and base not in ("_self_", option):
            inner, _, below = base.partition("@")
            found |= of_choice(f"{group}@{prefix}{below}".rstrip(".") if prefix else group, inner, folders)
    return found | comments(path, prefix)


def comments(path: Path, prefix: str) -> dict[str, str]:
    """{dotted key: the comment after it} of a file."""
    found, above = {}, []
    for line in text_of(path).split("\n"):
        match = LINE.match(line)
        if not match:
            continue
        indent, key, _, text = match.groups()
        above = [(depth, name) for depth, name in above if depth < len(indent)] + [(len(indent), key)]
        if text:
            found[prefix + ".".join(name for _, name in above)] = text
    return found


def said_first(path: Path) -> list[str]:
    """[the first comment of a file], or []."""
    first = text_of(path).split("\n", 1)[0]
    return [first.lstrip("# ")] if first.startswith("#") else []
