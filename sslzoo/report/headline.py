"""Which run is best on each task, and whether by more than the spread over seeds."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import escape

from sslzoo.report import significance
from sslzoo.report.tables import Row, Score, beats, figure, percent, winners


@dataclass(frozen=True)
class Answer:
    """The ranking on one task. best: the runs that no other beats, highest first. second: the best of the others.

    sure: whether best beats second beyond the spread of at least two seeds each. baseline: (name, score) of a baseline
    that beats the best run, or None.
    """

    task: str
    metric: str
    best: list[Row]
    second: Row | None
    sure: bool
    baseline: tuple[str, Score] | None

    @property
    def first(self) -> Row:
        return self.best[0]


def answers(table_rows: list[Row]) -> Iterator[Answer]:
    """Yield one for each probed task. table_rows: from `tables.rows`, the best of a task first."""
    leading = winners(table_rows)
    for task in dict.fromkeys(row.task for row in table_rows):
        found = [row for row in table_rows if row.task == task and row.score("pretrained")]
        if not found:
            continue
        best = [row for row in found if (task, row.entry) in leading] or found[:1]
        second = next((row for row in found if row not in best), None)
        compared = [row.score("pretrained") for row in (best[0], second) if row]
        sure = second is not None and all(s.spread is not None for s in compared)
        first = best[0].score("pretrained")
        above = [(name, s) for name in ("raw", "untrained") if beats(s := best[0].score(name), first)]
        yield Answer(task, best[0].metric, best, second, sure, max(above, key=lambda pair: pair[1].mean, default=None))


Show = Callable[[Row], str]  # a run's name


def plain(row: Row) -> str:
    return row.entry


def names(rows: list[Row], show: Show = plain) -> str:
    """ "a", "a and b", "a, b and c"."""
    *some, last = map(show, rows)
    return f"{', '.join(some)} and {last}" if some else last


def margin(answer: Answer, show: Show = plain) -> str:
    """The lead of the best run over the second, and whether it exceeds the spread, in words."""
    one, other = answer.first.score("pretrained"), answer.second.score("pretrained")
    ahead = f"{100 * (one.mean - other.mean):.1f} ahead of {show(answer.second)}"
    p = significance.welch(one.values, other.values)
    by = "" if p is None else f" ({significance.told(p)})"
    return f"{ahead}, {f'beyond the spread{by}' if answer.sure else 'of unknown spread: one seed'}"


def against(row: Row) -> str:
    """A run against its baselines: "above untrained 19.6 and raw 12.7", "above untrained 48.0, below raw 52.0"."""
    own, places = row.score("pretrained"), {}
    for kind in ("untrained", "raw"):
        if other := row.score(kind):
            where = "above" if beats(own, other) else "below" if beats(other, own) else "level with"
            places.setdefault(where, []).append(f"{kind} {percent(other.mean)}")
    return ", ".join(f"{where} {' and '.join(kinds)}" for where, kinds in places.items())


def sentence(answer: Answer, show: Show = plain) -> str:
    """One task's ranking as a sentence, without the full stop."""
    first, several = answer.first, len(answer.best) > 1
    score = figure(first.score("pretrained"), first.expected)
    if several:
        told = f"nothing tells {names(answer.best, show)} apart, {score} at best"
        told += f"; {margin(answer, show)}" if answer.second else ", within the spread"
    elif answer.second is None:
        told = f"{show(first)} scores {score}" + (f", {beside}" if (beside := against(first)) else "")
    else:
        told = f"{show(first)} is best, {score}, {margin(answer, show)}"
    if answer.baseline and (several or answer.second):
        name, best = answer.baseline
        told += f"; but {'raw features' if name == 'raw' else 'the untrained encoder'} scored {percent(best.mean)}"
    return told


def text(table_rows: list[Row]) -> str:
    """A line per task, for a terminal and for Markdown; "" if no task has two runs."""
    found = list(answers(table_rows))
    if not any(a.second or len(a.best) > 1 for a in found):
        return ""
    return "\n".join(f"{a.task}: {sentence(a)}." for a in found)


def html(table_rows: list[Row], anchors: dict[str, str]) -> str:
    """The same as an HTML list with links. anchors: {entry: its id on the page}."""

    def link(row: Row) -> str:
        name, bold = escape(row.entry), row in answer.best
        name = f"<b>{name}</b>" if bold else name
        return f'<a href="#{anchors[row.entry]}">{name}</a>' if row.entry in anchors else name

    lines = []
    for answer in answers(table_rows):
        lines.append(f"<li><strong>{escape(answer.task)}</strong><span>{sentence(answer, link)}.</span></li>")
    return f'<ul class="headline">{"".join(lines)}</ul>' if lines else ""
