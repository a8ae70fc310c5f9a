"""From a folder that transformers wrote to a finished run of this project, which every command takes."""

import json
import re
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from sslzoo import weights
from sslzoo.data.text_inputs import TextInputs
from sslzoo.errors import ConfigError, UserError
from sslzoo.interop import configs, names, tokenizers
from sslzoo.interop.families import Family, Head
from sslzoo.interop.folder import Folder
from sslzoo.lock import sole_writer
from sslzoo.nodes import make
from sslzoo.run import Run, checked_name, write_atomic, write_json

PREFIX = "hf:"
FILE = "imported.json"
LONGEST = 60  # characters of a folder's name that a run's begins with


def import_run(source: str, root: Path, name: str | None = None) -> tuple[Run, bool]:
    """The run that an `hf:FOLDER` is imported as, in root, and whether it was made now. name: None for one made from the
    folder's name and a hash of what is read of it. What of the weights has no place here is named in its imported.json.

    Raises UserError, before anything is written, for a folder that cannot be read whole.
    """
    folder = Folder.open(Path(source.removeprefix(PREFIX)).expanduser())
    digest = folder.digest()
    if name is None:
        start = re.sub(r"[^\w.-]+", "_", folder.path.resolve().name, flags=re.ASCII).strip("._-")[:LONGEST]
        name = f"{start or 'hf'}-{digest[:6]}"
    run = Run(root / checked_name(name))
    if run.config.exists():
        known = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        if run.done and known.get("imported", {}).get("digest") == digest:
            return run, False
        if run.done or "imported" not in known:
            raise ConfigError(f"{run.folder} is another run: choose another name=…")
    found = Imported(folder)
    with sole_writer(run.folder):
        found.write(run, digest)
    return run, True


def summary(run: Run, source: str) -> str:
    """What was imported, in a line or two."""
    said = json.loads((run.folder / FILE).read_text(encoding="utf-8"))
    encoder = json.loads(run.encoder.read_text(encoding="utf-8"))["encoder"]
    frontend, trunk = encoder["frontend"], encoder["trunk"]
    head = ", with its language-model head" if run.objective.exists() else ""
    what = f"{said['family']} of {trunk['depth']} x {trunk['dim']}, {frontend['vocab_size']:,} ids"
    what += f", {frontend['max_tokens']} positions, pooled by {encoder['pool']}{head}"
    lines = [f"imported {source} as {run.folder}: {what}"]
    if said["ignored"]:
        lines.append(f"  left out, for it has no place here: {', '.join(said['ignored'])}")
    return "\n".join(lines)


class Imported:
    """What a folder becomes here."""

    def __init__(self, folder: Folder):
        self.folder, where = folder, str(folder.path / "config.json")
        config = folder.config
        self.family = configs.family_of(config, where)
        size = int(configs.settings(self.family, config, where)["vocab_size"])
        self.tokenizer, rows = tokenizers.read(folder.path, self.family.name, size)
        self.rows = names.Rows(rows.specials, rows.size, configs.offset(self.family, config))
        tensors = plain_names(folder.tensors(), self.family)
        self.pool = self._pooling(tensors)
        more = sum(i is None for i in self.rows.specials)
        self.encoder = configs.encoder_node(self.family, config, where, size + more, self.pool)
        with torch.device("meta"):  # its weights are those of the folder
            made = make(self.encoder)
        table = encoder_table(self.family, self.encoder)
        self.head = self._head(tensors)
        head = [] if self.head is None else self.head.weights
        self._check_tied(tensors)
        left = names.check_complete(
            str(folder.path),
            tensors,
            [w.theirs for w in (*table, *head)],
            [*self.family.ignored, *map(re.escape, self.family.tied), *([r"pooler\..*"] * (self.pool != "pooler"))],
        )
        self.ignored = [name for name in left if name not in self.family.tied]
        self.weights = names.to_ours(table, tensors, self.rows)
        check_shapes(str(folder.path), self.weights, made.state_dict())
        self.head_weights = names.to_ours(head, tensors, self.rows)

    def _pooling(self, tensors: dict[str, Tensor]) -> str:
        """As sentence-transformers says, else by BERT's pooler where there is one, else by the first token; a causal
        trunk's, whose first token sees no other, by the mean."""
        if self.family.causal:
            return "mean"
        has_pooler = bool(self.family.pooler) and self.family.pooler[0].theirs in tensors
        return self.folder.pooling() or ("pooler" if has_pooler else "first")

    def _head(self, tensors: dict[str, Tensor]) -> Head | None:
        """The first of the family's heads that is there, and is one here: of pairs, with the encoder's pooler."""
        for head in self.family.heads:
            pairs = any(w.ours[0].startswith("pair_head.") for w in head.weights)
            there = all(w.theirs in tensors for w in head.weights) and (self.pool == "pooler" or not pairs)
            if there and head.activation in (None, self.encoder["trunk"]["activation"]):
                return head
        return None

    def _check_tied(self, tensors: dict[str, Tensor]) -> None:
        for name, to in self.family.tied.items():
            if name in tensors and to in tensors and not torch.equal(tensors[name], tensors[to]):
                raise UserError(
                    f"{self.folder.path}: {name} is not {to}: a head with an output embedding of its own has no place here"
                )

    def data(self) -> dict[str, Any]:
        """The config node of its data."""
        return {
            "_target_": f"{TextInputs.__module__}.{TextInputs.__name__}",
            "vocab_size": self.encoder["frontend"]["vocab_size"],
            "max_tokens": self.encoder["frontend"]["max_tokens"],
            "batch": {"_target_": "sslzoo.data.sampler.ByCount", "size": 32},
        }

    def write(self, run: Run, digest: str) -> None:
        """The files of a finished run; DONE is the last."""
        parts: dict[str, Any] = {"encoder": self.encoder, "data": self.data(), "seed": 0}
        weights.save(run.weights, self.weights)
        write_json(run.encoder, {**parts, "own": {}})
        self.tokenizer.save(run.folder / "tokenizer.json")
        if self.head is not None:
            parts["objective"] = configs.objective_node(self.head.objective, self.encoder["trunk"]["eps"])
            weights.save(run.objective_weights, self.head_weights)
            prepared = {"items": 0, "epoch_steps": 0}
            write_json(
                run.objective,
                {"objective": parts["objective"], "seed": 0, "prepared": prepared, "targets": None},
            )
        said = {"folder": str(self.folder.path.resolve()), "family": self.family.name, "digest": digest}
        write_json(
            run.folder / FILE,
            {**said, "specials": self.rows.specials, "ignored": self.ignored, "config": self.folder.config},
        )
        # a choice of `encoder` for whoever trains it further
        option = f"# {self.family.name} of another library\n{yaml.safe_dump(self.encoder, sort_keys=False)}"
        write_atomic(
            run.folder / "conf" / "encoder" / f"{run.name}.yaml", lambda path: path.write_text(option, encoding="utf-8")
        )
        text = yaml.safe_dump({"imported": said, **parts}, sort_keys=False)
        write_atomic(run.config, lambda path: path.write_text(text, encoding="utf-8"))
        run.finish()


def plain_names(tensors: dict[str, Tensor], family: Family) -> dict[str, Tensor]:
    """Without the prefix that a model with a head puts before its encoder's names, and norms as they are called now."""
    renamed = {re.sub(r"\.gamma$", ".weight", re.sub(r"\.beta$", ".bias", name)): x for name, x in tensors.items()}
    return {name.removeprefix(family.prefix): x for name, x in renamed.items()}


def encoder_table(family: Family, encoder: dict[str, Any]) -> list[names.Weight]:
    """The weights of an encoder's config node."""
    frontend, trunk = encoder["frontend"], encoder["trunk"]
    more = family.pooler if encoder["pool"] == "pooler" else []
    if frontend.get("embedding_dim", trunk["dim"]) != trunk["dim"]:
        more = [*more, *family.up]
    return names.numbered([*family.encoder, *more], trunk["depth"])


def check_shapes(where: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name, x in wanted.items():
        if found[name].shape != x.shape:
            raise UserError(
                f"{where}: {name} is {list(found[name].shape)} in the weights, and {list(x.shape)} by config.json"
            )
