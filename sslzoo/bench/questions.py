"""The tasks of a bench: what each asks, and the data set of a folder that it is asked on."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sslzoo.compare.names import named, strings
from sslzoo.compare.process import override
from sslzoo.errors import ConfigError, UserError, nearest

COMMANDS = ("adapt", "probe", "analyze")
FOLDERS = {"speech": ("speech",), "image": ("image", "vision"), "text": ("text",)}  # of data_root, by modality
KEYS = {"what", "modality", "command", "overrides", "metrics", "folds", "data", "built_in"}


@dataclass(frozen=True)
class Chosen:
    """Where a task's data come from. name: for the table. words: overrides of its command. note:
    what stands for what."""

    name: str
    words: list[str]
    note: str = ""


@dataclass(frozen=True)
class Question:
    """A task of a bench. command: what asks it, with the overrides `words`. metrics: {name in the table: dotted place
    in the command's result}. folds: how often it is asked, each time on another fold of its data,
    whose mean is the score.
    data: None if there is none, and then `looked` are the paths that were looked for."""

    name: str
    what: str
    modality: str
    command: str
    words: list[str]
    metrics: dict[str, str]
    folds: int = 1
    data: Chosen | None = None
    looked: list[str] = field(default_factory=list)

    def missing(self) -> str:
        """Why it is not asked, in a line."""
        return f"{self.name} ({self.what}) is left out: there is no {' nor '.join(self.looked)}"


def questions(config: dict) -> list[Question]:
    """The tasks of a composed config of `sslzoo bench`, in its order: those of `tasks`, or all. Raises ConfigError."""
    nodes, asked = config["benchmark"], config["tasks"]
    if not isinstance(nodes, dict) or not nodes:
        raise ConfigError("there are no tasks: choose some with benchmark=… (`sslzoo list benchmarks`)")
    if asked is not None:
        strings(asked, "tasks")
        for name in asked:
            if name not in nodes:
                raise ConfigError(f"there is no task '{name}'{nearest(name, nodes)} — tasks: {', '.join(nodes)}")
    root = None if config["data_root"] is None else Path(str(config["data_root"]))
    if root is not None and not root.is_dir():
        raise UserError(f"there is no folder {root}: data_root is where data sets lie, each under its usual name")
    return [_question(name, nodes[name], root) for name in (asked or nodes)]


def _question(name: str, node: Any, root: Path | None) -> Question:
    where = f"benchmark.{name}"
    named(name, "a task's name")
    if not isinstance(node, dict) or set(node) - KEYS or not {"command", "modality", "metrics"} <= set(node):
        raise ConfigError(f"{where} has {', '.join(sorted(KEYS))}, of which command, modality and metrics are needed")
    if node["command"] not in COMMANDS or node["modality"] not in FOLDERS:
        raise ConfigError(
            f"{where}: command is one of {', '.join(COMMANDS)}, modality one of {', '.join(FOLDERS)}; got "
            f"{node['command']} and {node['modality']}"
        )
    strings(node.get("overrides", []), f"{where}.overrides")
    data, looked = (built_in(node, where), [f"built-in set for {name}"]) if root is None else found(node, root, where)
    return Question(
        name,
        str(node.get("what", name)),
        node["modality"],
        node["command"],
        list(node.get("overrides", [])),
        dict(node["metrics"]),
        int(node.get("folds", 1)),
        data,
        looked,
    )


def built_in(node: dict, where: str) -> Chosen | None:
    """The set of this package's own that a task is asked on without a folder of data; None if it has none."""
    said = node.get("built_in")
    if said is None:
        return None
    check(said, f"{where}.built_in", {"overrides", "note"})
    return Chosen("built in", list(said["overrides"]), str(said.get("note", "")))


def found(node: dict, root: Path, where: str) -> tuple[Chosen | None, list[str]]:
    """(the first of a task's data sets of which `root`, or its folder of the task's modality, has something; the paths
    that were looked for). `at`: a pattern of that something; {root} in overrides is where it was found."""
    looked: list[str] = []
    for said in node.get("data", []):
        check(said, f"{where}.data", {"at", "name", "overrides", "note"})
        for folder in (root, *(root / name for name in FOLDERS[node["modality"]])):
            if next(folder.glob(said["at"]), None) is not None:
                words = [filled(word, folder) for word in said["overrides"]]
                return Chosen(str(said.get("name", said["at"].split("/")[0])), words, str(said.get("note", ""))), looked
        looked.append(str(root / said["at"]))
    return None, looked


def check(said: Any, where: str, keys: set[str]) -> None:
    """Raise ConfigError unless a data set of a task has overrides, `at` if it may, and no other key than these."""
    if not isinstance(said, dict) or set(said) - keys or "overrides" not in said or ("at" in keys and "at" not in said):
        raise ConfigError(f"{where} has {', '.join(sorted(keys))}, of which note and name may be left out; got {said}")
    strings(said["overrides"], f"{where}.overrides")


def filled(word: str, root: Path) -> str:
    """An override with {root} replaced by a folder, quoted as Hydra needs it."""
    key, _, value = word.partition("=")
    return override(key, value.replace("{root}", str(root.resolve()))) if "{root}" in value else word
