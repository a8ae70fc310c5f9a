"""The "next:" command that a command prints; it works as printed, in the current folder. Imports torch only to look
into data."""

import json
import re
import shlex
import shutil
import sys
from pathlib import Path
from typing import Any

import yaml

from sslzoo.cli.flags import OWN_GRAMMAR, config_folders
from sslzoo.compare.process import override
from sslzoo.config import CONF
from sslzoo.errors import UserError
from sslzoo.run import Run

MANY = 200_000  # items, above which labels are not searched for this advice


def command(*words: str, argv: list[str] = []) -> str:  # noqa: B006 (read, never written)
    """`sslzoo <words>`, quoted for a shell, with the config folders of the command line `argv`."""
    folders = [word for folder in config_folders(argv) for word in ("--config-dir", str(folder))]
    # a script that is not on PATH is written with its path
    script = sys.argv[0] if Path(sys.argv[0]).name == "sslzoo" and shutil.which("sslzoo") is None else "sslzoo"
    return shlex.join([script, *words, *folders])


def setting(key: str, value) -> str:
    """key=value for a name or a path, quoted only if it looks like Hydra's grammar (see `flags.as_texts`)."""
    return override(key, value) if re.match(OWN_GRAMMAR, str(value)) else f"{key}={value}"


def after_pretraining(run: Run, job, argv: list[str]) -> str:
    """The command to probe the run on its own data, by a suitable label; a report if there is none."""
    try:
        task = fitting_task(job.data, job.encoder, config_folders(argv))
    except (UserError, OSError):  # advice is not worth an error
        task = None
    if task is None:
        return command("report", str(run.folder), argv=argv)
    return command("probe", setting("run", run.folder), *task, argv=argv)


def fitting_task(data, encoder, folders: list[Path]) -> list[str] | None:
    """The overrides of `sslzoo probe` for a task on a data set: a named task for one of its label columns, else the
    column itself; None if no label column has the same classes in train, valid and test."""
    from omegaconf import OmegaConf

    from sslzoo import config, nodes
    from sslzoo.probe.splits import ByItem, Pool
    from sslzoo.probe.tasks import Task

    pool = Pool(data)
    if len(pool) > MANY:
        return None
    options = []
    for path in sorted(path for folder in (CONF, *folders) for path in (folder / "task").glob("*.yaml")):
        node = yaml.safe_load(path.read_text(encoding="utf-8"))
        own_data = any("/data" in str(default) for default in node.get("defaults", []))
        if not own_data and node.get("label") in pool.columns() and node.get("kind") == "classification":
            options.append(path.stem)
    named: dict[str, list] = {}
    for option, node in config.choices("task", options, folders).items():
        settings: Any = OmegaConf.to_container(node, resolve=True)
        task = nodes.make(settings)
        named.setdefault(task.label, []).append(([f"task={option}"], task))
    for column in pool.columns():
        chosen = [] if len(pool.columns()) == 1 else [f"task.label={column}"]
        anew = [*chosen, "task/split=by_item"]
        every = [*named.get(column, []), (chosen, Task(label=column)), (anew, Task(label=column, split=ByItem()))]
        for words, task in every:
            try:
                task.check(encoder, data)
                classes = task.prepare(pool, encoder.stride).classes
            except UserError:
                continue
            if len(classes) <= len(pool) / 4:  # else probably transcripts, not classes
                return words
    return None


def after_importing(run: Path) -> str:
    """The command to probe an imported encoder on data of its kind."""
    data = json.loads((run / "encoder.json").read_text(encoding="utf-8"))["data"]
    tasks = {
        "vocab_size": ["task=sst2"],
        "sample_rate": ["data=spoken", "task=word"],
        "size": ["data=digits", "task=digit"],
    }
    [task] = [words for name, words in tasks.items() if name in data]
    return command("probe", setting("run", run), *task)


def after_labelling(folder: Path, info: dict, words: list[str], run: Run | None, argv: list[str]) -> str:
    """The command to train on the labels, with the data and encoder that the user wrote for this command or the run; ""
    if neither was written. words: the overrides of this command."""
    data = [word for word in words if _of(word, "data")]
    encoder = []
    if run is not None and run.overrides.exists():
        begun = yaml.safe_load(run.overrides.read_text(encoding="utf-8"))
        data = data or [word for word in begun if _of(word, "data")]
        encoder = [word for word in begun if _of(word, "encoder")]
    elif run is None:  # with frames at the labels' rate
        stack = info["hop"] * 100 // info["sample_rate"]
        encoder = ["encoder=logmel_small", *([] if stack == 2 else [f"encoder.frontend.stack={stack}"])]
    if not data or not encoder:
        return ""
    root = [word for word in words if word.startswith("root=")]
    return command("pretrain", "objective=hubert", *data, *encoder, setting("targets", folder), *root, argv=argv)


def _of(word: str, group: str) -> bool:
    return re.match(rf"[+~]*{group}[.=@/]", word) is not None
