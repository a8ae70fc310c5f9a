"""Everything that needs a GPU, on one: the tests marked `gpu`, losses in bf16 against those in 32 bits, throughput, and a
short recipe of each modality. Writes one JSON with the device's name. `make gpu` runs it; without a GPU it says so."""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import torch

from sslzoo.run import commit, machine, write_json

RECIPES = {"image": "digits_simclr", "speech": "spoken_wav2vec2", "text": "docstrings_bert"}
HALF_STEPS = 100  # of the runs whose losses are compared
SECONDS = 480  # of all together; a part that would begin later is left out, and said
QUIET = ["trainer.progress=false", "trainer.val_every=null", "trainer.log_every=1"]


def pretrain(folder: Path, name: str, words: list[str], seconds: float) -> dict:
    """Run `sslzoo pretrain`: its losses, and its summary's figures; or the error."""
    command = [sys.executable, "-m", "sslzoo", "pretrain", *words, f"root={folder}", f"name={name}"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 1), check=False)
    except subprocess.TimeoutExpired:
        return {"error": f"not done in {seconds:.0f} s"}
    if done.returncode:
        return {"error": (done.stderr.strip().splitlines() or ["it said nothing"])[-1]}
    with open(folder / name / "metrics.csv", newline="", encoding="utf-8") as file:
        losses = [float(row["loss"]) for row in csv.DictReader(file)]
    said = json.loads((folder / name / "summary.json").read_text(encoding="utf-8"))
    kept = ("steps_per_second", "minutes", "peak_gpu_memory_gb", "precision", "parameters")
    return {"losses": losses, **{key: said[key] for key in kept if key in said}}


def parity(half: dict, single: dict) -> dict:
    """The mean loss of the last tenth of the steps in both precisions, and the relative difference."""
    if "error" in half or "error" in single:
        return {"error": half.get("error") or single["error"]}
    a, b = (sum(x["losses"][-max(len(x["losses"]) // 10, 1) :]) for x in (half, single))
    last = max(len(half["losses"]) // 10, 1)
    return {"bf16": a / last, "32": b / last, "relative": abs(a - b) / abs(b)}


def tests(marked: str, seconds: float) -> dict:
    """Run the tests with a mark: pytest's last line, and whether all passed."""
    command = [sys.executable, "-m", "pytest", "-q", "-m", marked, "-p", "no:cacheprovider"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=max(seconds, 1), check=False)
    except subprocess.TimeoutExpired:
        return {"passed": False, "said": f"not done in {seconds:.0f} s"}
    return {"passed": done.returncode == 0, "said": (done.stdout.strip().splitlines() or [""])[-1]}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=HALF_STEPS, help=f"of the compared runs (default {HALF_STEPS})")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    args = parser.parse_args()
    if not torch.cuda.is_available():
        sys.exit("make gpu: this machine has no usable GPU, and everything here needs one (`sslzoo doctor` says why)")
    begun, found = time.monotonic(), {"device": torch.cuda.get_device_name(), "torch": torch.__version__}

    def left() -> float:
        return SECONDS - (time.monotonic() - begun)

    with TemporaryDirectory() as temporary:
        runs, found["recipes"], found["parity"] = Path(temporary), {}, {}
        for modality, recipe in RECIPES.items():
            words = [f"recipe={recipe}", f"trainer.max_steps={args.steps}", *QUIET]
            half, single = (
                pretrain(runs, f"{modality}-{p}", [*words, f"trainer.precision={p}"], left()) for p in ("bf16", "32")
            )
            found["parity"][modality] = parity(half, single)
            found["recipes"][modality] = {
                p: {key: value for key, value in run.items() if key != "losses"}
                for p, run in (("bf16", half), ("32", single))
            }
            print(f"{modality}: {found['parity'][modality]}", flush=True)
    found["tests"] = tests("gpu", left())
    found |= {"seconds": time.monotonic() - begun, "commit": commit(), "machine": machine()}
    write_json(args.out, found)
    print(f"{found['tests']['said']}\nwrote {args.out}")
    failed = [m for m, x in found["parity"].items() if "error" in x]
    if failed or not found["tests"]["passed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
