"""Judging from a run's files whether it is healthy, or what is wrong: the top of its page."""

import math
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from html import escape

import numpy as np

from sslzoo.report import healthy
from sslzoo.report.curves import binned, running_mean
from sslzoo.report.healthy import Healthy
from sslzoo.report.record import Record, at, number
from sslzoo.report.svg import short
from sslzoo.report.tables import percent

# objectives whose loss does not measure progress: a queue fills, a teacher moves, clusters are recomputed
UNEVEN = ("MoCo", "BYOL", "SimSiam", "DeepCluster")
HEART = 0.2  # gap between training and validation accuracy that is reported
RISE = 0.1  # rise of the validation loss, relative to its fall before, that is reported
NUMBER = re.compile(r"−?\d+(?:\.\d+)?(?![\w.])")
WORDS = {"healthy": "Healthy", "odd": "Odd", "unfinished": "Not finished", "unknown": "Nothing to judge by"}


@dataclass(frozen=True)
class Finding:
    """level: "good", "odd" (a problem), or "warning" (raised during training)."""

    level: str
    text: str


@dataclass
class Verdict:
    """state: "healthy", "odd", "unfinished", or "unknown" if nothing could be measured. findings: {finding: names of
    the runs}."""

    state: str
    findings: dict[Finding, list[str]] = field(default_factory=dict)
    runs: int = 1

    def of(self, *levels: str) -> list[str]:
        """The texts of these levels, with the names of the runs unless it is all of them."""
        alike: dict[tuple[str, str], list[Finding]] = {}
        for finding in self.findings:
            if finding.level in levels:
                alike.setdefault((finding.level, NUMBER.sub("#", finding.text)), []).append(finding)
        told = []
        for some in alike.values():
            names = list(dict.fromkeys(name for finding in some for name in self.findings[finding]))
            where = f" ({', '.join(names)})" if len(names) < self.runs else ""
            told.append(_ranges([finding.text for finding in some]) + where)
        return told

    @property
    def sentence(self) -> str:
        """A summary as one sentence, without the full stop."""
        odd, good = self.of("odd", "warning"), self.of("good")
        if self.state == "odd":
            return "; ".join(odd)
        if self.state == "unfinished":
            return "; ".join(["there is no DONE: the same command again continues it", *odd])
        return "; ".join(good) or "nothing was logged or probed that would tell"


def _ranges(texts: list[str]) -> str:
    """Texts that differ only in numbers, as one with the range of each number: "fell from 5.6–5.7 to 4.1"."""
    columns = zip(*map(NUMBER.findall, texts), strict=True)
    found = (sorted(set(numbers), key=lambda n: float(n.replace("−", "-"))) for numbers in columns)
    return NUMBER.sub(lambda _: "–".join(dict.fromkeys((some := next(found))[:1] + some[-1:])), texts[0])


def ends(record: Record, name: str) -> tuple[float, float] | None:
    """The means of the first and last tenth of a column's finite values, or None if fewer than 4."""
    values = np.array([v for v in record.metrics.get(name, ([], []))[1] if math.isfinite(v)])
    if len(values) < 4:
        return None
    some = max(1, len(values) // 10)
    return float(values[:some].mean()), float(values[-some:].mean())


def last(record: Record, name: str) -> float | None:
    found = ends(record, name)
    return found[1] if found else None


def findings(record: Record, curves: tuple[Healthy, ...] | None = None) -> Iterator[Finding]:
    """Good and odd findings about a run, without its warnings. curves: instead of the shipped ones."""
    yield from _loss(record, curves)
    yield from _guessing(record)
    yield from _by_heart(record)
    yield from _probes(record)


def warnings(records: list[Record]) -> dict[Finding, list[str]]:
    """{warning, with its steps: names of the runs that raised it}, each warning once."""
    seen: dict[tuple[str, str], list[tuple[str, dict]]] = {}
    for record in records:
        for event in record.events:
            key = str(event.get("kind", "warning")), str(event.get("message", ""))
            seen.setdefault(key, []).append((record.run.name, event))
    told = {}
    for (kind, message), events in seen.items():
        first, last_ = (events[place][1].get("step", "?") for place in (0, -1))
        again = f", {len(events)} times until step {last_}" if len(events) > 1 else ""
        told[Finding("warning", f"{kind} at step {first}{again}: {message}".rstrip(" .:"))] = [
            name for name, _ in events
        ]
    return told


def _loss(record: Record, curves) -> Iterator[Finding]:
    steps, values = record.metrics.get("loss", ([], []))
    bad = next((s for s, v in zip(steps, values, strict=True) if not math.isfinite(v)), None)
    if bad is not None:
        yield Finding("odd", f"the loss is not finite from step {bad} on")
    found = ends(record, "loss")
    if found is None:
        return
    first, final = found
    # a fall by less than a thousandth counts as no change
    if record.part("objective").removesuffix("Audio") not in UNEVEN:
        if final > first:
            yield Finding("odd", f"the loss rose from {short(first)} to {short(final)}")
        elif first - final <= 1e-3 * abs(first):
            yield Finding("odd", f"the loss stood still at {short(final)}")
        else:
            yield Finding("good", f"the loss fell from {short(first)} to {short(final)}")
    known = healthy.find(record.config, curves)
    if known is not None:
        yield from _held_against(known, np.array(steps, float), np.array(values, float))


def _held_against(known: Healthy, steps: np.ndarray, values: np.ndarray) -> Iterator[Finding]:
    kept = np.isfinite(values) & (steps >= known.steps[0]) & (steps <= known.steps[-1])
    if kept.sum() < 3:
        return
    x, y = binned(steps[kept], values[kept])
    step, value = float(x[-1]), running_mean(x, y)[-1]
    _, low, high = known.at(step)
    band = f"{short(low)} to {short(high)} of {known.seeds} healthy runs"
    if value > high:
        yield Finding("odd", f"the loss at step {step:g} is {short(value)}, above the {band}")
    elif value < low:
        yield Finding("odd", f"the loss at step {step:g} is {short(value)}, below the {band}: is something given away?")
    else:
        yield Finding("good", f"at step {step:g} it lies within the {band}")


def _guessing(record: Record) -> Iterator[Finding]:
    kinds = {str(event.get("kind")) for event in record.events}
    accuracy, chance, final, uniform = (last(record, n) for n in ("accuracy", "chance", "loss", "uniform_loss"))
    if accuracy is not None and chance is not None:
        if accuracy > 1.2 * chance:
            yield Finding("good", f"its answers are right {percent(accuracy)} times in 100 (chance: {percent(chance)})")
        elif "no better than chance" not in kinds:
            yield Finding("odd", f"its answers are right {percent(accuracy)} times in 100, as by chance")
    if final is not None and uniform is not None and final >= 0.995 * uniform and "loss of a guesser" not in kinds:
        yield Finding("odd", f"the loss {short(final)} is that of one who guesses ({short(uniform)})")


def _by_heart(record: Record) -> Iterator[Finding]:
    """Overfitting: training accuracy far above validation accuracy, or a rising validation loss."""
    seen, unseen = last(record, "accuracy"), record.metrics.get("val_accuracy", ([], []))[1]
    held = next((v for v in reversed(unseen) if math.isfinite(v)), None)
    if seen is not None and held is not None and seen - held > HEART:
        yield Finding("odd", f"it learns by heart: {percent(seen)} right in training, {percent(held)} in validation")
    steps, values = record.metrics.get("val_loss", ([], []))
    pairs = [(v, s) for s, v in zip(steps, values, strict=True) if math.isfinite(v)]
    if len(pairs) < 3:
        return
    (best, where), (final, _) = min(pairs), pairs[-1]
    if final - best > RISE * max(pairs[0][0] - best, 1e-9) and final > 1.01 * best:
        yield Finding("odd", f"the validation loss grows from step {where} on, {short(best)} to {short(final)}")


def _probes(record: Record) -> Iterator[Finding]:
    above: list[str] = []
    below: list[str] = []
    for task, probe in record.probes.items():
        own, before = (number(at(probe, kind, "linear", "test")) for kind in ("pretrained", "untrained"))
        if own is not None and before is not None:
            (above if own > before else below).append(f"{task} {percent(own)} (untrained {percent(before)})")
    if below:
        yield Finding("odd", f"no better than the untrained encoder on {', '.join(below)}")
    if above:
        yield Finding("good", f"better than the untrained encoder on {', '.join(above)}")


def verdict(records: list[Record], curves: tuple[Healthy, ...] | None = None) -> Verdict:
    """The verdict on runs of one config."""
    told = warnings(records)
    for record in records:
        for finding in findings(record, curves):
            told.setdefault(finding, []).append(record.run.name)
    levels = {finding.level for finding in told}
    if records and not all(record.run.done for record in records):
        state = "unfinished"
    elif levels & {"odd", "warning"}:
        state = "odd"
    else:
        state = "healthy" if "good" in levels else "unknown"
    return Verdict(state, told, len(records))


def html(found: Verdict) -> str:
    """The verdict, then its warnings, odd findings and good ones."""
    odd, warned, good = found.of("odd"), found.of("warning"), found.of("good")
    lines = _lines("warned", warned) + _lines("odd", odd) + _lines("good", good)
    head = f'<p class="verdict {found.state}"><strong>{WORDS[found.state]}.</strong>'
    if found.state == "healthy":
        head += " No warning was raised, and nothing is odd."
    elif found.state == "odd":
        head += f" {_count(len(odd) + len(warned))} to look at."
    return f"{head}</p>" + (f'<ul class="findings">{lines}</ul>' if lines else "")


def listed(found: dict[str, Verdict], anchors: dict[str, str]) -> str:
    """A line for each of several runs: a link, the state, and its summary."""
    lines = []
    for label, one in found.items():
        link = f'<a href="#{anchors[label]}">{escape(label)}</a>'
        state = WORDS[one.state].lower()
        lines.append(
            f'<li class="{one.state}"><strong>{link}</strong><span><em>{state}</em> {escape(one.sentence)}.</span></li>'
        )
    return f'<ul class="verdicts">{"".join(lines)}</ul>'


def _count(number: int) -> str:
    return "One thing" if number == 1 else f"{number} things"


def _lines(kind: str, texts: Iterable[str]) -> str:
    return "".join(f'<li class="{kind}">{escape(text[:1].upper() + text[1:])}.</li>' for text in texts)
