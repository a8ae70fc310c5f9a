"""How the loss of healthy runs goes: the bands that `sslzoo report` holds a run against.

    python benchmarks/healthy.py [--only gpt,bert] [--seeds 0,1,2] [--root runs/healthy]
                                                            a run a recipe and seed, those that are there kept
    python benchmarks/healthy.py --name simclr RUN RUN RUN  of runs that are there already

Writes sslzoo/report/healthy/<name>.csv (step, mean, low, high) and <name>.json (of which runs). The curves are running
means; the band is three standard deviations over seeds to either side, and a twentieth of the whole fall at least,
for three seeds say little of the spread.
"""

import argparse
import csv
import json
import sys
from pathlib import Path

import numpy as np
from bench import run

from sslzoo.report.curves import binned, running_mean
from sslzoo.report.healthy import FOLDER, SAME
from sslzoo.report.record import Record, read
from sslzoo.run import Run, commit, machine, write_atomic, write_json

RECIPES = {  # by the name of the band: those that were run, with built-in data
    "simclr": "digits_simclr",
    "bert": "docstrings_bert",
    "gpt": "docstrings_gpt",
    "electra": "docstrings_electra",
    "roberta": "docstrings_roberta",
    "albert": "docstrings_albert",
    "bert_nsp": "docstrings_bert_nsp",
    "wav2vec2": "spoken_wav2vec2",
}
POINTS = 60


def band(records: list[Record]) -> list[tuple[float, float, float, float]]:
    """(step, mean, low, high) over runs of one config, at steps that all of them have."""
    curves = [binned(*(np.asarray(part, float) for part in record.metrics["loss"])) for record in records]
    first, last = max(x[0] for x, _ in curves), min(x[-1] for x, _ in curves)
    steps = np.unique(np.linspace(first, last, POINTS).round())
    means = np.array([np.interp(steps, x, running_mean(x, y)) for x, y in curves])
    middle = means.mean(0)
    around = np.maximum(3 * means.std(0, ddof=1), np.ptp(middle) / 20)
    return list(zip(steps, middle, middle - around, middle + around, strict=True))


def write(name: str, runs: list[Run], folder: Path = FOLDER) -> Path:
    """Raises SystemExit where the runs are not finished ones of one config but for their seed."""
    records = [read(one, pictures=False) for one in runs]
    alike = {
        json.dumps({key: r.config.get(key) for key in (*SAME, "optim", "trainer")}, sort_keys=True) for r in records
    }
    if len(records) < 2 or len(alike) > 1 or not all(one.done for one in runs):
        raise SystemExit(f"{name}: a band is made of two finished runs or more that differ in their seed alone")
    path = folder / f"{name}.csv"

    def fill(beside: Path) -> None:
        with open(beside, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(["step", "mean", "low", "high"])
            writer.writerows([f"{step:g}", *(f"{value:.5g}" for value in rest)] for step, *rest in band(records))

    write_atomic(path, fill)
    about = {"seeds": len(records), "commit": commit(), "machine": machine(), "config": json.loads(alike.pop())}
    write_json(path.with_suffix(".json"), about)
    return path


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", nargs="*", type=Path, help="folders of finished runs, of one config but for the seed")
    parser.add_argument("--name", help="what the band of these runs is called: the objective's name")
    parser.add_argument("--only", help="bands to make, separated by commas (default: all)")
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas (default 0,1,2)")
    parser.add_argument(
        "--root", type=Path, default=Path("runs/healthy"), help="where runs are made (default runs/healthy)"
    )
    said = parser.parse_args()
    if said.runs:
        if not said.name:
            parser.error("--name says what the band of these runs is called")
        print(f"wrote {write(said.name, [Run(folder) for folder in said.runs])}")
        return
    for name in said.only.split(",") if said.only else RECIPES:
        recipe, runs = RECIPES[name], []
        for seed in said.seeds.split(","):
            runs.append(Run(said.root / f"{name}-s{seed}"))
            words = [f"recipe={recipe}", f"seed={seed}", f"root={said.root}", f"name={runs[-1].name}"]
            if code := run([sys.executable, "-m", "sslzoo", "pretrain", *words]):
                raise SystemExit(code)
        print(f"wrote {write(name, runs)}")


if __name__ == "__main__":
    main()
