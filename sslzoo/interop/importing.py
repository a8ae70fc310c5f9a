"""From a folder that transformers wrote to a finished run of this project, which every command takes."""

import json
import re
import shutil
from pathlib import Path
from typing import Any

import torch
import yaml
from torch import Tensor

from sslzoo import weights
from sslzoo.config import leaves
from sslzoo.data.foreign_inputs import ImageInputs, SpeechInputs
from sslzoo.data.text_inputs import TextInputs
from sslzoo.errors import ConfigError, UserError
from sslzoo.interop import configs, names, sources, tokenizers
from sslzoo.interop.family import Head, names_of_now
from sslzoo.interop.grammar import OWN, UNTRAINED
from sslzoo.interop.own_class import import_class
from sslzoo.interop.text_settings import offset
from sslzoo.interop.untrained import import_untrained
from sslzoo.lock import sole_writer
from sslzoo.nodes import make
from sslzoo.run import Run, checked_name, write_atomic, write_json

FILE, THEIRS = (
    "imported.json",
    "theirs",
)  # what was imported; what goes out again as it came: the files of its tokenizer
FIRST_ROWS = "first_rows.safetensors"  # and rows of positions that no token has
LONGEST = 60  # characters of a folder's name that a run's begins with


def import_run(source: str, root: Path, name: str | None = None) -> tuple[Run, bool]:
    """Import a source, SOURCE:WHAT (see `sources`), as a run in root: (the run, whether it was made now). name: None
    for one made from the source's name and a hash of its files. Unused weights are listed in the run's imported.json.

    Raises UserError, before anything is written, if the source cannot be imported completely.
    """
    prefix, _, what = source.partition(":")
    if prefix == OWN and what:
        return import_class(what, root, name)
    if prefix == UNTRAINED and what:
        return import_untrained(what, root, name)
    opened = sources.opened(source)
    digest = opened.digest()
    if name is None:
        last = opened.path.resolve()
        start = re.sub(r"[^\w.-]+", "_", last.stem if last.is_file() else last.name, flags=re.ASCII)
        name = f"{start.strip('._-')[:LONGEST] or 'imported'}-{digest[:6]}"
    run = Run(root / checked_name(name))
    if run.config.exists():
        known = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        if run.done and known.get("imported", {}).get("digest") == digest:
            return run, False
        if run.done or "imported" not in known:
            raise ConfigError(f"{run.folder} is another run: choose another name=…")
    found = Imported(opened)
    with sole_writer(run.folder):
        found.write(run, digest)
    return run, True


def summary(run: Run, source: str) -> str:
    """A summary of an import in one to three lines."""
    if not (run.folder / FILE).exists():
        return f"imported {source} as {run.folder}"
    said = json.loads((run.folder / FILE).read_text(encoding="utf-8"))
    saved = json.loads(run.encoder.read_text(encoding="utf-8"))
    encoder, data = saved["encoder"], saved["data"]
    head = ", with its head for pretraining" if run.objective.exists() else ""
    if "vocab_size" in data:
        read = f"{data['vocab_size']:,} ids, {data['max_tokens']} positions"
    elif "sample_rate" in data:
        read = f"speech at {data['sample_rate']:,} Hz"
    else:
        read = f"images of {data['size']} pixels a side"
    trunk = encoder.get("trunk")
    shape = f"{trunk['depth']} x {trunk['dim']}" if trunk else f"stages of {encoder['depths']} blocks"
    what = f"{said['family']} of {shape}, {read}, pooled by {encoder['pool'] if trunk and 'pool' in encoder else 'mean'}{head}"
    lines = [f"imported {source} as {run.folder}: {what}"]
    if said["ignored"]:
        some = names.listed(said["ignored"])
        lines.append(f"  left out, for it has no place here: {some}")
    if said.get("assumed"):
        lines.append(f"  {said['assumed']}")
    return "\n".join(lines)


class Imported:
    """The parts of a run from a source: encoder, weights, tokenizer, head. Raises UserError if any does not fit."""

    def __init__(self, folder: sources.Source):
        self.folder, config, self.family = folder, folder.config, folder.family
        where = str(folder.path / "config.json" if folder.path.is_dir() else folder.path)
        tensors = names_of_now(folder.tensors(), self.family)
        self.encoder = configs.node_of(self.family.settings, self.family.constants, config, where)
        self.rows = names.Rows((), 0)
        if self.family.modality == "text":
            size = int(self.encoder["frontend"]["vocab_size"])
            self.tokenizer, rows = tokenizers.read(folder.path, self.family.name, size)
            self.rows = names.Rows(rows.specials, rows.size, offset(config) if self.family.offset else 0)
            self.encoder["frontend"]["vocab_size"] += sum(i is None for i in self.rows.specials)
        if "pool" not in self.family.constants and self.encoder["_target_"].endswith("SequenceEncoder"):
            self.encoder["pool"] = self._pooling(tensors)
        with torch.device("meta"):  # its weights are those of the folder
            encoder = make(self.encoder)
        made = encoder.state_dict()
        made_here = {name for name in made if names.matches(name, self.family.made)}
        self.table = table = names.expanded(self.family.weights, made.keys() - made_here)
        self.head = self._head(tensors)
        head, parts = self._head_parts(encoder)
        self._check_tied(tensors)
        left = names.check_complete(
            str(folder.path),
            tensors,
            [w.theirs for w in (*table, *head)],
            [*self.family.ignored, *map(re.escape, self.family.tied), r"pooler\..*"],
            folder.mend,
        )
        self.ignored = [name for name in left if name not in self.family.tied]
        self.weights = names.to_ours(table, tensors, self.rows, made)
        self.first_rows = {
            w.theirs: tensors[w.theirs][: self.rows.offset].clone() for w in table if w.rows == "positions"
        }
        check_shapes(str(folder.path), self.weights, {k: x for k, x in made.items() if k not in made_here})
        if made_here:
            built = make(self.encoder).state_dict()
            self.weights |= {name: zeroed(name, built[name]) for name in made_here}
        self.head_weights = names.to_ours(head, tensors, self.rows, parts)
        check_shapes(str(folder.path), self.head_weights, parts)

    def _pooling(self, tensors: dict[str, Tensor]) -> str:
        """The pooling of sentence-transformers if configured, else BERT's pooler if there is one, else the first token;
        the mean for causal trunks, whose first token sees no other."""
        if self.family.causal:
            return "mean"
        has_pooler = self.family.pools and any(name.startswith("pooler.") for name in tensors)
        return self.folder.pooling() or ("pooler" if has_pooler else "first")

    def _head(self, tensors: dict[str, Tensor]) -> Head | None:
        """The first of the family's heads that the weights contain and an objective can use; heads for pairs need the
        pooler."""
        for head in self.family.heads:
            pairs = any(w.ours[0].startswith("pair_head.") for w in head.weights)
            fits = head.reads and (self.encoder.get("pool") == "pooler" or not pairs)
            there = all(w.theirs in tensors for w in head.table if "{" not in w.theirs)
            if fits and there and head.activation in (None, self.encoder["trunk"]["activation"]):
                return head
        return None

    def _head_parts(self, encoder: torch.nn.Module) -> tuple[list[names.Weight], dict[str, Tensor]]:
        """(the head's entries of the table, the objective's state dict that they fill)."""
        if self.head is None:
            return [], {}
        with torch.device("meta"):
            parts = make(self.objective(self.head), encoder=encoder, data=make(self.data())).state_dict()
        return names.expanded(self.head.table, parts.keys()), parts

    def _check_tied(self, tensors: dict[str, Tensor]) -> None:
        for name, to in self.family.tied.items():
            if name in tensors and to in tensors and not torch.equal(tensors[name], tensors[to]):
                raise UserError(
                    f"{self.folder.path}: {name} is not {to}: a head with an output embedding of its own has no place here"
                )

    def data(self) -> dict[str, Any]:
        """The config node of the run's data."""
        frontend, kind = self.encoder.get("frontend", {"size": 224, **self.encoder}), INPUTS[self.family.modality]
        read = {name: frontend[name] for name in READS[self.family.modality]}
        batch = {"_target_": "sslzoo.data.sampler.ByCount", "size": 32}
        return {"_target_": f"{kind.__module__}.{kind.__name__}", **read, "batch": batch}

    def write(self, run: Run, digest: str) -> None:
        """Write the files of a finished run, DONE last."""
        parts: dict[str, Any] = {"encoder": self.encoder, "data": self.data(), "seed": 0}
        weights.save(run.weights, self.weights)
        write_json(run.encoder, {**parts, "own": {}})
        if self.family.modality == "text":
            self.tokenizer.save(run.folder / "tokenizer.json")
            (run.folder / THEIRS).mkdir(exist_ok=True)
            for name in tokenizers.FILES:
                if (self.folder.path / name).exists():
                    shutil.copyfile(self.folder.path / name, run.folder / THEIRS / name)
            weights.save(run.folder / THEIRS / FIRST_ROWS, self.first_rows)
        if self.head is not None:
            parts["objective"] = self.objective(self.head)
            weights.save(run.objective_weights, self.head_weights)
            prepared = {"items": 0, "epoch_steps": 0}
            write_json(
                run.objective,
                {"objective": parts["objective"], "seed": 0, "prepared": prepared, "targets": None},
            )
        said = {"folder": str(self.folder.path.resolve()), "family": self.family.name, "digest": digest}
        write_json(
            run.folder / FILE,
            {**said, "specials": self.rows.specials, "ignored": self.ignored, "config": self.folder.config}
            | ({"assumed": self.folder.assumed} if self.folder.assumed else {}),
        )
        # a choice of `encoder` for whoever trains it further
        option = f"# {self.family.name} of another library\n{yaml.safe_dump(self.encoder, sort_keys=False)}"
        write_atomic(
            run.folder / "conf" / "encoder" / f"{run.name}.yaml", lambda path: path.write_text(option, encoding="utf-8")
        )
        text = yaml.safe_dump({"imported": said, **parts}, sort_keys=False)
        write_atomic(run.config, lambda path: path.write_text(text, encoding="utf-8"))
        run.finish()

    def objective(self, head: Head) -> dict[str, Any]:
        """The config node of the objective that a head belongs to."""
        where = str(self.folder.path / "config.json")
        said = configs.node_of(head.settings, {}, self.folder.config, where)
        changes = {"eps": self.encoder["trunk"].get("eps"), **dict(leaves(said))}
        return configs.objective_node(head.objective, changes)


INPUTS: dict[str, type] = {"text": TextInputs, "speech": SpeechInputs, "image": ImageInputs}
READS = {
    "text": ("vocab_size", "max_tokens"),
    "speech": ("sample_rate",),
    "image": ("size", "channels", "mean", "std"),
}


def zeroed(name: str, x: Tensor) -> Tensor:
    """A tensor that is made here: a buffer as its settings have it, a bias that they have not 0."""
    return torch.zeros_like(x) if name.endswith(".bias") else x


def check_shapes(where: str, found: dict[str, Tensor], wanted: dict[str, Tensor]) -> None:
    for name, x in wanted.items():
        if found[name].shape != x.shape:
            raise UserError(
                f"{where}: {name} is {list(found[name].shape)} in the weights, and {list(x.shape)} by config.json"
            )
