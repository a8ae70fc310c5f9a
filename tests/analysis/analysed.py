"""Finished runs as `sslzoo pretrain` leaves them, with a tokenizer of a small table of texts."""

from pathlib import Path

import torch
import yaml
from conftest import compose
from safetensors.torch import save_file

from sslzoo import build, own
from sslzoo.run import Run, write_json, write_signed

PLACES = ("river", "money", "grass", "stone", "water", "house", "green", "small", "deep", "old")


def sentences(count: int) -> list[str]:
    """Texts in which "bank" is in every third, and other words as often as it falls out."""
    found = []
    for i in range(count):
        a, b, c = (PLACES[(i * k + k) % len(PLACES)] for k in (1, 3, 7))
        found.append(f"the {a} {'bank' if i % 3 == 0 else b} is near {c} number{'s' if i % 2 else ''}")
    return found


def table(folder: Path, count: int = 120) -> list[str]:
    """The overrides of data that read a table of so many sentences."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = [f"{text}\t{i % 2}" for i, text in enumerate(sentences(count))]
    (folder / "train.tsv").write_text("\n".join(["sentence\tlabel", *rows]) + "\n")
    files = "data.files={train: train.tsv, valid: train.tsv, test: train.tsv}"
    sizes = ["data.vocab_size=120", "data.max_tokens=40"]
    return ["data=text_table", f"data.path={folder}", files, "data.text=sentence", "+data.label=label", *sizes]


def finished(folder: Path, *words: str, seed: int = 0) -> Run:
    """A run of `words` whose weights are its first ones, moved by a little."""
    config = compose(*words, f"seed={seed}")
    run = Run(folder)
    folder.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump(config))
    nodes = {name: config[name] for name in ("encoder", "data")}
    write_json(run.encoder, {"seed": seed, **nodes, "own": own.folders_of([*nodes.values()])})
    torch.manual_seed(seed)
    module = build.make(config["encoder"])
    weights = {
        k: w + 0.05 * torch.randn_like(w) if w.is_floating_point() else w for k, w in module.state_dict().items()
    }
    write_signed(run.weights, lambda path: save_file({k: v.contiguous() for k, v in weights.items()}, path))
    build.make(config["data"]).save(folder)
    (folder / "DONE").touch()
    return run


def text_run(tmp_path: Path, name: str = "one", encoder: str = "tiny_text", seed: int = 0) -> Run:
    return finished(tmp_path / "runs" / name, *table(tmp_path / "table"), f"encoder={encoder}", seed=seed)
