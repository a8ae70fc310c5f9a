"""What a page says of one run, or of its seeds together: what it was, how it went, what is missing."""

import json
import math
from collections import Counter
from html import escape

from sslzoo.report import curves, pictures, tables, visualizations
from sslzoo.report.record import Record


def facts(parts: list) -> str:
    """A line of facts, those that are known."""
    return f'<p class="facts">{escape(" · ".join(str(p) for p in parts if p))}</p>'


def count(number: int, thing: str) -> str:
    """ "1 run", "12 000 steps"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}".replace(",", " ")


def machine_of(summary: dict) -> str:
    """Where a run was measured, in a few words."""
    machine = summary.get("machine")
    machine = machine if isinstance(machine, dict) else {}
    device = summary.get("device", "cpu")
    words = [
        "" if device == "cpu" else device,
        f"{machine.get('system', '')} {machine.get('arch', '')}".strip(),
    ]
    words.append(f"{machine['cores']} cores" if machine.get("cores") else "")
    return ", ".join(str(word) for word in words if word)


def section(records: list[Record]) -> str:
    """All that is drawn of runs of one config: curves, pictures, features, layers, warnings, config."""
    parts = [_curves(records)]
    if drawn := next((r for r in records if r.visualization), None):
        try:
            parts.append(f"<h3>What was asked, and what was answered</h3>{visualizations.draw(drawn.visualization)}")
        except ValueError as error:
            parts.append(f'<ul class="missing"><li>visualization.pt cannot be drawn: {escape(str(error))}.</li></ul>')
    if probed := next((r for r in records if r.probes), None):
        parts += [_features(probed), _layers(probed)]
    return "".join([*parts, _events(records), _config(records)])


def header(records: list[Record]) -> str:
    """What was trained, on what, for how long."""
    if not records:
        return '<ul class="missing"><li>No run of it was started.</li></ul>'
    first = next((r for r in records if r.config), records[0])
    objective, data, encoder = (first.part(p) for p in ("objective", "data", "encoder"))
    seeds = [str(r.seed) for r in records if r.seed is not None]
    size = first.number("parameters")
    what = [f"{objective} on {data}" if objective and data else objective or data]
    what.append(f"{encoder} of {size / 1e6:.2f} M parameters" if encoder and size else encoder)
    what.append(f"seed{'s' if len(seeds) > 1 else ''} {', '.join(seeds)}" if seeds else "")
    steps = first.number("steps")
    cost = [count(int(steps), "step") if steps is not None else ""]
    for key, text in (("minutes", "{:.1f} minutes"), ("peak_memory_gb", "{:.1f} GB at most")):
        known = [v for r in records if (v := r.number(key)) is not None]
        cost.append(text.format(sum(known) / len(known)) if known else "")
    cost.append(machine_of(first.summary))
    return (facts(what) if any(what) else "") + (facts(cost) if any(cost) else "")


def missing(records: list[Record]) -> str:
    """A line for each piece that is not there, with the runs that lack it."""
    told = Counter(text for r in records for text in r.missing)
    lines = []
    for text, times in told.items():
        names = ", ".join(r.run.name for r in records if text in r.missing)
        where = f"{escape(names)}: " if len(records) > 1 and times < len(records) else ""
        lines.append(f"<li>{where}{escape(text)}</li>")
    return f'<ul class="missing">{"".join(lines)}</ul>' if lines else ""


# drawn into the chart of another column: what it is compared with, and the same on the validation split
LEVELS = {"accuracy": "chance", "loss": "uniform_loss"}
VALID = "val_"


def _curves(records: list[Record]) -> str:
    names = list(dict.fromkeys(name for r in records for name in r.metrics))
    levels = {}
    for name, other in LEVELS.items():
        values = [v for r in records for v in r.metrics.get(other, ([], []))[1] if math.isfinite(v)]
        if name in names and values:
            levels[name] = sum(values) / len(values)  # that of one batch is by what was asked of it
    inside = [LEVELS[name] for name in levels] + [VALID + name for name in names if VALID + name in names]
    charts = []
    for name in sorted((n for n in names if n not in inside), key=lambda n: n != "loss"):
        series = [r.metrics[name] for r in records if name in r.metrics]
        dashed = [r.metrics[VALID + name] for r in records if VALID + name in r.metrics]
        charts.append(curves.curve(name, series, dashed, levels.get(name)))
    if not charts:
        return ""
    key = "Against steps; the heavy line is the running mean, and the figure at its right is where it ended"
    key += ", a line a seed" if len(records) > 1 else ""
    key += ", dashed the validation split" if any(n.startswith(VALID) for n in inside) else ""
    key += ", dotted what guessing gives" if levels else ""
    return f'<h3>Curves</h3><div class="charts">{"".join(charts)}</div><p class="key">{key}.</p>'


def _plane(probe, colours: dict[str, int]) -> str:
    features = probe.get("features") if isinstance(probe, dict) else None
    if not isinstance(features, dict):
        return '<p class="absent">no features were kept</p>'
    try:
        return pictures.plane(features, colours)
    except (ValueError, KeyError, TypeError) as error:
        return f'<p class="absent">cannot be drawn: {escape(str(error))}</p>'


def _features(record: Record) -> str:
    cells = ['<p class="over corner"></p>', *(f'<p class="over">{kind}</p>' for kind in tables.KINDS)]
    for task, probe in record.probes.items():
        kept = [p.get("features") for k in tables.KINDS if isinstance(p := probe.get(k), dict)]
        labels = next((f["label"] for f in kept if isinstance(f, dict) and isinstance(f.get("label"), list)), [])
        colours = pictures.classes(labels)
        names = "".join(f'<span class="c{c}">{escape(name)}</span> ' for name, c in colours.items())
        others = len(set(map(str, labels))) - len(colours)
        if not colours and labels:
            names = "from pale, low, to dark, high"
        elif others > 0:
            names += f'<span class="others">and {others} more, grey</span>'
        cells.append(f'<div class="classes"><strong>{escape(task)}</strong>{names}</div>')
        cells += [_plane(probe.get(kind), colours) for kind in tables.KINDS]
    key = "Frozen features of the test split on two principal components, coloured by what the task asks."
    return f'<h3>Features</h3><div class="planes">{"".join(cells)}</div><p class="key">{key}</p>'


def _layers(record: Record) -> str:
    drawn = []
    for task, probe in record.probes.items():
        linear = (probe.get("pretrained") or {}).get("linear") if isinstance(probe.get("pretrained"), dict) else None
        weights = linear.get("layer_weights") if isinstance(linear, dict) else None
        if isinstance(weights, list) and len(weights) > 1:
            drawn.append(
                f"<figure>{curves.bars(weights)}<figcaption>{escape(task)}{_alone(linear)}</figcaption></figure>"
            )
    if not drawn:
        return ""
    key = "How much each layer of the pretrained encoder counts for a task, from the trunk's input (0) on."
    return f'<h3>Layers</h3><div class="weights">{"".join(drawn)}</div><p class="key">{key}</p>'


def _alone(linear: dict) -> str:
    """What a head on each layer alone scores on test, where that was asked for."""
    each = linear.get("by_layer")
    scores = each.get("test") if isinstance(each, dict) else None
    if not isinstance(scores, list):
        return ""
    told = " · ".join(f"{name}: {tables.percent(v)}" for name, v in zip(linear["layers"], scores, strict=False))
    return f"<br>each alone: {escape(told)}"


def _events(records: list[Record]) -> str:
    if not records:
        return ""
    seen: dict[tuple[str, str], list[tuple[str, dict]]] = {}
    for record in records:
        for event in record.events:
            key = str(event.get("kind", "warning")), str(event.get("message", ""))
            seen.setdefault(key, []).append((record.run.name, event))
    lines = []
    for (kind, message), events in seen.items():
        names = ", ".join(dict.fromkeys(name for name, _ in events))
        where = f" of {names}" if len(records) > 1 else ""
        first, last = (events[at][1].get("step", "?") for at in (0, -1))
        again = f", {len(events)} times until step {last}" if len(events) > 1 else ""
        lines.append(f"<li><b>{escape(kind)}</b> at step {escape(f'{first}{again}{where}: {message}')}</li>")
    told = f'<ul class="events">{"".join(lines)}</ul>' if lines else '<p class="key">None was raised.</p>'
    return f"<h3>Warnings</h3>{told}"


def _config(records: list[Record]) -> str:
    first = next((r for r in records if r.config_text), None)
    if first is None:
        return ""
    kept = [(f"config.yaml of {first.run.name}", first.config_text)]
    kept += [("What it was measured with", json.dumps(first.summary, indent=1))] if first.summary else []
    texts = (f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>" for name, text in kept)
    return f"<h3>Config</h3>{''.join(texts)}"
