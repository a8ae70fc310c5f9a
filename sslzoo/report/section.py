"""The parts of a page about one run or its seeds, and charts of several runs together."""

import json
import math
from collections import Counter
from html import escape

from sslzoo.report import analyses, charts, confusion, curves, healthy, planes, sounds, tables, visualizations
from sslzoo.report.curves import Series
from sslzoo.report.record import Record, at


def facts(parts: list) -> str:
    """A line of facts, without empty ones."""
    return f'<p class="facts">{escape(" · ".join(str(p) for p in parts if p))}</p>'


def count(number: int, thing: str) -> str:
    """ "1 run", "12 000 steps"."""
    return f"{number:,} {thing}{'' if number == 1 else 's'}".replace(",", " ")


def machine_of(summary: dict) -> str:
    """The device and machine of a run, in a few words."""
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
    """Everything about runs of one config: curves, pictures, sounds, features, confusion, layers, analyses,
    config."""
    parts = [_curves(records)]
    if drawn := next((r for r in records if r.visualization), None):
        try:
            parts.append(f"<h3>What was asked, and what was answered</h3>{visualizations.draw(drawn.visualization)}")
        except ValueError as error:
            parts.append(f'<ul class="missing"><li>visualization.pt cannot be drawn: {escape(str(error))}.</li></ul>')
        parts.append(sounds.html(drawn.visualization))
    if probed := next((r for r in records if r.probes), None):
        parts += [planes.html(probed), _leakage(probed), confusion.html(probed), _layers(probed)]
    parts += [analyses.html(record) for record in records if record.analyses]
    return "".join([*parts, _config(records)])


def header(records: list[Record]) -> str:
    """Objective, data, encoder, steps, time and machine."""
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
    """A line for each missing piece, with the runs that lack it."""
    told = Counter(text for r in records for text in r.missing)
    lines = []
    for text, times in told.items():
        names = ", ".join(r.run.name for r in records if text in r.missing)
        where = f"{escape(names)}: " if len(records) > 1 and times < len(records) else ""
        lines.append(f"<li>{where}{escape(text)}</li>")
    return f'<ul class="missing">{"".join(lines)}</ul>' if lines else ""


# drawn in the chart of another column: its reference value, and its values on the validation split
LEVELS = {"accuracy": "chance", "loss": "uniform_loss"}
VALID = "val_"


def _levels(records: list[Record], names: list[str]) -> dict[str, float]:
    """{column: its reference value, averaged over batches}, such as chance."""
    levels = {}
    for name, other in LEVELS.items():
        values = [v for r in records for v in r.metrics.get(other, ([], []))[1] if math.isfinite(v)]
        if name in names and values:
            levels[name] = sum(values) / len(values)
    return levels


def _series(name: str, records: list[Record], look: str = "") -> list[Series]:
    """A column of each run that has it, and its values on the validation split."""
    asked = [(name, False), (VALID + name, True)]
    return [Series(r.run.name, *r.metrics[n], look, dashed) for n, dashed in asked for r in records if n in r.metrics]


def _columns(records: list[Record], levels: dict[str, float]) -> list[str]:
    """The columns with their own chart, the loss first."""
    names = list(dict.fromkeys(name for r in records for name in r.metrics))
    inside = [LEVELS[name] for name in levels] + [VALID + name for name in names if VALID + name in names]
    return sorted((n for n in names if n not in inside), key=lambda n: n != "loss")


def _curves(records: list[Record]) -> str:
    levels = _levels(records, list(dict.fromkeys(name for r in records for name in r.metrics)))
    drawn = {name: _series(name, records) for name in _columns(records, levels)}
    if not drawn:
        return ""
    band = healthy.find(records[0].config)
    lines = (curves.curve(n, s, levels.get(n), band if n == "loss" else None) for n, s in drawn.items())
    return f'<h3>Curves</h3><div class="charts">{"".join(lines)}</div>{_key(drawn, len(records) > 1, levels, band)}'


def _key(drawn: dict[str, list[Series]], seeds: bool, levels: dict, band=None) -> str:
    """The legend of these charts, with only what occurs in them."""
    every = [(name, s) for name, series in drawn.items() for s in series]
    key = "Against steps"
    if any(curves.is_smoothed(name, s) for name, s in every):
        key += "; the faint line is what was logged, the heavy one its running mean, and the figure at its right where that ended"
    else:
        key += "; the figure at the right is where it ended"
    key += ", a line a seed" if seeds else ""
    key += ", dashed the validation split" if any(s.dashed for _, s in every) else ""
    key += ", dotted what guessing gives" if set(levels) & set(drawn) else ""
    key += f", tinted where {band.seeds} healthy runs lay" if band and "loss" in drawn else ""
    return f'<p class="key">{key}.</p>'


def overlay(groups: dict[str, list[Record]]) -> str:
    """A chart for each column that two or more groups have, with a colour per group; "" if there is none."""
    looks = {label: f"c{n}" if n < planes.COLOURS else "cx" for n, label in enumerate(groups)}
    every = [r for records in groups.values() for r in records]
    drawn = {}
    for name in _columns(every, _levels(every, ["accuracy", "loss"])):
        if sum(any(name in r.metrics for r in records) for records in groups.values()) > 1:
            drawn[name] = [s for label, records in groups.items() for s in _series(name, records, looks[label])]
    if not drawn:
        return ""
    legend = "".join(f'<button type="button" class="{look}">{escape(label)}</button> ' for label, look in looks.items())
    lines = "".join(curves.curve(name, series) for name, series in drawn.items())
    key = _key(drawn, any(len(records) > 1 for records in groups.values()), {})
    if len({r.part("objective") for r in every}) > 1:
        key = key.replace(
            ".</p>", ". The losses of two objectives ask different things: compare their courses only.</p>"
        )
    return f'<div class="overlay"><h3>Curves together</h3><p class="legend">{legend}</p><div class="charts">{lines}</div>{key}</div>'


def _layers(record: Record) -> str:
    drawn = []
    for task, probe in record.probes.items():
        linear = (probe.get("pretrained") or {}).get("linear") if isinstance(probe.get("pretrained"), dict) else None
        weights = linear.get("layer_weights") if isinstance(linear, dict) else None
        if isinstance(weights, list) and len(weights) > 1:
            drawn.append(
                f"<figure>{charts.bars(weights)}<figcaption>{escape(task)}{_alone(linear)}</figcaption></figure>"
            )
    if not drawn:
        return ""
    key = "How much each layer of the pretrained encoder counts for a task, from the trunk's input (0) on."
    return f'<h3>Layers</h3><div class="weights">{"".join(drawn)}</div><p class="key">{key}</p>'


def _leakage(record: Record) -> str:
    """What of each task's test was in what was learned from."""
    said = {task: at(probe, "pretrained", "leakage", "said") for task, probe in record.probes.items()}
    lines = [f"<li><strong>{escape(task)}</strong>: {escape(str(text))}.</li>" for task, text in said.items() if text]
    key = "By content: an item is counted if what the encoder reads of it is the same to the bit."
    return f'<h3>Seen before</h3><ul class="leakage">{"".join(lines)}</ul><p class="key">{key}</p>' if lines else ""


def _alone(linear: dict) -> str:
    """The test scores of heads on single layers, if measured (probe.by_layer)."""
    each = linear.get("by_layer")
    scores = each.get("test") if isinstance(each, dict) else None
    if not isinstance(scores, list):
        return ""
    told = " · ".join(f"{name}: {tables.percent(v)}" for name, v in zip(linear["layers"], scores, strict=False))
    return f"<br>each alone: {escape(told)}"


def _config(records: list[Record]) -> str:
    first = next((r for r in records if r.config_text), None)
    if first is None:
        return ""
    kept = [(f"config.yaml of {first.run.name}", first.config_text)]
    kept += [("What it was measured with", json.dumps(first.summary, indent=1))] if first.summary else []
    texts = (f"<details><summary>{escape(name)}</summary><pre>{escape(text)}</pre></details>" for name, text in kept)
    return f"<h3>Config</h3>{''.join(texts)}"
