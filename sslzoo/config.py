"""conf/: where it is, what is in it, and what a composed config says. Imports no torch."""

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sslzoo.errors import ConfigError

CONF = Path(__file__).parent / "conf"
if not CONF.exists():  # a checkout or an editable install; a wheel carries its own
    CONF = Path(__file__).parent.parent / "conf"

GROUPS = {  # what `sslzoo list` lists: the plural and its folder
    "objectives": "objective",
    "views": "objective/views",
    "masks": "objective/mask",
    "corruptions": "objective/corruption",
    "rows": "objective/rows",
    "encoders": "encoder",
    "frontends": "encoder/frontend",
    "trunks": "encoder/trunk",
    "positions": "encoder/trunk/position",
    "data": "data",
    "batches": "data/batch",
    "paths": "paths",
    "tasks": "task",
    "splits": "task/split",
    "methods": "method",
    "heads": "head",
    "recipes": "recipe",
    "optims": "optim",
    "schedules": "optim/schedule",
    "trainers": "trainer",
    "comparisons": "comparison",
    "analyses": "analysis",
    "callbacks": "callbacks",
    "loggers": "logger",
}

FURTHER = (
    "Overrides are Hydra's: --cfg job shows the config, --multirun sweeps. `sslzoo list` says what each group has."
)


def options(group: str, folders: list[Path] = []) -> dict[str, str]:  # noqa: B006 (read, never written)
    """The configs of a group, by name, with the first comment of each."""
    found = {}
    for folder in [CONF, *folders]:
        for path in sorted((folder / group).glob("*.yaml")):
            lines = path.read_text(encoding="utf-8", errors="replace").splitlines()
            comments = [line.lstrip("# ") for line in lines if line.startswith("#") and "@package" not in line]
            found[path.stem] = comments[0] if comments else ""
    return found


def explain(name: str) -> str:
    """What a composed command does, and its config with the comments that say what each setting is."""
    settings = (CONF / f"{name}.yaml").read_text(encoding="utf-8").partition("\nhydra:")[0].rstrip()
    lines = [line for line in settings.splitlines() if "override hydra/" not in line]
    return "\n".join(
        [
            f"usage: sslzoo {name} [key=value …] [--cfg job] [--multirun] [--config-dir DIR]",
            "",
            *lines,
            "",
            FURTHER,
            f"With choices (`sslzoo {name} group=choice --help`): the settings of those choices.",
        ]
    )


def plain(config) -> dict:
    """A composed config as plain containers; what is still missing is named."""
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationKeyError, OmegaConfBaseException

    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise ConfigError(f"{missing[0]} is required: set {missing[0]}=…")
        found: Any = OmegaConf.to_container(config, resolve=True, throw_on_missing=True)
    except InterpolationKeyError as error:
        found = re.search(r"key 'data\.(\w+)' not found", str(error))
        if not found:
            raise ConfigError(" ".join(str(error).split())) from error
        fit = ", ".join(readers_of(config["data"]))
        raise ConfigError(
            f"the encoder needs data.{found[1]}, which this data has not: it is made for another kind of data; "
            f"these encoders fit: encoder={fit}"
        ) from error
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    found.pop("paths", None)  # what refers to it has it by now, and a run is the same wherever its data lies
    for key, value in leaves(found):
        if str(value).startswith("???/"):
            raise ConfigError(f"{key} is required: set {key}=…, or SSLZOO_DATA to the folder that holds {value[4:]}/")
    return found


def leaves(node, path: str = ""):
    """Every value of a plain config, with its dotted key."""
    for name, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def choices(group: str, names, folders: list[Path] = []) -> dict:  # noqa: B006 (read, never written)
    """The nodes that options of a group compose, by name, their references not resolved."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    overrides = [f"+{group}@{name}={name}" for name in names]
    if GlobalHydra.instance().is_initialized():  # within a command
        return dict(compose(overrides=overrides).items())
    search = [f"hydra.searchpath=[{','.join(f'file://{folder.resolve()}' for folder in folders)}]"] if folders else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return dict(compose(overrides=[*search, *overrides]).items())


def readers_of(data: dict) -> list[str]:
    """The encoders whose config refers to nothing that this data does not say."""
    from omegaconf import OmegaConf

    found = []
    for name, node in choices("encoder", options("encoder")).items():
        asked = set(re.findall(r"\$\{data\.(\w+)\}", OmegaConf.to_yaml(node)))
        if asked <= set(data):
            found.append(name)
    return found


LATER = {
    "field": "text",
    "pack": False,
    "sentences_by": "rule",
    "documents_by": None,
    "labels_from": None,
    "max_pixels": 268435456,
    "max_question": 64,
    "window_stride": 128,
    "wrong_answers": "raise",
}  # settings of data that names of runs are older than, as they were


def without_later(node):
    """A plain config without the settings that were added to data later, where they are as it was before."""
    if not isinstance(node, dict):
        return node
    return {k: without_later(v) for k, v in node.items() if k not in LATER or v != LATER[k]}


def fingerprint(config: dict) -> str:
    """Six characters that stand for a config, leaving out what changes nothing that is learned. A setting that is new
    leaves them as they were while it has its default: a command from before it was there continues its run."""
    relevant = without_later(json.loads(json.dumps(config)))
    if relevant.get("trainer", {}).get("val_every") == "auto":
        relevant["trainer"]["val_every"] = None  # the default once; validation changes nothing that is learned
    for key in ("logger", "metric"):
        relevant.pop(key, None)
    if not relevant.get("callbacks"):
        relevant.pop("callbacks", None)
    relevant.get("trainer", {}).setdefault("loggers", [])  # a setting once
    for key in ("workers", "progress"):
        relevant.get("trainer", {}).pop(key, None)
    if relevant.get("init") is None:
        relevant.pop("init", None)  # names of runs are older than this setting
    else:
        relevant["init"].pop("run", None)  # whose weights are told apart, wherever they lie
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:6]


def protocol(config: dict, choices: dict[str, str], given: Collection[str] = ()) -> dict:
    """What of `sslzoo probe`'s config decides a run's score: the task and the probe; see `task_node`."""
    return {"task": task_node(config, choices, given), "probe": config["probe"]}


def task_node(config: dict, choices: dict[str, str], given: Collection[str] = ()) -> dict:
    """config.task, put to config.data where that is set, and then named after both: by the data's folder, or the
    choice of data where that stands for one set, and by the task's own name or its label ("RAVDESS-emotion").

    given: the settings that the user wrote, by their dotted keys; a name among them stays.
    """
    task, data = config["task"], config.get("data")
    if not isinstance(task, dict) or (data is None and task.get("name", "") is not None):
        return task
    parts = [part for part in (task.get("name") or task.get("label"),) if part is not None]
    if isinstance(data, dict):
        task, choice = {**task, "data": data}, str(choices.get("data", "data"))
        general = choice.endswith(("_folder", "_table")) and "path" in data
        parts = [Path(str(data["path"])).resolve().name if general else choice, *parts]
        # a table reads the one column that it is told of, and calls it label
        table = data.get("_target_") == "sslzoo.data.table.TextTable"
        if table and task.get("label") is not None and data.get("label") in (None, task["label"]):
            task = {**task, "data": {**data, "label": task["label"]}, "label": "label"}
    if "task.name" in given and task["name"] is not None:
        return task
    name = "-".join(map(str, parts)) or task.get("kind", "task")
    return {**task, "name": re.sub(r"[^\w.-]+", "_", name).lstrip(".")}
