"""`sslzoo runs` and `sslzoo watch`: the registry of runs, which is the folders themselves. Imports no
torch, but to watch."""

import json
import shutil
import sys
from pathlib import Path
from typing import Any

from sslzoo.cli.flags import Parser
from sslzoo.errors import ConfigError, UserError, nearest
from sslzoo.run import Run

ACTIONS = {
    "ls": "all runs (the default)",
    "show": "one run in full: show RUN",
    "best": "the best runs first: best [val_loss|loss|TASK]",
    "diff": "the settings in which two differ: diff RUN OTHER",
    "rm": "remove runs: rm RUN… --yes",
}


def runs(argv: list[str]) -> None:
    """the runs, how they stand and what they scored: sslzoo runs [ls|show|best|diff|rm] [root=runs] [--json]"""
    listed = "; ".join(f"{name}: {what}" for name, what in ACTIONS.items())
    parser = Parser(prog="sslzoo runs", description=f"{runs.__doc__}. {listed}")
    parser.add_argument(
        "words", nargs="*", help="what to do, with which runs; and the folder that they lie in (root=runs)"
    )
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--yes", action="store_true", help="rm: remove them, do not only say what would be")
    args = parser.parse_intermixed_args(argv)  # flags may stand between the words
    words, root = rooted(args.words)
    action = words.pop(0) if words and words[0] in ACTIONS else "ls"
    if action == "ls" and words:  # sslzoo runs FOLDER
        if not Path(words[0]).is_dir():
            raise UserError(f"there is no folder {words[0]}: root=… is where the runs lie{nearest(words[0], ACTIONS)}")
        root = Path(words.pop(0))
    takes = {"ls": (0, 0), "show": (1, 1), "best": (0, 1), "diff": (2, 2), "rm": (1, 10**6)}[action]
    if not takes[0] <= len(words) <= takes[1]:
        raise ConfigError(f"runs {action}: {ACTIONS[action]}; got {len(words)} words")
    from sslzoo.report.runs import rows, table

    if action == "ls":
        found = rows(root) if root.is_dir() else []
        said: Any = [row.json() for row in found]
        text = table(found) if found else f"there are no runs in {root}/"
    elif action == "best":
        said, text = best(root, words[0] if words else "val_loss")
    elif action == "show":
        said, text = show(Run.find(words[0], root))
    elif action == "diff":
        said, text = diff(*(Run.find(word, root) for word in words))
    else:
        said, text = remove(root, words, args.yes)
    print(json.dumps(said, indent=1) if args.json else text)


def rooted(words: list[str]) -> tuple[list[str], Path]:
    """(the words but root=FOLDER, that folder). Raises UserError if there is none."""
    given = [word.removeprefix("root=") for word in words if word.startswith("root=")]
    if given and not Path(given[-1]).is_dir():
        raise UserError(f"there is no folder {given[-1]}: root=… is where the runs lie")
    return [word for word in words if not word.startswith("root=")], Path(given[-1] if given else "runs")


def best(root: Path, metric: str) -> tuple[list[dict], str]:
    """Runs by a loss, the lowest first, or by the score of a task, the highest first."""
    from sslzoo.report.runs import rows, table

    found = rows(root) if root.is_dir() else []
    if metric in ("val_loss", "loss"):
        ranked = sorted(
            (row for row in found if getattr(row, metric) is not None), key=lambda row: getattr(row, metric)
        )
    else:
        tasks = sorted({task for row in found for task in row.scores})
        if metric not in tasks:
            raise UserError(
                f"no run in {root}/ has a score of {metric}{nearest(metric, tasks)} — there are "
                f"{', '.join(['val_loss', 'loss', *tasks])}"
            )
        ranked = sorted((row for row in found if metric in row.scores), key=lambda row: -row.scores[metric])
    if not ranked:
        raise UserError(f"no run in {root}/ has a {metric} yet")
    return [row.json() for row in ranked], table(ranked)


def show(run: Run) -> tuple[dict, str]:
    """Everything of one run's row, its heartbeat and its warnings."""
    from sslzoo.report.runs import heartbeat, row

    said = row(run).json() | {"heartbeat": heartbeat(run)}
    events = run.events.read_text(encoding="utf-8", errors="replace").splitlines() if run.events.exists() else []
    said["events"] = [line for line in events if line.strip()]
    lines = []
    for key, value in said.items():
        if value in (None, [], {}):
            continue
        shown = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        lines += [f"{key:10} {line}" for line in ([shown] if not isinstance(value, list) else map(str, value))]
    return said, "\n".join(lines)


def diff(run: Run, other: Run) -> tuple[dict, str]:
    """{setting: [of one, of the other]} where two runs' configs differ."""
    import yaml

    from sslzoo.config import leaves

    flat = []
    for one in (run, other):
        try:
            flat.append(dict(leaves(yaml.safe_load(one.config.read_text(encoding="utf-8")))))
        except (OSError, ValueError, yaml.YAMLError) as error:
            raise UserError(f"{one.config} cannot be read: {str(error).splitlines()[0]}") from error
    ours, theirs = flat
    keys = sorted(key for key in ours.keys() | theirs.keys() if ours.get(key) != theirs.get(key))
    found = {key: [ours.get(key, "absent"), theirs.get(key, "absent")] for key in keys}
    if not found:
        return {}, f"{run.folder} and {other.folder} have the same settings"
    wide = max(map(len, found))
    return found, "\n".join(f"{key:{wide}}  {a} -> {b}" for key, (a, b) in found.items())


def remove(root: Path, names: list[str], sure: bool) -> tuple[list[str], str]:
    """Remove runs under `root`. Raises UserError, before any is removed, for one that is elsewhere or being written."""
    from sslzoo.lock import holder

    found = [Run.find(name, root) for name in names]
    for run in found:
        folder, top = run.folder.resolve(), root.resolve()
        if top not in folder.parents or run.folder.is_symlink():
            raise UserError(f"{run.folder} does not lie in {root}/: only runs in it are removed")
        if (who := holder(run.folder)) is not None:
            raise UserError(f"{run.folder} is being written by another process ({who}): end it first")
    folders = [str(run.folder) for run in found]
    if not sure:
        return folders, "\n".join([*(f"would remove {folder}" for folder in folders), "--yes removes them"])
    for run in found:
        try:
            shutil.rmtree(run.folder)
        except OSError as error:
            raise UserError(f"cannot remove {run.folder}: {error.strerror}") from error
    return folders, "\n".join(f"removed {name}" for name in folders)


def watch(argv: list[str]) -> None:
    """a page that follows the runs live, on this machine: sslzoo watch [root=runs] [--port 8765]"""
    parser = Parser(prog="sslzoo watch", description=watch.__doc__)
    parser.add_argument("words", nargs="*", help="root=FOLDER, where the runs lie (default: runs)")
    parser.add_argument("--port", type=int, default=8765, help="of 127.0.0.1; 0: any that is free")
    args = parser.parse_intermixed_args(argv)  # flags may stand between the words
    words, root = rooted(args.words)
    if words:
        raise ConfigError(f"watch takes root=FOLDER and --port, not '{words[0]}'")
    if not root.is_dir():
        raise UserError(f"there is no folder {root}: root=… is where the runs lie")
    from sslzoo.report.watch import serving

    with serving(root, args.port) as server:
        print(f"watching {root}/ at http://127.0.0.1:{server.server_port}/ (Ctrl-C ends)", file=sys.stderr, flush=True)
        server.serve_forever()
