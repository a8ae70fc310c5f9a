"""Put the stored results of benchmarks/results into the tables of README.md and benchmarks/RESULTS.md."""

import re
import statistics

from trainer_tables import HERE, faults, ranks, result, scale, speed, stored

from sslzoo.report import adaptations, benches

PAGES = (HERE.parent / "README.md", HERE / "RESULTS.md")


def table(name: str) -> str:
    """The stored table of a comparison, with what it was measured on."""
    text = (HERE / "results" / f"{name}.md").read_text().strip()
    said = result(name)
    return f"{text}\n\n{measured(name, said)}"


def cell(row: dict, best: bool) -> str:
    """ "76.9 ± 0.5 (37.5)": pretrained, and the same encoder untrained; the best of a task is bold."""
    one, before = row["linear"]["pretrained"], row["linear"]["untrained"]
    spread = "" if one["spread"] is None else f" ± {100 * one['spread']:.1f}"
    mean = f"{100 * one['mean']:.1f}"
    return f"{f'**{mean}**' if best else mean}{spread} ({100 * before['mean']:.1f})"


def surely(rows: list[dict]) -> str:
    """The tasks on which an objective beats the untrained encoder by more than three times the spread."""
    found = []
    for row in rows:
        one, before = row["linear"]["pretrained"], row["linear"]["untrained"]
        if one["spread"] is None:
            return "one seed"
        if one["mean"] - before["mean"] > 3 * max(one["spread"], before["spread"]):
            found.append(row["task"])
    return ", ".join(found) or "none"


def kinds(name: str) -> str:
    """The stored results of a comparison of many objectives, a line an objective and a column a task."""
    said = result(name)
    tasks = list(dict.fromkeys(row["task"] for row in said["rows"]))
    taught = {
        row["task"]: row["fine_tuned"] for row in said["rows"] if "fine_tuned" in row
    }  # by labels, for as many steps
    rows = [row for row in said["rows"] if "fine_tuned" not in row]
    by = {(row["entry"], row["task"]): row for row in rows}
    best = {task: max(r["linear"]["pretrained"]["mean"] for r in rows if r["task"] == task) for task in tasks}
    lines = [
        f"| objective | {' | '.join(tasks)} | minutes | beyond 3 spreads |",
        f"|---|{'---:|' * len(tasks)}---:|---|",
    ]
    for entry in dict.fromkeys(row["entry"] for row in rows):
        mine = [by[entry, task] for task in tasks if (entry, task) in by]
        cells = [
            cell(by[entry, t], by[entry, t]["linear"]["pretrained"]["mean"] == best[t])
            if (entry, t) in by
            else "not run"
            for t in tasks
        ]
        lines.append(f"| {entry} | {' | '.join(cells)} | {mine[0]['minutes']['mean']:.1f} | {surely(mine)} |")
    raw = [next(f"{100 * r['linear']['raw']['mean']:.1f}" for r in rows if r["task"] == task) for task in tasks]
    lines.append(f"| *raw input* | {' | '.join(raw)} | | |")
    if taught:
        cells = [spread_of([100 * x for x in taught[task]["values"]]) if task in taught else "" for task in tasks]
        lines.append(f"| *labels, for as many steps* | {' | '.join(cells)} | | |")
    stored = (HERE / "results" / f"{name}.md").read_text()
    _, head, targets = stored.partition("| run | iteration ")  # what HuBERT's iterations learned
    return "\n".join([*lines, *(["", head + targets.strip()] if head else []), "", measured(name, said)])


def measured(name: str, said: dict) -> str:
    """What a stored result was measured with, in a line."""
    machine, seeds = said["machine"], ", ".join(map(str, said["seeds"]))
    made = {run.get("commit") for run in said["runs"]}  # runs once did not say theirs
    commits = [name[:7] for name in sorted(made - {None})] + ["earlier"] * (None in made)
    end = said["commit"][:7]  # where the last probe was
    since = "" if end in commits else f", probed at {end}"
    return (
        f"<sub>`benchmarks/results/{name}.json`: seeds {seeds}; {machine['cores']} cores ({machine['arch']}); "
        f"{said['minutes']:.0f} minutes in all; commit {' and '.join(commits)}{since}, config {said['config_hash']}.</sub>"
    )


def imported(name: str) -> str:
    """An encoder of another library on one task: probed, beside scikit-learn, and fine-tuned."""
    said = result(name)
    beside, probe = said["beside_sklearn"], said["probe"]
    chosen = max(beside["penalties"], key=lambda penalty: beside["penalties"][penalty]["ours"]["valid"])
    best = beside["penalties"][chosen]
    lines = [f"| on SST-2's first {beside['n']['train']:,} labels | accuracy |", "|---|---:|"]
    rows = {
        "last layer, mean of tokens: scikit-learn's logistic regression as it comes": beside["sklearn_defaults"],
        f"the same features, standardised, penalty {chosen} (chosen on validation): scikit-learn": best["sklearn"][
            "test"
        ],
        f"the same: this project's head ({100 * best['same_answers']:.1f} % of the answers are the same)": best["ours"][
            "test"
        ],
        "`sslzoo probe`: a learned sum of all layers": probe["pretrained"]["linear"],
        "the same of the untrained encoder": probe["untrained"]["linear"],
        "the same of bags of tokens": probe["raw"]["linear"],
    }
    for method in ("head", "full"):
        if found := said.get(f"adapt_{method}"):
            what = f"`sslzoo adapt method={method}`, {found['steps']} steps of 16, {found['seconds'] / 60:.0f} minutes"
            rows[what] = found["test"][found["metric"]]
    lines += [f"| {what} | {100 * value:.1f} |" for what, value in rows.items()]
    if further := said.get("pretrained_further"):
        first, logs = further["first"], further["logs"]
        what = f"{further['steps']} steps of 16: loss {first:.2f} to {logs['loss']:.2f}"
        lines += ["", f"Pretrained further on those sentences (`objective=bert`, a new language-model head), {what}."]
    return "\n".join([*lines, "", stored(name, said)])


def tuned(name: str) -> str:
    """What encoders reach on tasks: a line a model and what was done with it, a column a task;
    mean and spread of seeds."""
    said = result(name)
    rows = list(said["rows"].values())
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    found: dict[tuple[str, str], dict[str, list[float]]] = {}
    for row in rows:
        for what, score in [
            (row["what"], row["test"]),
            *((f"probe, {x}", row[x]) for x in ("untrained", "raw") if x in row),
        ]:
            found.setdefault((row["model"], what), {}).setdefault(row["task"], []).append(100 * score)
    lines = [f"| encoder | | {' | '.join(tasks)} |", f"|---|---|{'---:|' * len(tasks)}"]
    for (model, what), scores in sorted(found.items(), key=lambda item: item[0][0]):
        cells = [spread_of(scores[task]) if task in scores else "" for task in tasks]
        lines.append(f"| {model} | {what} | {' | '.join(cells)} |")
    chance = {row["task"]: row["chance"] for row in rows}
    return "\n".join(
        [
            *lines,
            f"| *chance* | | {' | '.join(f'{100 * chance[task]:.1f}' for task in tasks)} |",
            "",
            stored(name, said),
        ]
    )


def spread_of(scores: list[float]) -> str:
    """ "82.9 ± 0.4", or "82.9*" of one seed."""
    mean = statistics.mean(scores)
    return f"{mean:.1f} ± {statistics.stdev(scores):.1f}" if len(scores) > 1 else f"{mean:.1f}*"


def translations(name: str) -> str:
    """Mean reciprocal rank of translated pairs, both directions: by layer as they are, and without languages' means."""
    said = result(name)
    layers = next(iter(said["pairs"].values()))["layers"]
    lines = [f"| languages | vectors | {' | '.join(layers)} | chance |", f"|---|---|{'---:|' * len(layers)}---:|"]
    for pair, found in said["pairs"].items():
        for kind in ("as they are", "means taken away"):
            both = [values for series, values in found["mrr"].items() if series.endswith(kind)]
            cells = [f"{statistics.mean(one):.3f}" for one in zip(*both, strict=True)]
            lines.append(f"| {pair}, {found['pairs']} pairs | {kind} | {' | '.join(cells)} | {found['chance']:.3f} |")
    return "\n".join([*lines, "", stored(name, said)])


def adapted(name: str) -> str:
    """Ways of adapting one encoder: a table for each number of labels, and what each costs."""
    said = result(name)
    seeds, made = ", ".join(map(str, said["seeds"])), {run["result"]["commit"] for run in said["runs"] if run["result"]}
    more = f"encoder `{said['encoder']}`; seeds {seeds}; {said['minutes']:.0f} minutes of training; "
    rows = adaptations.rows([{**run, "result": undated(run["result"])} for run in said["runs"]])
    return f"{adaptations.markdown(rows)}\n{stored(name, said | {'commit': ' and '.join(sorted(c[:7] for c in made))}, more)}"


def benched(name: str) -> str:
    """What encoders scored in a bench, and what was asked on which data."""
    said = result(name)
    more = f"seeds of heads {', '.join(map(str, said['seeds']))}; "
    table = benches.markdown(said | {"steps": [undated(step) for step in said["steps"]]})
    return f"{table}\n{stored(name, said, more)}"


def undated(result: dict | None) -> dict | None:
    """A result without its commit, which stands below the table: a mark of stale rows would change with each commit."""
    return None if result is None else {**result, "commit": None}


def exits(name: str) -> str:
    """Early exit: of each encoder and method the full model, what validation chose, and the fastest that was tried."""
    said = result(name)
    lines = [
        "| on | method | rows leave | score | layers | times as fast at a batch of 1 | at 32 |",
        "|---|---|---|---:|---:|---:|---:|",
    ]
    for part, found in said["parts"].items():
        data, _, method = part.rpartition(" ")
        by, depth, points = found["exits"]["criterion"], found["exits"]["depth"], found["exits"]["test"]
        chosen = next(point for point in points if point[by] == found["exits"]["chosen"])
        for what, point in {"never": points[0], "as chosen": chosen, "soonest": points[-1]}.items():
            where = what if what == "never" else f"{what}: {by} {point[by]:g}"
            fast = " | ".join(f"{point[f'speedup_{size}']:.2f}" for size in (1, 32))
            score, layers = f"{100 * point['score']:.1f}", f"{point['layers']:.1f} of {depth}"
            lines.append(f"| {data} | {method} | {where} | {score} | {layers} | {fast} |")
    return "\n".join([*lines, "", stored(name, said)])


def fill(text: str) -> str:
    """A page with every `<!-- results: NAME -->` and `<!-- kinds: NAME -->` ... `<!-- end -->` filled anew."""

    def put(found: re.Match) -> str:
        make, name = MAKERS[found[1]], found[2]
        there = (HERE / "results" / f"{name}.json").exists()
        body = make(name) if there else "*Not run yet.*"
        return f"<!-- {found[1]}: {name} -->\n{body}\n<!-- end -->"

    return re.sub(rf"<!-- ({'|'.join(MAKERS)}): (\w+) -->.*?<!-- end -->", put, text, flags=re.DOTALL)


MAKERS = {
    "results": table,
    "kinds": kinds,
    "speed": speed,
    "scale": scale,
    "faults": faults,
    "ranks": ranks,
    "imported": imported,
    "exits": exits,
    "tuned": tuned,
    "translations": translations,
    "adapted": adapted,
    "benched": benched,
}

if __name__ == "__main__":
    for page in PAGES:
        page.write_text(fill(page.read_text()))
