"""The README.md beside exported weights: what they are, how they came about, what they reached, how to cite."""

import json
from pathlib import Path
from typing import Any

import yaml

import sslzoo
from sslzoo.config import choices, options
from sslzoo.run import Run

CITE = """@software{sslzoo,
  title = {sslzoo: pretrain encoders for speech, images and text without labels, and measure what they learned},
  author = {{the sslzoo authors}},
  version = {%s}
}"""


def write_card(run: Run, out: Path, use: str, library: str, left: list[str]) -> None:
    """use: lines of Python that open the weights. library: for the card's header. left: what is not among them."""
    saved = json.loads(run.encoder.read_text(encoding="utf-8"))
    config = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    objective = config.get("objective")
    frontend, trunk = saved["encoder"].get("frontend", {}), saved["encoder"].get("trunk", {})
    shape = (
        f", {trunk['depth']} layer{'s' * (trunk['depth'] > 1)} of {trunk['dim']}"
        if {"depth", "dim"} <= trunk.keys()
        else ""
    )
    kinds = {"vocab_size": "text", "sample_rate": f"speech at {frontend.get('sample_rate')} Hz"}
    of = next((kind for name, kind in kinds.items() if name in frontend), "images")
    header = {"library_name": library, "tags": ["sslzoo", of.split()[0]]}
    lines = ["---", yaml.safe_dump(header, sort_keys=False).strip(), "---", f"# {run.name}", ""]
    came = "written" if "imported" in config else "pretrained"
    lines += [f"An encoder of {of}{shape}, {came} by sslzoo {sslzoo.__version__}; {pooling(saved['encoder'])}.", ""]
    lines += ["```python", use, "```", ""]
    if left:
        lines += [f"Not in these files: {'; '.join(left)}.", ""]
    lines += ["## Data and recipe", ""]
    if "imported" in config:
        family = config["imported"]["family"]
        lines += [f"Imported from weights of another library (`{family}`), as they were; their licence holds.", ""]
    else:
        lines += [f"- data: `{name_of(config['data'])}`", f"- objective: {said(objective)}"]
        lines += [f"- encoder: `{name_of(saved['encoder'])}`", f"- seed: {config['seed']}"]
        if run.overrides.exists():
            words = yaml.safe_load(run.overrides.read_text(encoding="utf-8")) or []
            lines += ["", "```sh", " ".join(["sslzoo pretrain", *words]), "```"]
        lines.append("")
    lines += [*figures(run), "## Cite", "", "```bibtex", CITE % sslzoo.__version__, "```", ""]
    (out / "README.md").write_text("\n".join(lines), encoding="utf-8")


def pooling(encoder: dict[str, Any]) -> str:
    how = {"first": "its first token", "pooler": "its pooler's output"}
    return f"one vector an item: {how.get(encoder.get('pool', 'mean'), 'the mean over its tokens')}"


def name_of(node: Any) -> str:
    return str(node.get("_target_", "")).rsplit(".", 1)[-1] if isinstance(node, dict) else str(node)


def said(objective: Any) -> str:
    """The first line of the objective's option, which names its paper."""
    lines = options("objective")
    for name, node in choices("objective", lines).items():
        if isinstance(objective, dict) and node.get("_target_") == objective.get("_target_"):
            return lines[name]
    return name_of(objective)


def figures(run: Run) -> list[str]:
    """What training and probes reached, as lists."""
    lines = ["## Figures", ""]
    summary = json.loads(run.summary.read_text(encoding="utf-8")) if run.summary.exists() else {}
    lines += [f"- {key}: {summary[key]:g}" for key in ("steps", "minutes") if isinstance(summary.get(key), int | float)]
    logs = summary.get("logs", {})
    lines += [f"- {key}: {logs[key]:.4g}" for key in ("loss", "val_loss") if isinstance(logs.get(key), int | float)]
    probes = sorted(run.probes.glob("*.json"))
    if probes:
        lines += ["", "| task | metric | linear probe | untrained | raw | chance |", "|---|---|---:|---:|---:|---:|"]
    for path in probes:
        found = json.loads(path.read_text(encoding="utf-8"))
        scores = [
            f"{100 * found[kind]['linear']['test']:.1f}" if kind in found else ""
            for kind in ("pretrained", "untrained", "raw")
        ]
        one = next(iter(found.values()))
        lines.append(f"| {path.stem} | {one['metric']} | {' | '.join(scores)} | {100 * one['chance']:.1f} |")
    return [*lines, ""] if len(lines) > 2 else []
