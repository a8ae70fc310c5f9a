"""The results of a comparison of adaptations: results.json, results.md, report.html, and the table printed."""

import json
import sys
from pathlib import Path

from rich.console import Console

from sslzoo.compare.adaptations import Adaptation
from sslzoo.config import fingerprint
from sslzoo.report import adaptation_page, adaptations
from sslzoo.run import commit, machine, write_atomic, write_json

KEPT = (  # of a run's result.json
    "metric", "valid", "test", "chance", "n_train", "n_valid", "n_test", "parameters", "trained_parameters",
    "head_parameters", "bytes_stored", "peak_memory_gb", "peak_gpu_memory_gb", "latency_ms", "exits", "steps", "seconds",
    "chosen", "device", "commit", "leakage",
)  # fmt: skip


def write(config: dict, folder: Path, runs: list[Adaptation], errors: dict[str, str]) -> dict:
    """Write the results of what is done, and return results.json. errors: {run: why it failed}."""
    said = [_result(planned, errors.get(planned.name)) for planned in runs]
    found = adaptations.rows(said)
    results = {
        "name": config["name"],
        "encoder": runs[0].encoder.name,
        "config_hash": fingerprint({key: value for key, value in config.items() if key not in ("jobs", "run")}),
        "commit": commit(),
        "machine": machine(),
        "seeds": config["seeds"],
        "config": config,
        "runs": said,
        "rows": [row.json() for row in found],
        "summary": adaptations.summary(found),
        "minutes": sum(run["result"]["seconds"] for run in said if run["result"]) / 60,
    }
    write_json(folder / "results.json", results)
    write_atomic(folder / "results.md", lambda path: path.write_text(adaptations.markdown(found), encoding="utf-8"))
    adaptation_page.write(folder / "report.html", results)
    return results


def show(results: dict, folder: Path) -> None:
    """Print the tables of results.json."""
    out = Console(highlight=False, width=None if sys.stdout.isatty() else 160)
    rows = adaptations.rows(results["runs"])
    for table in adaptations.terminal(rows):
        out.print(table)
    said = " ".join(filter(None, [results["summary"], adaptations.NOTE, adaptations.outdated(rows)]))
    lines = [said, f"wrote {folder / 'report.html'}, results.md and results.json"]
    out.print("\n".join(lines), markup=False, soft_wrap=True)


def _result(planned: Adaptation, error: str | None) -> dict:
    """The entry of an adaptation in results.json."""
    found = json.loads(planned.run.result.read_text(encoding="utf-8")) if planned.done else None
    return {
        "run": planned.name,
        "entry": planned.entry,
        "task": planned.task,
        "shots": planned.shots,
        "seed": planned.seed,
        "done": planned.done,
        "error": error,
        "result": found and {key: found[key] for key in KEPT if key in found},
    }
