"""Building a job from a composed config, with checks that its parts fit each other (see `nodes` for the checks of one
node), and loading a finished run's encoder and objective."""

import contextlib
import dataclasses
import json
import re
from collections.abc import Collection
from functools import cache
from pathlib import Path
from typing import Any, ClassVar

import torch
import yaml
from omegaconf import OmegaConf

from sslzoo import compat, own, rng, weights
from sslzoo.config import FREE, choices, leaves, options
from sslzoo.data.arranged import arranged
from sslzoo.data.targets import Labelled, PlannedTargets, Targets
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.initial import MEND, TOKENIZER, described, differences, inherit_head, initial, restore
from sslzoo.nodes import check, fits, make, target, with_defaults
from sslzoo.run import Run, sha256, write_atomic, write_json
from sslzoo.train import additions, blocks
from sslzoo.train.cadence import Cadence
from sslzoo.train.validate import Validate

OFFERED = {
    "causal": "a causal trunk",
    "frames": "log-mel frames",
    "codes": "codes of a vq-wav2vec",
    "colors": "pixels as colours of a palette",
    "documents": "documents kept apart",
    "blind": "outputs that do not depend on their own frame (encoder=npc_small)",
}  # Encoder.offers in words, for messages
UNITS = {"seconds": "speech", "tokens": "text"}  # unit of data.batch -> modality


@dataclasses.dataclass
class Job:
    """A pretraining run's parts. module: the LightningModule that trains them, None for `Pretrain`."""

    config: dict
    data: Any
    encoder: Any
    objective: Any
    optim: Any
    trainer: Any

    module: ClassVar[Any] = None
    validates_all = False  # whether trainer.val_every=auto measures the whole split, not a few batches

    def validation(self, split, every: Cadence, workers: int, indices) -> Validate:
        """The callback that measures the validation split, or its items at `indices`, during the run."""
        return Validate(self.data, split, self.config["seed"], every, workers, indices)

    def save(self, run: Run, prepared: dict, encoder: torch.nn.Module, objective: torch.nn.Module) -> None:
        """Write the weights, and the configs to rebuild the modules. prepared: the arguments of `objective.prepare`."""
        saved = {name: self.config[name] for name in ("encoder", "data", "seed")}
        saved["own"] = own.folders_of([self.config[name] for name in ("encoder", "data", "objective")])
        if (run.folder / TOKENIZER).exists():
            saved["tokenizer"] = sha256(run.folder / TOKENIZER)
        weights.save(run.weights, encoder.state_dict())
        write_json(run.encoder, saved)
        state = objective.state_dict()
        weights.save(run.objective_weights, {k: v for k, v in state.items() if k not in objective.per_item})
        targets = self.data.targets
        if targets is not None:
            targets = {k: getattr(targets, k) for k in ("folder", "clusters", "hop", "sample_rate")}
            targets["folder"] = str(targets["folder"])
        saved = {"objective": self.config["objective"], "seed": self.config["seed"]}
        write_json(run.objective, {**saved, "prepared": prepared, "targets": targets})


def matching_encoders(fit) -> list[str]:
    """The names in conf/encoder of encoders for which fit(encoder) is true, built on the meta device."""
    return [name for name, encoder in _on_meta(tuple(options("encoder"))).items() if fit(encoder)]


@cache
def _on_meta(names: tuple[str, ...]) -> dict[str, Encoder]:
    """The encoders of conf/encoder, by name, on the meta device."""
    images = {"size": 32, "channels": 3, "mean": [0.5], "std": [0.5]}
    data, found = {**images, "vocab_size": 100, "max_tokens": 64, "sample_rate": 16000}, {}
    for name, composed in choices("encoder", names).items():
        config = OmegaConf.create({"data": data, "encoder": composed})
        node = OmegaConf.to_container(config, resolve=True)["encoder"]
        # those that need a package that is not installed are left out
        with torch.device("meta"), contextlib.suppress(ConfigError):
            found[name] = make(node)
    return found


def check_fit(data, encoder, objective: type) -> None:
    """Raise ConfigError if data, encoder and objective do not fit each other, naming choices that would."""
    name = objective.__name__
    if data.modality not in objective.modalities:
        raise ConfigError(
            f"{name} is for {' and '.join(objective.modalities)}, but the data is {data.modality}: "
            f"choose data of that kind (`sslzoo list data`)"
        )
    if objective.learns_targets and data.targets is None:
        raise ConfigError(f"{name} learns targets: make them with `sslzoo label`, then set targets=FOLDER")
    if data.targets is not None and not objective.learns_targets:
        raise ConfigError(f"{name} learns no targets: leave out targets={data.targets.folder}")
    if data.targets is not None and data.targets.sample_rate != data.sample_rate:
        raise ConfigError(
            f"targets={data.targets.folder} are of audio at {data.targets.sample_rate} Hz, but the data is read at "
            f"{data.sample_rate}: run `sslzoo label` on this data"
        )
    for setting in ("sample_rate", "size", "channels"):
        ours, theirs = (getattr(data, setting, None), encoder.reads.get(setting))
        if data.modality == encoder.modality and theirs is not None and ours != theirs:
            raise ConfigError(
                f"data.{setting}={ours}, but the encoder reads {setting} {theirs}: set data.{setting}={theirs}"
            )
    most = encoder.reads.get("max_tokens")
    if data.modality == encoder.modality == "text" and most is not None and data.max_tokens > most:
        raise ConfigError(
            f"data.max_tokens={data.max_tokens} is more than the {most} positions of the encoder: set data.max_tokens={most}"
        )
    unit = getattr(data.batch, "unit", None)
    if unit is not None and UNITS[unit] != data.modality:
        raise ConfigError(
            f"data.batch counts {unit}, but the data is {data.modality}: choose another data/batch=… (`sslzoo list batches`)"
        )
    packed = getattr(data, "pack", False)
    if packed and not objective.packs:
        raise ConfigError(f"{name} reads rows of one text each: set data.pack=false")
    if data.modality == encoder.modality == "speech" and encoder.prefix and not objective.skips_prefix:
        good = matching_encoders(lambda e: e.modality == "speech" and objective.needs <= e.offers and not e.prefix)
        raise ConfigError(
            f"{name} asks of every token, and the encoder has a class token; these fit: encoder={', '.join(good)}"
        )
    needs = objective.needs | ({"documents"} if packed else set())
    mend = "; or set data.pack=false" if packed and "documents" not in encoder.offers else ""
    lacks = " and ".join(OFFERED.get(name, name) for name in sorted(needs - encoder.offers))
    for ok, need in (
        (encoder.modality == data.modality, f"an encoder of {data.modality}"),
        (needs <= encoder.offers, f"an encoder with {lacks}"),
    ):
        if not ok:
            good = matching_encoders(lambda e: e.modality == data.modality and needs <= e.offers)
            raise ConfigError(
                f"{name} on this data needs {need}; these fit: encoder={', '.join(good) or 'none yet'}{mend}"
            )


def build(config: dict, planned: PlannedTargets | None = None) -> Job:
    """All parts of `sslzoo pretrain`, from its plain config. Initial weights depend on config.seed only.

    planned: stands for targets that do not exist yet, to check a config; its data cannot be read.
    """
    parts = {name: config[name] for name in ("data", "encoder", "objective", "optim", "trainer")}
    for name, node in parts.items():
        if not isinstance(node, dict) or "_target_" not in node:
            raise ConfigError(f"{name} has no _target_: choose one of `sslzoo list` with {name}=…")
        check(node, name)
    if not fits(config["seed"], int):
        raise ConfigError(f"seed must be int, got {config['seed']!r}")
    if not fits(config.get("targets"), str | None):
        raise ConfigError(f"targets must be the folder of what `sslzoo label` made, got {config['targets']!r}")
    additions.check(config)
    trainer, optim, data = make(config["trainer"]), make(config["optim"]), make(config["data"])
    source = initial(config)
    if config.get("targets") is not None:
        data = Labelled(data, planned or Targets(config["targets"]))
    with torch.random.fork_rng():
        torch.manual_seed(rng.derive_seed(config["seed"], "weights"))
        encoder = make(config["encoder"])
        if source is not None:  # before the objective, which may copy the encoder
            restore_data(data, source, encoder)
            encoder.load_state_dict(compat.translate_weights(weights.load(source.weights, MEND.format(source.folder))))
        objective = target(config["objective"]["_target_"], "objective")
        check_fit(data, encoder, objective)
        if getattr(data, "pack", False):
            encoder.frontend.packed = True
        objective = make(config["objective"], encoder=encoder, data=data)
    data = arranged(data, objective, config["seed"])
    if source is not None and "head" in config["init"]:
        inherit_head(objective, config["objective"], source)
    blocks.check(trainer, encoder, objective)
    return Job(config, data, encoder, objective, batched(data, encoder, objective, optim, trainer), trainer)


def batched(data, encoder, objective, optim, trainer):
    """The optimiser's settings, with lr scaled to the data's batch. Raises ConfigError, before any data is read, for
    batches too small for the objective and the ranks, and optimiser settings that match no parameter."""
    data.batch.check(max(objective.min_batch, trainer.ranks) * trainer.accumulate)
    # BySeconds holds tokens in `seconds`, too
    optim = optim.scaled(getattr(data.batch, "size", getattr(data.batch, "seconds", None)))
    optim.param_groups(torch.nn.ModuleDict({"encoder": encoder, "objective": objective}))
    return optim


def load_encoder(run: Run, untrained: bool = False):
    """(a finished run's encoder in eval mode, its data set). untrained: with the encoder's initial weights."""
    saved = described(run)
    with torch.random.fork_rng():
        torch.manual_seed(rng.derive_seed(saved["seed"], "weights"))
        encoder = make(saved["encoder"])
    if not untrained:
        encoder.load_state_dict(compat.translate_weights(weights.load(run.weights, MEND.format(run.folder))))
    data = make(saved["data"])
    if getattr(data, "pack", False):
        data.pack = False  # packed rows are for training only
    restore_data(data, run, encoder)
    return encoder.eval(), data


def restore_data(data, run: Run, encoder) -> None:
    """Set data up as the run's: with its tokenizer and the vocabulary size of its encoder, which may exceed the
    tokenizer's."""
    data.restore(run.folder)
    if "vocab_size" in encoder.reads:
        data.vocab_size = encoder.reads["vocab_size"]


def load_objective(run: Run):
    """(a finished run's objective in eval mode, its encoder, its data set). The objective has all its weights,
    including a teacher's, except buffers with an entry per training item."""
    encoder, data = load_encoder(run)
    if not run.objective.exists():
        raise UserError(f"{run.folder} has no objective.json: it was trained when only encoders were kept")
    saved = json.loads(run.objective.read_text(encoding="utf-8"))
    if saved["targets"] is not None:
        data = Labelled(data, joined(saved["targets"]))
    with torch.random.fork_rng():
        torch.manual_seed(rng.derive_seed(saved["seed"], "weights"))
        objective = make(saved["objective"], encoder=encoder, data=data)
    data = arranged(data, objective, saved["seed"])
    objective.prepare(**saved["prepared"], seed=saved["seed"])
    found = weights.load(run.objective_weights, MEND.format(run.folder))
    restore(objective, found, objective.per_item)
    return objective.eval(), encoder, data


def joined(saved: dict) -> Targets | PlannedTargets:
    """A run's targets if their folder still exists, else their stored description."""
    if (Path(saved["folder"]) / "label.json").exists():
        return Targets(saved["folder"])
    return PlannedTargets(Path(saved["folder"]), *(saved[k] for k in ("clusters", "hop", "sample_rate")))


def write_config(run: Run, config: dict, free: Collection[str] = FREE) -> None:
    """Write the config of a new run; for an existing run, raise ConfigError if its config differs in settings that are
    not `free`. Settings of the nodes in `growing` that were added since the run began count as their defaults. Data may
    have moved while a run is unfinished: `train.items` holds it to the same items."""
    if run.config.exists():
        written = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        if compat.is_old(written) and not run.done:
            raise ConfigError(
                f"{run.folder} was begun by an older sslzoo, whose checkpoints cannot be continued — "
                "choose another name=… or delete it"
            )
        growing = "trainer", "optim", "encoder", "objective", "data", "task", "method"
        old, new = (
            {k: with_defaults(v) if k in growing else v for k, v in saved.items()}
            for saved in ({k: v for k, v in c.items() if k != "logger"} for c in (compat.translate(written), config))
        )
        if run.items.exists() and not run.done:
            free = {*free, *(key for key, _ in leaves(new) if re.fullmatch(r"(data|task\.data)\.(.+\.)?path", key))}
        differ = differences(old, new, free)
        if differ:
            raise ConfigError(
                f"{run.folder} is a run of another config ({differ}) — choose another name=… or delete it"
            )
        return
    write_atomic(run.config, lambda path: path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8"))
