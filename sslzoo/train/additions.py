"""The user's own callbacks and loggers: config nodes under names chosen by the user, built when a run is launched.

callbacks: {mine: {_target_: module.Class, …}}      # a lightning.pytorch.Callback
logger: {tensorboard: {_target_: …}}                # a lightning.pytorch.loggers.Logger
"""

import importlib.util
import inspect

import lightning as L
import torch
from lightning.pytorch.loggers import Logger

from sslzoo.errors import ConfigError, UserError, nearest
from sslzoo.nodes import make, target
from sslzoo.run import Run

KINDS = {"callbacks": L.Callback, "logger": Logger}
NAMES = {"callbacks": "lightning.pytorch.Callback", "logger": "lightning.pytorch.loggers.Logger"}
EXTRAS = {"TensorBoardLogger": "tensorboard", "WandbLogger": "wandb"}  # extras of sslzoo, by class
PLAIN = (str, bytes, bool, int, float, type(None), torch.Tensor)


def nodes(config: dict, kind: str) -> dict[str, dict]:
    """The nodes of a kind, by the user's names, without those set to null."""
    found = config.get(kind) or {}
    example = f"{kind}: {{mine: {{_target_: module.Class}}}}"
    if not isinstance(found, dict) or "_target_" in found:
        raise ConfigError(f"{kind} holds nodes under names of yours, such as {example}")
    for name, node in found.items():
        if node is not None and not (isinstance(node, dict) and "_target_" in node):
            raise ConfigError(f"{kind}.{name} has no _target_: write it as in {example}")
    return {name: node for name, node in found.items() if node is not None}


def check(config: dict) -> None:
    """Raise ConfigError, before any data is read, for a class that is no callback or logger, or settings that it does
    not take."""
    for kind, base in KINDS.items():
        for name, node in nodes(config, kind).items():
            where, cls = f"{kind}.{name}", target(node["_target_"], f"{kind}.{name}")
            if isinstance(cls, type) and not issubclass(cls, base):
                other = "; pytorch_lightning is another package" if "pytorch_lightning" in str(cls.__mro__) else ""
                raise ConfigError(f"{where}: {node['_target_']} is no {NAMES[kind]}{other}")
            extra = EXTRAS.get(getattr(cls, "__name__", ""))
            if extra and importlib.util.find_spec(extra) is None:
                raise ConfigError(f"logger={extra} needs a package: pip install 'sslzoo[{extra}]'")
            given = settings_of(cls, node, kind)
            parameters = inspect.signature(cls).parameters
            if not any(p.kind == p.VAR_KEYWORD for p in parameters.values()):
                for key in given:
                    if key not in parameters:
                        raise ConfigError(f"{where}.{key}: {cls.__name__} takes no '{key}'{nearest(key, parameters)}")
            for key, p in parameters.items():
                if p.default is p.empty and p.kind not in (p.VAR_KEYWORD, p.VAR_POSITIONAL) and key not in given:
                    raise ConfigError(f"{where}.{key} is required by {cls.__name__}: set +{where}.{key}=…")


def settings_of(cls, node: dict, kind: str, run: Run | None = None) -> dict:
    """The arguments for a class: the node's settings and, for a logger, the run's folder and name by default."""
    given = {key: value for key, value in node.items() if not key.startswith("_")}
    if kind == "logger":
        own = {"save_dir": run and run.folder, "name": run and run.name}
        given = {key: value for key, value in own.items() if key in inspect.signature(cls).parameters} | given
    return given


def made(config: dict, kind: str, run: Run) -> list:
    """The objects of a kind. Raises ConfigError if one cannot be built."""
    found = []
    for name, node in nodes(config, kind).items():
        more = settings_of(target(node["_target_"], f"{kind}.{name}"), node, kind, run)
        try:
            one = make(node, **{key: value for key, value in more.items() if key not in node})
        except UserError:
            raise
        except Exception as error:
            cause = error.__cause__ or error
            raise ConfigError(f"{kind}.{name} cannot be made: {str(cause).strip().splitlines()[0]}") from error
        if not isinstance(one, KINDS[kind]):
            raise ConfigError(f"{kind}.{name}: {node['_target_']} makes no {NAMES[kind]}")
        found.append(one)
    return found


def check_states(states: dict) -> None:
    """Raise UserError if a callback's state has anything but plain values and tensors: `torch.load` with
    weights_only=True could not read it."""

    def foreign(value):
        if isinstance(value, dict):
            return next((x for item in value.items() for one in item if (x := foreign(one)) is not None), None)
        if isinstance(value, list | tuple | set):
            return next((x for one in value if (x := foreign(one)) is not None), None)
        return None if type(value) in PLAIN or isinstance(value, torch.Tensor) else value

    for name, state in states.items():
        if (found := foreign(state)) is not None:
            raise UserError(
                f"the state of the callback {name} holds a {type(found).__name__}, which a checkpoint cannot: "
                "let its state_dict() return numbers, texts, tensors, and lists and dicts of them"
            )
