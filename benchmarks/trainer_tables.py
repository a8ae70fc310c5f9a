"""Tables of the trainer itself, from stored results: speed beside peers, start and memory at scale, ranks, faults."""

import json
from pathlib import Path

HERE = Path(__file__).parent


def result(name: str) -> dict:
    """What a benchmark stored."""
    return json.loads((HERE / "results" / f"{name}.json").read_text())


def stored(name: str, said: dict, more: str = "") -> str:
    """Where a measurement is stored, and what it was made on."""
    machine, commit = said.get("machine", {}), str(said.get("commit") or "unknown")
    commit = " and ".join(one[:7] for one in commit.split(" and "))
    return f"<sub>`benchmarks/results/{name}.json`: {more}{machine.get('cores')} cores ({machine.get('arch')}); commit {commit}.</sub>"


def speed(name: str) -> str:
    """Seconds beside other packages', timed in turn in one process: the peer's over ours, median and range."""
    said = result(name)
    lines = ["| case | sslzoo | beside | seconds | peer's over ours | of CPU time |", "|---|---:|---|---:|---:|---:|"]
    for case, found in said["cases"].items():
        ours = found["ways"]["sslzoo"]["median_seconds"]
        for peer, way in found["ways"].items():
            if ratios := way.get("seconds_ratios"):
                ratio = f"**{way['median_seconds_ratio']:.2f}** ({min(ratios):.2f} to {max(ratios):.2f})"
                seconds, used = way["median_seconds"], way["median_cpu_seconds_ratio"]
                lines.append(f"| {case} | {ours:.2f} s | {peer} | {seconds:.2f} s | {ratio} | {used:.2f} |")
    return "\n".join([*lines, "", stored(name, said)])


SCALED = {  # what is shown of a size: its head, and its digits
    "seconds_to_open": ("seconds to open", 2),
    "seconds_to_first_batch": ("to the first batch", 2),
    "cpu_seconds_to_first_batch": ("of which CPU", 2),
    "milliseconds_a_step": ("ms a step", 2),
    "rank_own_mb": ("MB of a rank", 0),
    "worker_own_mb": ("of a worker", 0),
    "early_own_mb": ("after the first items of an epoch", 0),
    "late_own_mb": ("after all", 0),
}


def scale(name: str) -> str:
    """Start, memory and sampler by the size of a simulated set."""
    said = result(name)
    shown = {key: value for key, value in SCALED.items() if key in said["sizes"][0]}
    lines = [f"| items | {' | '.join(head for head, _ in shown.values())} |", "|---|" + "---:|" * len(shown)]
    for row in said["sizes"]:
        values = [f"{row[key]:.{digits}f}" for key, (_, digits) in shown.items()]
        lines.append(f"| {row['items']:,} | {' | '.join(values)} |")
    return "\n".join([*lines, "", stored(name, said)])


def ranks(name: str) -> str:
    """How far two ranks are from one, beside how far rounding alone is."""
    said = result(name)
    lines = ["| objective | loss | gradient | gradient, by threads alone |", "|---|---:|---:|---:|"]
    for objective, row in said["objectives"].items():
        shown = row["ranks"]["loss"], row["ranks"]["gradient"], row["threads"]["gradient"]
        lines.append(f"| {objective} | {' | '.join(f'{x:.0e}' for x in shown)} |")
    return "\n".join([*lines, "", stored(name, said)])


def faults(name: str) -> str:
    """Each fault, how often it was tried, what was lost."""
    said = result(name)
    lines = ["| fault | tried | said | what was lost | weights at the end |", "|---|---:|---|---|---|"]
    for fault, row in said["faults"].items():
        told = {True: "yes", False: "**no**"}.get(row.get("said"), "")
        lost = "nothing" if row["exit"] == 0 and not row.get("checkpoints_lost") else "**something**"
        same = "equal, bit for bit" if row["same_weights"] and not row.get("different_ends") else "**others**"
        lines.append(f"| {fault} | {row['tried']} | {told} | {lost} | {same} |")
    commits = " and ".join(dict.fromkeys(row["commit"][:7] for row in said["faults"].values()))
    return "\n".join([*lines, "", stored(name, said | {"commit": commits})])
