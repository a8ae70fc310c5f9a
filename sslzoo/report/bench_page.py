"""The page of a bench: its tables, and the learned weights of layers."""

from html import escape
from pathlib import Path

from sslzoo.report import page
from sslzoo.report.adaptation_page import html
from sslzoo.report.benches import notes, tables
from sslzoo.report.section import facts
from sslzoo.run import write_atomic


def write(out: Path, results: dict) -> None:
    """Write the page of results.json to `out`, atomically."""
    machine, steps = results["machine"], results["steps"]
    done = sum(step["result"] is not None for step in steps)
    said = [f"{done} of {len(steps)} commands done", f"{machine['cores']} cores ({machine['arch']})"]
    said += [f"commit {results['commit']}"] if results.get("commit") else []
    body = [f"<header><h1>{escape(results['name'])}</h1>{facts(said)}</header>", page.failures({"runs": failed(steps)})]
    body += [html(table) for table in tables(results)]
    body += [f'<p class="key">{escape(line)}</p>' for line in (*results["missing"], *notes(results))]
    text = page.whole(results["name"], body)
    write_atomic(out, lambda p: p.write_text(text, encoding="utf-8", errors="replace"))


def failed(steps: list[dict]) -> list[dict]:
    """The steps with an error, as `page.failures` has them."""
    return [{"run": f"{step['run']}, {step['task']}", "error": step["error"]} for step in steps if step["error"]]
