"""Run folders as training and probing leave them, made up in a moment."""

import json
from pathlib import Path

import torch
import yaml

from sslzoo.run import Run

VISUALIZATION = {
    "kind": "masked_tokens",
    "ids": torch.tensor([[7, 8, 9, 0]]),
    "lengths": torch.tensor([3]),
    "mask": torch.tensor([[False, True, False, False]]),
    "prediction": torch.tensor([[7, 7, 7, 7]]),
    "words": {0: "", 7: "the", 8: "ca", 9: "##t"},
}
OLD = {  # as runs had it before
    "kind": "tokens",
    "title": "Masked pieces",
    "rows": [{"tokens": ["the", "ca", "##t"], "masked": [False, True, False], "predicted": ["", ["do", "ca"], ""]}],
}


def part(test: float, knn: float = 0.5, metric: str = "accuracy", chance: float = 0.1, labels=("a", "b")) -> dict:
    return {
        "metric": metric,
        "chance": chance,
        "n_test": 300,
        "linear": {"test": test, "valid": test, "layer_weights": [0.1, 0.7, 0.2]},
        "knn": {"test": knn},
        "seconds": 6.0,
        "classes": list(labels),
        "confusion": [[0, 0, 140], [0, 1, 10], [1, 0, 30], [1, 1, 120]],
        "projections": {
            "planes": {name: [[0, 1000], [1000, -300]] for name in ("probe", "tsne", "pca")},
            "label": [0, 1],
            "predicted": [0, 0],
        },
    }


def make_run(
    folder: Path,
    seed: int = 0,
    probes: dict | None = None,
    minutes: float = 1.5,
    objective: str = "SimCLR",
    targets: str | None = None,
) -> Run:
    """A finished run; probes: by task, the scores of the pretrained, the untrained and the raw. targets: the
    folder of what it learned."""
    run = Run(folder)
    folder.mkdir(parents=True)
    nodes = {"objective": objective, "data": "Digits", "encoder": "ResNet"}
    config = {"seed": seed, **{k: {"_target_": f"sslzoo.{k}.{v}"} for k, v in nodes.items()}}
    config |= {"targets": targets} if targets else {}
    run.config.write_text(yaml.safe_dump(config))
    run.metrics.write_text(
        "step,loss,accuracy,chance,val_loss\n0,5.5,0.1,0.1,\n1,4.25,0.2,0.1,\n1,,,,4.5\n2,3.75,0.3,0.1,\n"
    )
    machine = {"system": "Linux", "arch": "x86_64", "cores": 2}
    summary = {
        "steps": 600,
        "minutes": minutes,
        "peak_memory_gb": 1.25,
        "machine": machine,
        "device": "cpu",
        "parameters": 310000,
        "logs": {"loss": 3.75, "accuracy": 0.3 + seed / 10},
    }
    run.summary.write_text(json.dumps(summary))
    torch.save(VISUALIZATION, run.visualization)
    for task, scores in (probes if probes is not None else {"digit": (0.934, 0.512, 0.31)}).items():
        run.probes.mkdir(exist_ok=True)
        found = {k: part(s) for k, s in zip(("pretrained", "untrained", "raw"), scores, strict=True)}
        (run.probes / f"{task}.json").write_text(json.dumps(found))
    run.finish()
    return run


def make_labels(folder: Path, clusters: int = 50, run: str | None = None, seed: int = 0) -> Path:
    """What `sslzoo label` leaves, but for the labels themselves."""
    folder.mkdir(parents=True, exist_ok=True)
    source = {"source": "layer 2", "run": Path(run).name, "layer": 2} if run else {"source": "mfcc"}
    valid = {"items": 9, "inertia": 2.5, "phone_purity": 0.44 + seed / 50, "cluster_purity": 0.2, "pnmi": 0.38}
    said = {"source": source, "clusters": clusters, "hop": 320, "sample_rate": 16000, "splits": {"valid": valid}}
    (folder / "label.json").write_text(json.dumps(said))
    return folder
