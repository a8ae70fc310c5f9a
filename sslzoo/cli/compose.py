"""Commands with composed settings: Hydra's command line, then the command's work. Imports no torch."""

import os
import re
import sys
from pathlib import Path
from typing import Any
from unittest.mock import patch

from sslzoo import allowed
from sslzoo.cli import early, sweep
from sslzoo.cli.flags import (
    as_texts,
    check_blanks,
    check_flags,
    config_folders,
    folders_and_rest,
    use_folders,
    without_allowed,
)
from sslzoo.cli.help import composition, searched, table
from sslzoo.cli.importing import with_imported
from sslzoo.config import CONF, choices, explain, options
from sslzoo.errors import ConfigError
from sslzoo.hints import one_line
from sslzoo.recipes import settled
from sslzoo.schema import check, settings


def of_the_task(argv: list[str]) -> list[str]:
    """The words of `sslzoo probe` or `adapt`, with data.path=… changed to task.data.path=… if no data is chosen, since
    the data is then the task's own."""
    if any(word.startswith(("data=", "+data=")) for word in argv):
        return argv
    return [f"task.{word}" if word.startswith("data.") else word for word in argv]


def several_runs(argv: list[str]) -> list[str]:
    """The words of `sslzoo bench`, with run=A,hf:B as the list that it is."""
    from sslzoo.compare.process import quoted

    found = []
    for word in argv:
        key, _, value = word.partition("=")
        if key == "run" and value and not re.match(r"['\"\[]", value):
            names = [value] if Path(value.partition(":")[2] or value).exists() else value.split(",")
            word = f"run=[{','.join(quoted(name) for name in names)}]"
        found.append(word)
    return found


def with_tasks(argv: list[str]) -> list[str]:
    """The words of `sslzoo adapt` with tasks=[sst2,cola] as Hydra's own: each task, and the prompt that it has,
    composed into the method's settings (method=multitask)."""
    found, prompts = [], options("task/prompt", config_folders(argv))
    for word in argv:
        if not word.startswith("tasks="):
            found.append(word)
            continue
        for name in re.findall(r"[^\s,\[\]'\"]+", word.removeprefix("tasks=")):
            found.append(f"+task@method.tasks.{name}={name}")
            found += [f"+task/prompt@method.prompts.{name}={name}"] * (name in prompts)
    return found


def with_head(argv: list[str]) -> list[str]:
    """The words of `sslzoo adapt` with the head of its task and method (`head_of`), if none is chosen. In a sweep over
    several heads each job chooses its own (`fitting_head`); ConfigError if settings of a head are given too."""
    if any(re.match(r"\+?head=", word) for word in argv):
        return argv
    found = {key: value for key, _, value in (word.partition("=") for word in argv)}
    folders, methods = config_folders(argv), found.get("method", "").split(",")
    if len(methods) > 1 and any(head_of_method(name, folders) for name in methods):
        return argv
    kinds = {name: kind_of_task(name, folders) for name in found.get("task", "").split(",")}
    if "task.kind" in found:
        kinds = {"task.kind": found["task.kind"]}
    heads = {name: head_of(name, kind, methods[0], folders) for name, kind in kinds.items()}
    if len(set(heads.values())) > 1:
        if any(word.lstrip("+~").startswith("objective.") for word in argv):
            said = ", ".join(f"{name} {head}" for name, head in heads.items())
            raise ConfigError(f"objective.… is of one head, and these tasks have several ({said}): sweep over one kind")
        return argv
    [head] = set(heads.values())
    return argv if head is None else [*argv, f"head={head}"]


def fitting_head(config: dict, chosen: dict, given: list[str]) -> dict:
    """The config of `sslzoo adapt`, with the head of its task and method (`head_of`) if the user chose none."""
    task, folders = config["task"] if isinstance(config["task"], dict) else {}, config_folders(sys.argv)
    head = head_of(str(task.get("name")), task.get("kind"), str(chosen.get("method")), folders)
    if "head" in given or head == chosen.get("head") or head not in options("head", folders):
        return config
    from omegaconf import OmegaConf

    return {**config, "objective": OmegaConf.to_container(choices("head", [head], folders)[head])}


def head_of(task: str, kind: str | None, method: str, folders: list[Path]) -> str | None:
    """The head of a task: its method's, if that brings one; the one of the task's own name, if there is one; or the one
    of its kind. Of a method's head that is made for several kinds (<name>_classification, <name>_regression), the one
    for the task's kind; ConfigError if there is none."""
    own = head_of_method(method, folders)
    if own is None:
        return task if task in options("head") else kind
    if kind is None or not own.endswith("_classification"):
        return own
    name, heads = own.removesuffix("classification"), options("head", folders)
    if f"{name}{kind}" not in heads:
        fit = " or ".join(head.removeprefix(name) for head in heads if head.startswith(name))
        raise ConfigError(f"method={method} is for tasks of {fit}, and this one is about {kind}: choose another method")
    return f"{name}{kind}"


def kind_of_task(name: str, folders: list[Path]) -> str | None:
    """The `kind` in a task's file; None if there is no such file or it has none."""
    return said_in("task", name, folders, r"^kind:\s*([\w-]+)")


def head_of_method(name: str, folders: list[Path]) -> str | None:
    """The head that a method's file overrides that of the task's kind with; None if it leaves that."""
    return said_in("method", name, folders, r"^\s*- override /head:\s*([\w-]+)")


def said_in(group: str, name: str, folders: list[Path], pattern: str) -> str | None:
    """What a pattern's group matches in the file of an option; None if there is no such file or match."""
    files = [path for folder in (*folders, CONF) if (path := folder / group / f"{name}.yaml").is_file()]
    text = files[0].read_text(encoding="utf-8", errors="replace") if files else ""
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def composed(name: str, argv: list[str], work) -> None:
    """Compose conf/<name>.yaml with Hydra's command line and call `work` with the config; in a sweep, once per job."""
    asked = {"-h", "--help"} & set(argv)  # Hydra's help would fail on missing choices
    argv = [word for word in argv if word not in ("-h", "--help")]
    if asked and not argv:
        print(explain(name))
        return
    argv = without_allowed(argv)
    check_flags(argv)
    check_blanks(argv)
    argv = as_texts(as_recipes(argv if asked else with_imported(name, argv)))
    folders = config_folders(argv)
    use_folders(folders)
    added = [path.removeprefix("file://") for x in argv if x.startswith("hydra.searchpath=") for path in searched(x)]
    for folder in (Path(path) for path in added if Path(path).is_dir()):
        allowed.add(allowed.held_by(folder))
    # argparse needs all overrides together, but users write flags between them
    overrides = [word for word in argv if not word.startswith("-") and ("=" in word or word.startswith("~"))]
    if name == "pretrain":
        argv = [word for word in argv if word not in overrides]
        overrides = settled(overrides, folders)
        argv += overrides
    if asked:
        print(table(name, overrides, folders))
        return
    saved_argv, begun, failed = sys.argv, [], []
    flags = [word for word in argv if word not in overrides]
    if any(flag.partition("=")[0] in ("--cfg", "-c") for flag in flags):
        held(name, overrides, folders)
    if folders:  # Hydra makes its callbacks before any job
        from omegaconf import OmegaConf

        own = OmegaConf.to_container(composition(name, overrides, folders).hydra)
        allowed.check({"hydra": own}, more=allowed.HYDRA)

    def perform(config, adjust=None) -> float | None:
        chosen = sweep.choices()
        try:
            found = settings(name, config, folders)
            if adjust is not None:
                adjust(found)
            early.refuse(found)
            return work(found, chosen)
        except ConfigError as error:
            raise of_recipe(error, chosen.get("recipe"), typed()) from error

    if {"-m", "--multirun"} & set(flags):
        sweep.run(name, perform, overrides, flags, folders, run_hydra)
        return

    def task(config) -> None:
        begun.append(True)
        sys.argv = saved_argv  # re-executed by Lightning's other ranks
        try:
            perform(config)
        except Exception as error:  # noqa: BLE001 (Hydra would print more than one line)
            failed.append(error)

    run_hydra(name, flags, overrides, folders, task, begun)
    if failed:
        raise failed[0]


def held(name: str, overrides: list[str], folders: list[Path]) -> None:
    """For --cfg: raise the errors that the command would raise first; missing values are allowed."""
    from omegaconf import OmegaConf

    composed = composition(name, overrides, folders)
    config = OmegaConf.masked_copy(composed, [key for key in composed if key != "hydra"])
    check(name, config, folders)
    plain: Any = OmegaConf.to_container(config)
    try:
        early.refuse_settings(plain)
    except ConfigError as error:
        raise of_recipe(error, composed.hydra.runtime.choices.get("recipe"), overrides) from error


def run_hydra(name: str, flags: list[str], overrides: list[str], folders: list[Path], task, begun: list) -> None:
    """Run Hydra's main with the user's config folders, of which its own flag takes one alone. Raises ConfigError for
    errors before any job, while `begun` is empty, as the config is then wrong: a file that is not yaml,
    or a group set to 3."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra
    import hydra._internal.utils as hydra_utils
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    def search_path(*of_main):
        found = of_project(*of_main)
        for folder in folders:
            found.prepend("--config-dir", f"file://{folder.resolve()}", "schema")
        return found

    saved_argv, of_project = sys.argv, hydra_utils.create_automatic_config_search_path
    sys.argv = [f"sslzoo {name}", *folders_and_rest(flags)[1], *overrides]
    try:
        with patch.object(hydra_utils, "create_automatic_config_search_path", search_path):
            hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()
    except Exception as error:
        if begun and not isinstance(error, HydraException | OmegaConfBaseException):
            raise
        raise ConfigError(one_line(error, folders, name, overrides)) from error
    finally:
        sys.argv = saved_argv


def as_recipes(argv: list[str]) -> list[str]:
    """experiment=… as +experiment=… if the user's config folder has it, else as recipe=…, its usual name here."""
    found = []
    for word in argv:
        value = word.partition("=")[2]
        own = any((f / "experiment" / f"{one}.yaml").exists() for f in config_folders(argv) for one in value.split(","))
        found.append(re.sub("^[+]?experiment=", "+experiment=" if own else "recipe=", word))
    return found


def of_recipe(error: ConfigError, recipe: str | None, words: list[str]) -> ConfigError:
    """The error for a setting that a class does not take, with advice added if the recipe sets it and not the overrides
    `words`."""
    found = re.match(r"([\w.]+): \w+ takes no ", str(error))
    if not found or not recipe or any(word.lstrip("+").startswith(f"{found[1]}=") for word in words):
        return error
    return ConfigError(f"{error} (of recipe={recipe}: ~{found[1]} leaves it out)")


def typed() -> list[str]:
    """The overrides of the running command as typed; in a sweep, those of the job."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def given() -> list[str]:
    """The dotted keys that the user set on this command's line."""
    return [word.lstrip("+~").partition("=")[0] for word in typed()]
