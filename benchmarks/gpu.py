"""Everything that needs a GPU, on one: the tests marked `gpu`, losses in bf16 against those in 32 bits, throughput, and
a short recipe of each modality. Writes one JSON with the device's name. `make gpu` runs it;
without a GPU it says so."""

import argparse
import csv
import json
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory

import lightning as L
import torch

from sslzoo.run import commit, machine, write_json
from sslzoo.train.throughput import Throughput

RECIPES = {"image": "digits_simclr", "speech": "spoken_wav2vec2", "text": "docstrings_bert"}
SPEED = {  # base models of the papers' sizes, on sets that are built in
    "image": [
        "objective=mae",
        "encoder=vit_base",
        "data=digits",
        "data.size=224",
        "data.train=600",
        "data.batch.size=128",
    ],
    "speech": ["objective=wav2vec2", "encoder=wav2vec2_base", "data=spoken"],
    "text": ["objective=bert", "encoder=bert_base", "data=docstrings"],
}
SMALL = {"image": ["objective=mae", "encoder=vit_small", "data=digits", "data.train=200", "data.batch.size=8"]}
SPEED_STEPS, UNTIMED = 40, 10  # of the timed runs, and those before the clock is started
PRECISIONS = ("bf16", "32")
HALF_STEPS = 100  # of the runs whose losses are compared
SECONDS = 480  # of all together; a part that would begin later is left out, and said
QUIET = ["trainer.progress=false", "trainer.val_every=null", "trainer.log_every=1"]


class Clock(L.Callback):
    """Items and operations a second of the steps after the first `UNTIMED`, on a device that has done its work at both
    ends. Written to clock.json in the run's folder."""

    def on_train_start(self, trainer, module) -> None:
        self.items, self.begun = 0, None
        self.counted = next(callback for callback in trainer.callbacks if isinstance(callback, Throughput))

    def now(self) -> float:
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        return time.monotonic()

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        if self.begun is not None:
            self.items += len(batch)
        elif trainer.global_step >= min(UNTIMED, module.total_steps // 2):
            self.begun, self.before = self.now(), self.counted.elements

    def on_train_end(self, trainer, module) -> None:
        seconds, counted = self.now() - self.begun, self.counted
        flops = counted.flops * (counted.elements - self.before) / counted.first / seconds
        said = {"items_per_second": self.items / seconds, "flops_per_second": flops}
        said |= {"mfu": flops / counted.peak} if counted.peak else {}
        write_json(Path(trainer.default_root_dir) / "clock.json", said)


def throughput(folder: Path, modality: str, words: list[str], left) -> dict:
    """{precision: items a second, the device's peak memory, operations a second} of an objective; left() is the seconds
    that its runs may take."""
    own = ["--config-dir", str(Path(__file__).parent), "+callbacks.clock._target_=gpu.Clock"]
    found = {}
    for precision in PRECISIONS:
        name = f"speed-{modality}-{precision}"
        run = pretrain(folder, name, [*words, *QUIET[:2], *own, f"trainer.precision={precision}"], left())
        if "error" not in run:
            run |= json.loads((folder / name / "clock.json").read_text(encoding="utf-8"))
        found[precision] = {key: value for key, value in run.items() if key not in ("losses", "minutes")}
    return {"settings": words, **found}


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
    kept = ("steps_per_second", "minutes", "peak_memory_gb", "peak_gpu_memory_gb", "precision", "parameters")
    kept += ("data_seconds", "flops_per_second", "mfu")
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


def table(rows: dict[str, dict]) -> str:
    """The throughput in Markdown: a line a modality and precision."""
    lines = ["| modality | precision | items/s | peak GB | TFLOP/s | MFU |", "|---|---|---:|---:|---:|---:|"]
    for modality, row in rows.items():
        for precision in PRECISIONS:
            said = row[precision]
            if "error" in said:
                lines.append(f"| {modality} | {precision} | {said['error']} | | | |")
                continue
            memory = said.get("peak_gpu_memory_gb", said["peak_memory_gb"])
            speed, mfu = said.get("flops_per_second", 0) / 1e12, f"{said['mfu']:.0%}" if "mfu" in said else ""
            lines.append(
                f"| {modality} | {precision} | {said['items_per_second']:.1f} | {memory:.2f} | {speed:.3g} | {mfu} |"
            )
    return "\n".join(lines)


def small(out: Path) -> None:
    """The throughput of a small model in a few steps, on whatever device there is."""
    with TemporaryDirectory() as temporary:
        words = {modality: [*words, "trainer.max_steps=4"] for modality, words in SMALL.items()}
        found = {m: throughput(Path(temporary), m, of, lambda: SECONDS) for m, of in words.items()}
    write_json(out, {"throughput": found, "commit": commit(), "machine": machine()})
    print(f"{table(found)}\nwrote {out}")
    if any("error" in row[precision] for row in found.values() for precision in PRECISIONS):
        sys.exit(1)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--steps", type=int, default=HALF_STEPS, help=f"of the compared runs (default {HALF_STEPS})")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "gpu.json")
    parser.add_argument("--small", action="store_true", help=argparse.SUPPRESS)  # on any device: the path alone
    args = parser.parse_args()
    if args.small:
        small(args.out)
        return
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
                pretrain(runs, f"{modality}-{p}", [*words, f"trainer.precision={p}"], left()) for p in PRECISIONS
            )
            found["parity"][modality] = parity(half, single)
            found["recipes"][modality] = {
                p: {key: value for key, value in run.items() if key != "losses"}
                for p, run in zip(PRECISIONS, (half, single), strict=True)
            }
            print(f"{modality}: {found['parity'][modality]}", flush=True)
        timed = [f"trainer.max_steps={SPEED_STEPS}", "trainer.workers=4"]
        found["throughput"] = {m: throughput(runs, m, [*words, *timed], left) for m, words in SPEED.items()}
        print(table(found["throughput"]), flush=True)
    found["tests"] = tests("gpu", left())
    found |= {"seconds": time.monotonic() - begun, "commit": commit(), "machine": machine()}
    write_json(args.out, found)
    print(f"{found['tests']['said']}\nwrote {args.out}")
    failed = [m for m, x in found["parity"].items() if "error" in x]
    if failed or not found["tests"]["passed"]:
        sys.exit(1)


if __name__ == "__main__":
    main()
