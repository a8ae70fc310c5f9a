"""Checking and instantiating config nodes.

The keys and values of every node with a `_target_` are checked against the signature and annotations of its
class before anything is instantiated; instantiating reads no data.
"""

import dataclasses
import importlib
import inspect
import types
import typing
from collections.abc import Callable

import hydra

from sslzoo import allowed, compat
from sslzoo.bounds import check_number
from sslzoo.errors import ConfigError, UserError, nearest

GIVEN = {"objective": ("encoder", "data", "prompt", "language_model")}  # arguments that are passed, not configured


def target(path: str, where: str):
    """The class or function that `_target_` names. Raises ConfigError if it cannot be imported."""
    if path in compat.TARGETS:
        raise ConfigError(f"{where}: {path} is {compat.TARGETS[path]} now: write that")
    module, _, name = str(path).rpartition(".")
    try:
        found = importlib.import_module(module)
    except Exception as error:
        top = module.split(".")[0]
        lost = isinstance(error, ModuleNotFoundError) and error.name == top != "sslzoo"
        hint = f" — pass --config-dir with the folder that {top} lies in" if lost else ""
        raise ConfigError(f"{where}: cannot import {path}: {str(error).splitlines()[0]}{hint}") from error
    if not hasattr(found, name):
        raise ConfigError(f"{where}: there is no {name} in {module}{nearest(name, vars(found))}")
    found = getattr(found, name)
    if module.split(".")[0] in allowed.PREFIXES[1:] and not isinstance(found, type):  # such as torch.hub.load
        raise ConfigError(f"{where}: {path} is no class, and of {module.split('.')[0]} a config may name only classes")
    return found


def fits(value, hint) -> bool:
    """Whether a plain value matches a type annotation. An int matches float."""
    if hint is inspect.Parameter.empty or hint is typing.Any or hint is object:
        return True
    if isinstance(value, str) and (value == "???" or "${" in value):
        return True  # not resolved yet, in a config to be shown
    if isinstance(value, dict) and "_target_" in value:
        return True  # checked as a node; any class may match
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


Signature = tuple[str, dict[str, inspect.Parameter]]  # name and parameters of a `_target_`


def imported_signature(path: str, where: str) -> Signature:
    """The signature of the class that `_target_` names, by importing it."""
    cls = target(path, where)
    hints = typing.get_type_hints(cls.__init__ if isinstance(cls, type) else cls)
    parameters = inspect.signature(cls).parameters
    return cls.__name__, {k: p.replace(annotation=hints.get(k, typing.Any)) for k, p in parameters.items()}


def check(
    node: typing.Any, where: str = "", signature: Callable[[str, str], Signature | None] = imported_signature
) -> None:
    """Raise ConfigError if the keys or values of a config node, or of one below it, do not fit its target. signature:
    function that looks up a target's signature; None for unknown ones, which are not checked."""
    if isinstance(node, list):
        for number, item in enumerate(node):
            check(item, f"{where}[{number}]", signature)
    if not isinstance(node, dict):
        return
    known = signature(node["_target_"], where) if "_target_" in node else None
    if known is not None:
        owner, parameters = known
        given = GIVEN.get(where, ())
        for name, value in node.items():
            if name == "_target_":
                continue
            if name not in parameters or name in given:
                takes = [p for p in parameters if p not in given]
                raise ConfigError(f"{where}.{name}: {owner} takes no '{name}'{nearest(name, takes)}")
            hint = parameters[name].annotation
            if name == "path" and isinstance(value, str) and not value.strip():
                raise ConfigError(f"{where}.path is empty: set {where}.path=FOLDER (. is the current one)")
            if not fits(value, hint):
                raise ConfigError(f"{where}.{name} must be {describe(hint)}, got {value!r}")
            if str(node["_target_"]).startswith("sslzoo."):  # names in users' classes may mean something else
                check_number(name, value, f"{where}.{name}")
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in node and name not in given:
                raise ConfigError(f"{where}.{name} is required by {owner}: set {where}.{name}=…")
    for name, value in node.items():
        check(value, f"{where}.{name}" if where else str(name), signature)


def make(node: dict, **given):
    """Instantiate a checked node. given: further arguments."""
    try:
        return hydra.utils.instantiate(node, _convert_="all", **given)
    except Exception as error:
        cause = error
        while cause is not None and not isinstance(cause, UserError):
            cause = cause.__cause__ or cause.__context__
        if cause is not None:
            raise cause from error
        raise


def with_defaults(node):
    """A config node and those below it, with missing settings filled in from their classes' defaults."""
    if not isinstance(node, dict):
        return node
    found = {name: with_defaults(value) for name, value in node.items()}
    if "_target_" in node:
        cls = target(node["_target_"], "")
        for name, parameter in inspect.signature(cls).parameters.items():
            if parameter.default is not parameter.empty:
                found.setdefault(name, parameter.default)
        for field in dataclasses.fields(cls) if dataclasses.is_dataclass(cls) else ():
            if field.default_factory is not dataclasses.MISSING and field.name not in node:
                found[field.name] = field.default_factory()
    return found
