"""`sslzoo bench`: every task that the data at hand has labels for, asked of one encoder or several, in one table.

Each task is a command in a process of its own, `sslzoo adapt`, `probe` or `analyze`; the same command again skips what
is done and goes on with the rest.

    runs/<name>/
        results/<run>/<task>-s<seed>.json    what a command found
        results.json        all of it, with what was asked on which data, what was left out, machine and commit
        results.md          the table
        report.html         the page
"""

import sys
from pathlib import Path

from rich.console import Console

from sslzoo.bench.encoders import encoders
from sslzoo.bench.questions import Question, questions
from sslzoo.bench.steps import Step, planned
from sslzoo.compare.process import Command, signals_as_interrupt
from sslzoo.compare.queue import alone, raise_first, work_off
from sslzoo.errors import ConfigError, UserError
from sslzoo.report import bench_page, benches
from sslzoo.run import checked_name, commit, machine, write_atomic, write_json


def run_bench(config: dict, command: Command) -> dict:
    """Ask what was not asked yet, write the results, print the table, and return results.json. config: the composed one
    of `sslzoo bench`. Everything is checked before anything runs; an error of one task is listed,
    and raised at the end."""
    check(config)
    root = Path(str(config["root"]))
    folder, say = root / checked_name(config["name"]), Console(stderr=True, highlight=False)
    asks = questions(config)
    asked = encoders(config["run"], root, config["untrained"])
    kinds = {one.modality for one in asked}
    if config["tasks"] is None:
        asks = [one for one in asks if one.modality in kinds]
    if strange := [one for one in asks if one.modality not in kinds]:
        raise ConfigError(
            f"task {strange[0].name} is about {strange[0].modality}, and the encoders read {' and '.join(kinds)}"
        )
    for one in asks:
        if one.data is None:
            say.print(one.missing(), style="yellow", markup=False)
    steps = planned(asked, asks, config, command, folder)
    if not steps:
        raise UserError(f"nothing is left to ask: {'; '.join(one.missing() for one in asks) or 'no task fits'}")
    for step in {
        (step.run.name, step.question.name): step for step in reversed(steps)
    }.values():  # of folds and seeds, one
        try:
            step.check(command)
        except UserError as error:
            raise type(error)(f"{step.name}: {error}") from error

    def write(errors: dict[str, UserError]) -> dict:
        return written(config, folder, steps, asks, {name: str(error) for name, error in errors.items()})

    with alone(folder, command, "bench"), signals_as_interrupt():
        todo = [step for step in steps if step.result is None]
        if len(todo) < len(steps):
            say.print(f"{len(steps) - len(todo)} of {len(steps)} are done already", style="bold")
        errors = work_off(todo, config["jobs"], config["on_error"] == "stop", command, say, write)
        results = write(errors)
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    for table in benches.terminal(results):
        out.print(table)
    lines = [
        *results["missing"],
        *benches.notes(results),
        f"wrote {folder / 'report.html'}, results.md and results.json",
    ]
    out.print("\n".join(lines), markup=False, soft_wrap=True)
    raise_first(errors, f"of {len(steps)} tasks")
    return results


def check(config: dict) -> None:
    """Raise ConfigError for settings of other kinds."""
    seeds = config["seeds"]
    if not isinstance(seeds, list) or not seeds or not all(type(s) is int and s >= 0 for s in seeds):
        raise ConfigError(f"seeds must be a list of whole numbers from 0, such as seeds=[0,1,2]; got {seeds}")
    if len(set(seeds)) < len(seeds):
        raise ConfigError(f"seeds has one twice: {seeds}")
    if type(config["jobs"]) is not int or config["jobs"] < 1:
        raise ConfigError(f"jobs, the tasks at a time, must be 1 or more; got {config['jobs']}")
    if config["on_error"] not in ("stop", "continue"):
        raise ConfigError(f"on_error must be stop or continue, got {config['on_error']}")
    if type(config["untrained"]) is not bool:
        raise ConfigError(f"untrained must be true or false, got {config['untrained']}")


def written(config: dict, folder: Path, steps: list[Step], asks: list[Question], errors: dict[str, str]) -> dict:
    """Write the results so far, and return results.json."""
    told = {step.question.name: step.told for step in steps}
    results = {
        "name": config["name"],
        "commit": commit(),
        "machine": machine(),
        "seeds": config["seeds"],
        "scale": config["scale"],
        "tasks": [
            {
                "name": one.name,
                "what": one.what,
                "modality": one.modality,
                "command": one.command,
                "metrics": one.metrics,
                "data": one.data.name,
                "note": one.data.note,
                "smaller": told.get(one.name, []),
            }
            for one in asks
            if one.data is not None
        ],
        "missing": [one.missing() for one in asks if one.data is None],
        "steps": [
            {
                "run": step.run.name,
                "row": step.asked.row,
                "task": step.question.name,
                "seed": step.seed,
                "fold": step.fold,
                "error": errors.get(step.name),
                "result": step.result,
                "commit": step.commit,
            }
            for step in steps
        ],
    }
    results["rows"] = [row.json() for row in benches.rows(results)]
    write_json(folder / "results.json", results)
    write_atomic(folder / "results.md", lambda path: path.write_text(benches.markdown(results), encoding="utf-8"))
    bench_page.write(folder / "report.html", results)
    return results
