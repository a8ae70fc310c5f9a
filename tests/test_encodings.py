"""Text files are UTF-8 whatever the locale: every open of one says so."""

import ast
from pathlib import Path

import pytest

import sslzoo

ROOT = Path(sslzoo.__file__).parent
TEXT = {"read_text", "write_text"}
MODE = set("rwxab+t")


def unsaid(source: str) -> list[int]:
    """Lines that open a file as text without its encoding."""
    found = []
    for node in ast.walk(ast.parse(source)):
        if not isinstance(node, ast.Call):
            continue
        method = isinstance(node.func, ast.Attribute)
        name = node.func.attr if method else getattr(node.func, "id", "")
        if "encoding" in {keyword.arg for keyword in node.keywords}:
            continue
        if name in TEXT and len(node.args) < 1 + (name == "write_text"):
            found.append(node.lineno)
        if name != "open":
            continue
        if (
            method
            and node.args
            and not (isinstance(node.args[0], ast.Constant) and set(str(node.args[0].value)) <= MODE)
        ):
            continue  # a module's or a class's, and no path's
        modes = node.args[0 if method else 1 :][:1] + [k.value for k in node.keywords if k.arg == "mode"]
        if not any("b" in ast.unparse(mode) for mode in modes):
            found.append(node.lineno)
    return found


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_text_has_its_encoding(path):
    assert unsaid(path.read_text(encoding="utf-8")) == []


def test_what_is_found():
    bad = ["p.read_text()", "p.write_text('x')", "open(p)", "open(p, 'w')", "p.open()", "p.open('a', newline='')"]
    good = [
        "open(p, 'rb')",
        "open(p, mode='wb')",
        "p.open('rb')",
        "os.open(p, 1)",
        "wave.open(f, 'wb')",
        "p.read_text('utf-8')",
    ]
    assert [bool(unsaid(line)) for line in bad + good] == [True] * len(bad) + [False] * len(good)
