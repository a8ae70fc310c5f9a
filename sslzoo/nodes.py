"""A node of a config, and the object that its `_target_` makes of it.

Every node with a `_target_` is bound to the signature of what it names, and its values to the
annotations, before anything is made; making them touches no data.
"""

import importlib
import inspect
import types
import typing
from collections.abc import Callable

import hydra

from sslzoo import compat
from sslzoo.bounds import check_number
from sslzoo.errors import ConfigError, UserError, nearest

GIVEN = {"objective": ("encoder", "data")}  # what a node gets from its siblings


def target(path: str, where: str):
    """The class that `_target_` names."""
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
    return getattr(found, name)


def fits(value, hint) -> bool:
    """Whether a plain value is of an annotated type. An int passes for a float."""
    if hint is inspect.Parameter.empty or hint is typing.Any or hint is object:
        return True
    if isinstance(value, str) and (value == "???" or "${" in value):
        return True  # of a config that is only shown: not known yet
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


Signature = tuple[str, dict[str, inspect.Parameter]]  # what a `_target_` is called, and what it takes


def imported_signature(path: str, where: str) -> Signature:
    """The signature of what `_target_` names, which is imported."""
    cls = target(path, where)
    hints = typing.get_type_hints(cls.__init__ if isinstance(cls, type) else cls)
    parameters = inspect.signature(cls).parameters
    return cls.__name__, {k: p.replace(annotation=hints.get(k, typing.Any)) for k, p in parameters.items()}


def check(
    node: typing.Any, where: str = "", signature: Callable[[str, str], Signature | None] = imported_signature
) -> None:
    """Refuse a config node, and all below it, whose keys or values its target does not take. signature: how that is
    found out; what it does not know (None) is not looked at."""
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
            if str(node["_target_"]).startswith("sslzoo."):  # what names mean in a user's own class is not known
                check_number(name, value, f"{where}.{name}")
        for name, parameter in parameters.items():
            if parameter.default is parameter.empty and name not in node and name not in given:
                raise ConfigError(f"{where}.{name} is required by {owner}: set {where}.{name}=…")
    for name, value in node.items():
        check(value, f"{where}.{name}" if where else str(name), signature)


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
