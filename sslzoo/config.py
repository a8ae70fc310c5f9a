"""conf/: its path, its groups and options, and reading composed configs. Imports no torch."""

import hashlib
import json
import re
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sslzoo.errors import ConfigError

CONF = Path(__file__).parent / "conf"
if not CONF.exists():  # a checkout or an editable install; a wheel contains conf/
    CONF = Path(__file__).parent.parent / "conf"

GROUPS = {  # what `sslzoo list` lists: the plural and its folder
    "objectives": "objective",
    "views": "objective/views",
    "masks": "objective/mask",
    "corruptions": "objective/corruption",
    "mixings": "objective/mixing",
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
    "protocols": "protocol",
    "probes": "probe",
    "heads": "head",
    "prompts": "task/prompt",
    "recipes": "recipe",
    "optims": "optim",
    "schedules": "optim/schedule",
    "trainers": "trainer",
    "comparisons": "comparison",
    "benchmarks": "benchmark",
    "scales": "scale",
    "analyses": "analysis",
    "callbacks": "callbacks",
    "loggers": "logger",
}

FURTHER = (
    "Overrides are Hydra's: --cfg job shows the config, --multirun sweeps. `sslzoo list` says what each group has."
)


def text_of(path: Path) -> str:
    """A config file's text, where comments that go on in the next line, three blanks after its #, are one line."""
    return re.sub(r"\n *#   (?=\S)", " ", path.read_text(encoding="utf-8", errors="replace"))


def options(group: str, folders: list[Path] = []) -> dict[str, str]:  # noqa: B006 (read, never written)
    """{name: first comment} of the configs of a group."""
    found = {}
    for folder in [CONF, *folders]:
        for path in sorted((folder / group).glob("*.yaml")):
            lines = text_of(path).splitlines()
            comments = [line.lstrip("# ") for line in lines if line.startswith("#") and "@package" not in line]
            found[path.stem] = comments[0] if comments else ""
    return found


def explain(name: str) -> str:
    """The --help text of a composed command: usage, and its config file with comments."""
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
    """A composed config as plain containers. Raises ConfigError for missing values and broken references."""
    from omegaconf import OmegaConf
    from omegaconf.errors import InterpolationKeyError, InterpolationToMissingValueError, OmegaConfBaseException

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
    except InterpolationToMissingValueError as error:
        key = str(error).partition("Missing mandatory value: ")[2].split()[0]
        raise ConfigError(f"{key} is required: set {key}=…") from error
    except OmegaConfBaseException as error:
        raise ConfigError(" ".join(str(error).split())) from error
    found.pop("paths", None)  # resolved above, and not part of a run's config
    for key, value in leaves(found):
        if str(value).startswith("???/"):
            raise ConfigError(f"{key} is required: set {key}=…, or SSLZOO_DATA to the folder that holds {value[4:]}/")
    return found


def leaves(node, path: str = ""):
    """Yield (dotted key, value) of a plain config."""
    for name, value in node.items() if isinstance(node, dict) else ():
        if isinstance(value, dict):
            yield from leaves(value, f"{path}{name}.")
        else:
            yield f"{path}{name}", value


def choices(group: str, names, folders: list[Path] = []) -> dict:  # noqa: B006 (read, never written)
    """{name: composed node, references not resolved} of options of a group."""
    from hydra import compose, initialize_config_dir
    from hydra.core.global_hydra import GlobalHydra

    overrides = [f"+{group}@{name}={name}" for name in names]
    if GlobalHydra.instance().is_initialized():  # within a command
        return dict(compose(overrides=overrides).items())
    search = [f"hydra.searchpath=[{','.join(f'file://{folder.resolve()}' for folder in folders)}]"] if folders else []
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return dict(compose(overrides=[*search, *overrides]).items())


def readers_of(data: dict) -> list[str]:
    """The encoders whose config refers only to settings that this data has."""
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
    "shots": None,
    "split_seed": 13,
    "share": None,
    "disjoint": None,
    "max_units_per_rank": None,
    "profile": False,
    "mixing": None,
    "drop_path": (0.0, None),  # of an encoder, of fine-tuning
}  # settings added after `fingerprint`, with the former behaviour's value, or a tuple of such values
FORMER = {name: value if isinstance(value, tuple) else (value,) for name, value in LATER.items()}


FREE = {
    "trainer.workers",
    "trainer.progress",
    "trainer.rank_timeout",
    "trainer.profile",
    "trainer.val_every",
    "trainer.save_every",
    "trainer.keep",
    "trainer.loggers",
    "trainer.devices",
    "trainer.nodes",
    "trainer.strategy",
    "trainer.accelerator",
    "init.run",
}  # settings that do not affect the trained weights, but for rounding

ONE_RANK = {"devices": 1, "nodes": 1, "strategy": "auto"}


def without_later(node):
    """A plain config without the settings in `LATER` that have the values given there."""
    if not isinstance(node, dict):
        return node
    return {k: without_later(v) for k, v in node.items() if v not in FORMER.get(k, ())}


def fingerprint(config: dict, ranks: bool = True) -> str:
    """A six-character hash of a config, without settings that do not affect the trained weights. A new setting with its
    default does not change it, so that an older command still continues its run. ranks: whether the number of ranks,
    which changes rounding only, counts too."""
    relevant = without_later(json.loads(json.dumps(config)))
    if relevant.get("trainer", {}).get("val_every") == "auto":
        relevant["trainer"]["val_every"] = None  # the former default; validation does not affect training
    for key in ("logger", "metric"):
        relevant.pop(key, None)
    if not relevant.get("callbacks"):
        relevant.pop("callbacks", None)
    relevant.get("trainer", {}).setdefault("loggers", [])  # a former setting
    for key in ("workers", "progress", "rank_timeout", "profile"):
        relevant.get("trainer", {}).pop(key, None)
    if not ranks:
        trainer = relevant.get("trainer", {})
        trainer.update({key: one for key, one in ONE_RANK.items() if key in trainer})
    if relevant.get("init") is None:
        relevant.pop("init", None)  # added after the first runs were named
    else:
        relevant["init"].pop("run", None)  # the weights' signature identifies it
    return hashlib.sha256(json.dumps(relevant, sort_keys=True).encode()).hexdigest()[:6]


def protocol(config: dict, choices: dict[str, str], given: Collection[str] = ()) -> dict:
    """The part of `sslzoo probe`'s config that determines a run's score: the task and the probe; see `task_node`."""
    return {"task": task_node(config, choices, given), "probe": config["probe"]}


def task_node(config: dict, choices: dict[str, str], given: Collection[str] = ()) -> dict:
    """config.task; if config.data is set, with it as the task's data and a name made of both: the data's folder (or its
    option, if that is a single data set) and the task's name or label, such as "RAVDESS-emotion".

    given: dotted keys of the settings that the user wrote; a task.name among them is kept.
    """
    task, data = config["task"], config.get("data")
    if not isinstance(task, dict) or (data is None and task.get("name", "") is not None):
        return task
    parts = [part for part in (task.get("name") or task.get("label"),) if part is not None]
    if isinstance(data, dict):
        task, choice = {**task, "data": data}, str(choices.get("data", "data"))
        general = choice.endswith(("_folder", "_table")) and "path" in data
        parts = [Path(str(data["path"])).resolve().name if general else choice, *parts]
        # a table reads one label column and names it "label"
        table = data.get("_target_") == "sslzoo.data.table.TextTable"
        if table and task.get("label") is not None and data.get("label") in (None, task["label"]):
            task = {**task, "data": {**data, "label": task["label"]}, "label": "label"}
    if "task.name" in given and task["name"] is not None:
        return task
    name = "-".join(map(str, parts)) or task.get("kind", "task")
    return {**task, "name": re.sub(r"[^\w.-]+", "_", name).lstrip(".")}
