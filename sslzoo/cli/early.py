"""Checks of a config that need no torch, whose import takes seconds.

Names and types of settings are checked against the source of their class, which is parsed, not imported; and a run
that is named must exist. Further checks are done by the command itself.
"""

import ast
import copy
import dataclasses
import inspect
import typing
from functools import lru_cache
from pathlib import Path

from sslzoo import allowed, nodes
from sslzoo.run import Run

ROOT = Path(nodes.__file__).parent
PLAIN = {x.__name__: x for x in (bool, int, float, str, list, tuple, dict)} | {"Literal": typing.Literal, "None": None}
Class = tuple[ast.ClassDef, "Source"]


def refuse(config: dict) -> None:
    """Raise ConfigError for a setting that its class does not take, UserError for a missing run."""
    refuse_settings(config)
    root = Path(str(config.get("root", "runs")))
    for key in ("run", "other"):
        if isinstance(config.get(key), str):  # of several, each is looked up by the command
            Run.find(config[key], root).check_finished()
    if isinstance(config.get("init"), str):
        Run.find(config["init"], root).check_finished()


def refuse_settings(config: dict) -> None:
    """Raise ConfigError for a class that a config may not name, and a setting that its class does not take. References
    may be unresolved."""
    allowed.check(config)
    for name, node in config.items():
        nodes.check(node, str(name), written_signature)


def written_signature(path: str, where: str) -> nodes.Signature | None:
    """The signature of a class of sslzoo, from its source; None for other classes. Annotations with other than plain
    types become Any."""
    module, _, name = str(path).rpartition(".")
    source = Source.of(module)
    found = source and source.find(ast.Name(name))
    parameters = _parameters(found) if found else None
    return None if parameters is None else (name, parameters)


@dataclasses.dataclass(frozen=True, eq=False)
class Source:
    """A module's classes, literal types (`Kind = Literal[…]`) and imported names with their modules."""

    classes: dict[str, ast.ClassDef]
    imported: dict[str, str]
    literals: dict[str, ast.expr]

    @staticmethod
    @lru_cache
    def of(module: str) -> "Source | None":
        path = ROOT.joinpath(*module.split(".")[1:]).with_suffix(".py")
        if module.split(".")[0] != "sslzoo" or not path.is_file():
            return None
        body = ast.parse(path.read_text(encoding="utf-8")).body
        imports = [node for node in body if isinstance(node, ast.ImportFrom) and node.module]
        return Source(
            {node.name: node for node in body if isinstance(node, ast.ClassDef)},
            {alias.asname or alias.name: str(node.module) for node in imports for alias in node.names},
            {
                ast.unparse(node.targets[0]): node.value
                for node in body
                if isinstance(node, ast.Assign) and ast.unparse(node.value).startswith("Literal[")
            },
        )

    def find(self, base: ast.expr) -> Class | None:
        """A class of this module, or imported into it, by its name."""
        name = ast.unparse(base)
        if name in self.classes:
            return self.classes[name], self
        other = Source.of(self.imported.get(name, ""))
        return (other.classes[name], other) if other and name in other.classes else None

    def spelled(self, annotation: ast.expr | None) -> ast.expr | None:
        """An annotation with names of literal types, such as `Kind | None`, replaced by their definitions."""
        if annotation is None:
            return None
        known = dict(self.literals)
        for node in ast.walk(annotation):
            if not isinstance(node, ast.Name):
                continue
            other = Source.of(self.imported.get(node.id, ""))
            known |= {node.id: other.literals[node.id]} if other and node.id in other.literals else {}
        return _Spelled(known).visit(copy.deepcopy(annotation)) if known else annotation


class _Spelled(ast.NodeTransformer):
    """Replaces names by their definitions."""

    def __init__(self, known: dict[str, ast.expr]):
        self.known = known

    def visit_Name(self, node: ast.Name) -> ast.expr:
        return self.known.get(node.id, node)


def _parameters(found: Class) -> dict[str, inspect.Parameter] | None:
    """The constructor's parameters: of its own `__init__`, its dataclass fields, or its base class."""
    node, source = found
    for item in node.body:
        if isinstance(item, ast.FunctionDef) and item.name == "__init__":
            return _of_function(item.args, source)
    bases = [base for base in map(source.find, node.bases) if base]
    if is_dataclass := _is_dataclass(node):
        bases = [base for base in bases if _is_dataclass(base[0])]  # the fields of others are not inherited
    inherited = next((p for p in map(_parameters, bases) if p is not None), None)
    if not is_dataclass:
        return inherited
    fields = [item for item in node.body if isinstance(item, ast.AnnAssign) and isinstance(item.target, ast.Name)]
    named = [item for item in fields if ast.unparse(item.target) != "_"]  # `_: KW_ONLY`
    own = {
        ast.unparse(item.target): _parameter(item.target, source.spelled(item.annotation), item.value) for item in named
    }
    return {**(inherited or {}), **own}


def _is_dataclass(node: ast.ClassDef) -> bool:
    return any("dataclass" in ast.unparse(decorator) for decorator in node.decorator_list)


def _of_function(arguments: ast.arguments, source: Source) -> dict[str, inspect.Parameter] | None:
    if arguments.vararg or arguments.kwarg:
        return None
    names = [*arguments.posonlyargs, *arguments.args]
    defaults = [*[None] * (len(names) - len(arguments.defaults)), *arguments.defaults, *arguments.kw_defaults]
    every = zip([*names, *arguments.kwonlyargs], defaults, strict=True)
    return {a.arg: _parameter(a, source.spelled(a.annotation), default) for a, default in every if a.arg != "self"}


def _parameter(name: ast.AST, annotation: ast.expr | None, default: ast.expr | None) -> inspect.Parameter:
    written = name.arg if isinstance(name, ast.arg) else ast.unparse(name)
    absent = inspect.Parameter.empty if default is None else None
    return inspect.Parameter(written, inspect.Parameter.KEYWORD_ONLY, default=absent, annotation=_type(annotation))


def _type(annotation: ast.expr | None):
    words = {node.id for node in ast.walk(annotation) if isinstance(node, ast.Name)} if annotation else set()
    if annotation is None or not words <= PLAIN.keys() or any(isinstance(x, ast.Call) for x in ast.walk(annotation)):
        return typing.Any
    return _plain_type(annotation)


def _plain_type(node: ast.expr | None):
    """The type that an annotation of plain types spells."""
    match node:
        case ast.Name():
            return PLAIN[node.id]
        case ast.Constant():
            return node.value
        case ast.UnaryOp(op=ast.USub(), operand=ast.Constant(value=int() | float() as value)):
            return -value
        case ast.Subscript():
            return _plain_type(node.value)[_plain_type(node.slice)]
        case ast.Tuple():
            return tuple(map(_plain_type, node.elts))
        case ast.BinOp(op=ast.BitOr()):
            return _plain_type(node.left) | _plain_type(node.right)
    return typing.Any
