"""The one place where a composed config becomes objects, and where misfits are refused.

Every node with a `_target_` is bound to the signature of what it names, and its values to the
annotations, before anything is made; making them touches no data.
"""

import importlib
import inspect
import json
import types
import typing
from dataclasses import dataclass

import hydra
import torch
import yaml
from omegaconf import OmegaConf

from sslzoo import compat, rng
from sslzoo.config import CONF
from sslzoo.data.targets import Labelled, PlannedTargets, Targets
from sslzoo.errors import ConfigError, UserError, nearest
from sslzoo.run import Run, check_signed, write_atomic

OFFERED = {"causal": "a causal trunk", "frames": "log-mel frames"}  # how it is said of an encoder
GIVEN = {"objective": ("encoder", "data")}  # what a node gets from its siblings


def target(path: str, where: str):
    """The class that `_target_` names."""
    if path in compat.TARGETS:
        raise ConfigError(f"{where}: {path} is {compat.TARGETS[path]} now: write that")
    module, _, name = str(path).rpartition(".")
    try:
        found = importlib.import_module(module)
    except Exception as error:
        raise ConfigError(f"{where}: cannot import {path}: {str(error).splitlines()[0]}") from error
    if not hasattr(found, name):
        raise ConfigError(f"{where}: there is no {name} in {module}{nearest(name, vars(found))}")
    return getattr(found, name)


def fits(value, hint) -> bool:
    """Whether a plain value is of an annotated type. An int passes for a float."""
    if hint is inspect.Parameter.empty or hint is typing.Any or hint is object:
        return True
    if isinstance(value, dict) and "_target_" in value:
        return True  # checked as a node of its own; its class may be an object of any kind
    origin, args = typing.get_origin(hint), typing.get_args(hint)
    if origin in (typing.Union, types.UnionType):
        return any(fits(value, arg) for arg in args)
    if origin is typing.Literal:
        return value in args
    if origin in (list, tuple):
        return isinstance(value, list) and all(fits(v, args[0]) for v in value if args)
    if origin is dict:
        return isinstance(value, dict) and all(fits(v, args[1]) for v in value.values())
    if hint is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if hint is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return isinstance(value, hint) if isinstance(hint, type) else True


def describe(hint) -> str:
    if typing.get_origin(hint) is typing.Literal:
        return "one of " + ", ".join(map(str, typing.get_args(hint)))
    return getattr(hint, "__name__", None) if isinstance(hint, type) and not typing.get_args(hint) else str(hint)


def check(node, where: str = "") -> None:
    """Refuse a config node, and all below it, whose keys or values its target does not take."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            check(item, f"{where}[{number}]")
    if not isinstance(node, dict):
        return
    if "_target_" in node:
        cls = target(node["_target_"], where)
        hints = typing.get_type_hints(cls.__init__ if isinstance(cls, type) else cls)
        parameters = {k: p for k, p in inspect.signature(cls).parameters.items()}
        given = GIVEN.get(where, ())
        for name, value in node.items():
            if name == "_target_":
                continue
            if name not in parameters or name in given:
                takes = [p for p in parameters if p not in given]
                raise ConfigError(f"{where}.{name}: {cls.__name__} takes no '{name}'{nearest(name, takes)}")
            if not fits(value, hints.get(name, typing.Any)):
                raise ConfigError(f"{where}.{name} must be {describe(hints[name])}, got {value!r}")
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in node and name not in given:
                raise ConfigError(f"{where}.{name} is required by {cls.__name__}: set {where}.{name}=…")
    for name, value in node.items():
        check(value, f"{where}.{name}" if where else str(name))


def make(node: dict, **given):
    """The object that a checked node describes."""
    try:
        return hydra.utils.instantiate(node, _convert_="all", **given)
    except Exception as error:
        cause = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise cause from error
        raise


@dataclass
class Job:
    """A pretraining run's parts."""

    config: dict
    data: object
    encoder: torch.nn.Module
    objective: torch.nn.Module
    optim: object
    trainer: object


def matching_encoders(fit) -> list[str]:
    """The names in conf/encoder of the encoders that `fit`, made without memory."""
    images = {"size": 32, "channels": 3, "mean": [0.5], "std": [0.5]}
    data, found = {**images, "vocab_size": 100, "max_tokens": 64, "sample_rate": 16000}, []
    for path in sorted((CONF / "encoder").glob("*.yaml")):
        config = OmegaConf.create({"data": data, "encoder": OmegaConf.load(path)})
        node = OmegaConf.to_container(config, resolve=True)["encoder"]
        with torch.device("meta"):
            encoder = make(node)
        if fit(encoder):
            found.append(path.stem)
    return found


def check_fit(data, encoder, objective: type) -> None:
    """Refuse what does not go together, naming what would."""
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
    lacks = " and ".join(OFFERED.get(name, name) for name in sorted(objective.needs - encoder.offers))
    for ok, need in (
        (encoder.modality == data.modality, f"an encoder of {data.modality}"),
        (objective.needs <= encoder.offers, f"an encoder with {lacks}"),
    ):
        if not ok:
            good = matching_encoders(lambda e: e.modality == data.modality and objective.needs <= e.offers)
            raise ConfigError(f"{name} on this data needs {need}; these fit: encoder={', '.join(good) or 'none yet'}")


def build(config: dict, planned: PlannedTargets | None = None) -> Job:
    """All parts of `sslzoo pretrain`, from its plain config. Weights depend on config.seed alone.

    planned: to check a config whose targets are not made yet; its data cannot be read.
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
    trainer, optim, data = make(config["trainer"]), make(config["optim"]), make(config["data"])
    if config.get("targets") is not None:
        data = Labelled(data, planned or Targets(config["targets"]))
    with torch.random.fork_rng():
        torch.manual_seed(rng.derive_seed(config["seed"], "weights"))
        encoder = make(config["encoder"])
        objective = target(config["objective"]["_target_"], "objective")
        check_fit(data, encoder, objective)
        objective = make(config["objective"], encoder=encoder, data=data)
    data.batch.check(max(objective.min_batch, trainer.ranks) * trainer.accumulate)
    # tokens are `seconds`, too
    optim = optim.scaled(getattr(data.batch, "size", getattr(data.batch, "seconds", None)))
    # refused here, before any data is read, is what fits no parameter
    optim.param_groups(torch.nn.ModuleDict({"encoder": encoder, "objective": objective}))
    return Job(config, data, encoder, objective, optim, trainer)


def load_encoder(run: Run, untrained: bool = False):
    """A finished run's encoder in eval mode, and its data set: (encoder, data). untrained: the same
    encoder as it was before the first step."""
    from safetensors.torch import load_file

    if not run.encoder.exists():
        raise UserError(f"{run.folder} has no finished encoder yet — finish it: run its `sslzoo pretrain` again")
    saved = compat.translate(json.loads(run.encoder.read_text()))
    with torch.random.fork_rng():
        torch.manual_seed(rng.derive_seed(saved["seed"], "weights"))
        encoder = make(saved["encoder"])
    if not untrained:
        check_signed(run.weights, f"delete {run.folder / 'DONE'}, and run its `sslzoo pretrain` again")
        encoder.load_state_dict(compat.translate_weights(load_file(run.weights)))
    data = make(saved["data"])
    data.restore(run.folder)
    return encoder.eval(), data


def write_config(run: Run, config: dict) -> None:
    """Write the config of a new run; refuse to go on with a run of another config."""
    free = {"trainer": {"workers", "progress"}}  # what changes nothing that is learned

    def flat(node, path=""):
        if not isinstance(node, dict):
            return {path: node}
        return {
            k: v for name, value in node.items() for k, v in flat(value, f"{path}.{name}" if path else name).items()
        }

    if run.config.exists():
        saved = yaml.safe_load(run.config.read_text())
        if compat.is_old(saved) and not run.done:
            raise ConfigError(
                f"{run.folder} was begun by an older sslzoo, whose checkpoints cannot be continued — "
                "choose another name=… or delete it"
            )
        old, new = flat(compat.translate(saved)), flat(config)
        ignored = {f"{group}.{key}" for group, keys in free.items() for key in keys}
        differ = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k not in ignored)
        if differ:
            shown = ", ".join(f"{k}: {old.get(k, 'absent')} -> {new.get(k, 'absent')}" for k in differ[:4])
            more = f" and {len(differ) - 4} more" if len(differ) > 4 else ""
            raise ConfigError(
                f"{run.folder} is a run of another config ({shown}{more}) — choose another name=… or delete it"
            )
        return
    write_atomic(run.config, lambda path: path.write_text(yaml.safe_dump(config, sort_keys=False)))
