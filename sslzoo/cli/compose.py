"""A command whose settings are composed: Hydra's command line in front, the command's work behind. Imports no torch."""

import os
import re
import sys
from pathlib import Path
from typing import Any

from sslzoo.cli import early, sweep
from sslzoo.cli.flags import as_texts, check_blanks, check_flags, config_folders
from sslzoo.cli.help import composition, table
from sslzoo.cli.importing import with_imported
from sslzoo.cli.terminal import modules_last
from sslzoo.config import CONF, choices, explain, options
from sslzoo.errors import ConfigError
from sslzoo.hints import one_line
from sslzoo.recipes import settled
from sslzoo.schema import check, settings


def of_the_task(argv: list[str]) -> list[str]:
    """The words of `sslzoo probe` or `adapt` with data.path=… as task.data.path=…, where no data is chosen: the
    settings are those of the task's own data then."""
    if any(word.startswith(("data=", "+data=")) for word in argv):
        return argv
    return [f"task.{word}" if word.startswith("data.") else word for word in argv]


def with_head(argv: list[str]) -> list[str]:
    """The words of `sslzoo adapt` with the head that is for the task's kind, where none is chosen. Of a sweep over tasks
    of several kinds each job finds its own (`fitting_head`); raises ConfigError where settings of a head are given too."""
    if any(re.match(r"\+?head=", word) for word in argv):
        return argv
    found = {key: value for key, _, value in (word.partition("=") for word in argv)}
    kinds = {name: kind_of_task(name, config_folders(argv)) for name in found.get("task", "").split(",")}
    if "task.kind" in found:
        kinds = {"task.kind": found["task.kind"]}
    if len(set(kinds.values())) > 1:
        if any(word.lstrip("+~").startswith("objective.") for word in argv):
            said = ", ".join(f"{name} {kind}" for name, kind in kinds.items())
            raise ConfigError(f"objective.… is of one head, and these tasks have several ({said}): sweep over one kind")
        return argv
    [kind] = set(kinds.values())
    return argv if kind is None else [*argv, f"head={kind}"]


def fitting_head(config: dict, chosen: dict, given: list[str]) -> dict:
    """The config of `sslzoo adapt` with the head of its task's kind, as it comes, where no head was chosen."""
    kind = config["task"].get("kind") if isinstance(config["task"], dict) else None
    if "head" in given or kind == chosen.get("head") or kind not in options("head"):
        return config
    from omegaconf import OmegaConf

    return {**config, "objective": OmegaConf.to_container(choices("head", [kind])[kind])}


def kind_of_task(name: str, folders: list[Path]) -> str | None:
    """What a task's file says of its kind; None where there is no such file, or it does not say."""
    files = [path for folder in (*folders, CONF) if (path := folder / "task" / f"{name}.yaml").is_file()]
    text = files[0].read_text(encoding="utf-8", errors="replace") if files else ""
    found = re.search(r"^kind:\s*([\w-]+)", text, re.MULTILINE)
    return found[1] if found else None


def composed(name: str, argv: list[str], work) -> None:
    """Compose conf/<name>.yaml with Hydra's own command line and hand the result to `work`, or to as many as there
    are jobs in a sweep."""
    asked = {"-h", "--help"} & set(argv)  # Hydra's would ask for what is missing
    argv = [word for word in argv if word not in ("-h", "--help")]
    if asked and not argv:
        print(explain(name))
        return
    check_flags(argv)
    check_blanks(argv)
    argv = as_texts(as_recipes(argv if asked else with_imported(name, argv)))
    folders = config_folders(argv)
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder} is not a folder")
    modules_last(folders)
    # argparse takes overrides in one piece only, and users write flags between them
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
        sys.argv = saved_argv  # what Lightning's ranks start again with
        try:
            perform(config)
        except Exception as error:  # noqa: BLE001 (Hydra would print more than one line)
            failed.append(error)

    run_hydra(name, flags, overrides, folders, task, begun)
    if failed:
        raise failed[0]


def held(name: str, overrides: list[str], folders: list[Path]) -> None:
    """Refuse of a config that Hydra is to show what the command would refuse at once; what is missing yet may be."""
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
    """Hydra's own main. Raises ConfigError for what fails while `begun` is empty: that is the config's fault, such as a
    file that is no yaml, or a group set to 3."""
    os.environ["HYDRA_FULL_ERROR"] = "1"
    import hydra
    from hydra.errors import HydraException
    from omegaconf.errors import OmegaConfBaseException

    saved_argv = sys.argv
    sys.argv = [f"sslzoo {name}", *flags, *overrides]
    try:
        hydra.main(version_base="1.3", config_path=str(CONF), config_name=name)(task)()
    except Exception as error:
        if begun and not isinstance(error, HydraException | OmegaConfBaseException):
            raise
        raise ConfigError(one_line(error, folders, name, overrides)) from error
    finally:
        sys.argv = saved_argv


def as_recipes(argv: list[str]) -> list[str]:
    """`experiment=` is what many call a recipe: one of the user's own folder of that name, or a recipe."""
    found = []
    for word in argv:
        value = word.partition("=")[2]
        own = any((f / "experiment" / f"{one}.yaml").exists() for f in config_folders(argv) for one in value.split(","))
        found.append(re.sub("^[+]?experiment=", "+experiment=" if own else "recipe=", word))
    return found


def of_recipe(error: ConfigError, recipe: str | None, words: list[str]) -> ConfigError:
    """A complaint about a setting that a choice does not take, with the mend where it is a recipe that sets it, and
    none of the overrides `words`."""
    found = re.match(r"([\w.]+): \w+ takes no ", str(error))
    if not found or not recipe or any(word.lstrip("+").startswith(f"{found[1]}=") for word in words):
        return error
    return ConfigError(f"{error} (of recipe={recipe}: ~{found[1]} leaves it out)")


def typed() -> list[str]:
    """The overrides of the command that runs, as they were typed; those of one job of a sweep."""
    from hydra.core.hydra_config import HydraConfig

    return list(HydraConfig.get().overrides.task) if HydraConfig.initialized() else []


def given() -> list[str]:
    """The dotted keys that the user set on this command's line."""
    return [word.lstrip("+~").partition("=")[0] for word in typed()]
