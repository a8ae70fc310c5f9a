"""What the benchmarks of speed share: two ways of one work, timed by turns in one process, and a stored table."""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command sets them: spinning threads slow all of them
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import argparse
import statistics
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import torch

from sslzoo.run import commit, machine, write_json

OURS = "sslzoo"


def arguments(about: str, name: str, rounds: int) -> argparse.Namespace:
    """What every one of them takes; `about` is a script's docstring."""
    parser = argparse.ArgumentParser(description=about.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=rounds, help=f"times that each is timed (default {rounds})")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / f"{name}.json")
    return parser.parse_args()


def by_turns(ways: dict[str, Callable[[], object]], rounds: int) -> dict:
    """Each way's seconds on the clock and of CPU, round by round, after one that is not counted; every other round
    goes backwards. A ratio is the other's seconds over ours in the same round, so that a busy moment is in both."""
    for way in ways.values():
        way()
    spent = {name: {"seconds": [], "cpu_seconds": []} for name in ways}
    for number in range(rounds):
        for name in list(ways)[:: 1 if number % 2 == 0 else -1]:
            wall, used = time.perf_counter(), time.process_time()
            ways[name]()
            spent[name]["seconds"].append(time.perf_counter() - wall)
            spent[name]["cpu_seconds"].append(time.process_time() - used)
    ours = spent[OURS]
    for found in spent.values():
        for key in ("seconds", "cpu_seconds"):
            found[f"median_{key}"] = statistics.median(found[key])
            if found is not ours:
                found[f"{key}_ratios"] = [b / a for a, b in zip(ours[key], found[key], strict=True)]
                found[f"median_{key}_ratio"] = statistics.median(found[f"{key}_ratios"])
    return spent


def show(case: str, found: dict) -> None:
    """Print what `by_turns` found."""
    print(case)
    for name, way in found["ways"].items():
        said = f"    {name:42} {way['median_seconds']:8.3f} s  {way['median_cpu_seconds']:8.3f} s of CPU"
        if name != OURS:
            low, high = min(way["seconds_ratios"]), max(way["seconds_ratios"])
            said += f"  {way['median_seconds_ratio']:5.2f} times ours (median; {low:.2f} to {high:.2f}), "
            said += f"{way['median_cpu_seconds_ratio']:.2f} of CPU"
        print(said, flush=True)


def store(out: Path, about: dict, cases: dict[str, dict]) -> None:
    """Write what was found, case by case, with the machine and the versions beside it."""
    results = {
        **about,
        "cases": cases,
        "load": os.getloadavg(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("transformers", "torch", "numpy")},
        "commit": commit(),
        "machine": machine(),
    }
    write_json(out, results)
    print(f"wrote {out}")
