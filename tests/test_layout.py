"""Which package may import which: the architecture, as DESIGN has it."""

import ast
import re
from pathlib import Path

import pytest
from conftest import CONF

import sslzoo

ROOT = Path(sslzoo.__file__).parent
LEAVES = {
    "allowed", "compat", "config", "disk", "errors", "hints", "lock", "own", "ports", "progress", "recipes", "rng", "run", "schema",
    "signal_stack",
}  # fmt: skip
MAY = {  # what a package may import of ours, beside itself and the leaves
    "distributed": set(),
    "nn": {"distributed"},
    "data": {"nn", "distributed"},
    "augment": {"nn", "distributed", "data.base"},
    "encoders": {"nn", "data.base", "weights"},
    "objectives": {"nn", "distributed", "augment", "data.base", "encoders.base"},
    "pretrain": {"distributed", "nn.drop_path", "nn.finite"},
    "train": {"pretrain", "nodes", "data", "encoders.base", "encoders.transformer", "nn", "distributed"},
    "features": {"data", "distributed", "encoders", "nn", "build"},
    "probe": {
        "data",
        "distributed",
        "encoders",
        "nn",
        "build",
        "features",
        "tasks.metrics",
        "train.callback",
        "train.validate",
    },
    "label": {"data", "distributed", "encoders.base", "nn", "build", "features"},
    "interop": {"data", "nodes", "weights", "build", "initial", "encoders.base"},
    "analysis": {"data", "encoders.base", "nn", "build", "features", "probe", "label.agreement"},
    "report": {"nn.mel", "tasks.metrics"},
    "compare": {
        "adapt.command",
        "adapt.job",
        "build",
        "data.targets",
        "features.compatible",
        "initial",
        "interop.grammar",
        "interop.importing",
        "label.command",
        "report",
    },
    "bench": {
        "adapt.command",
        "build",
        "compare",
        "interop.grammar",
        "interop.importing",
        "nodes",
        "report",
        "weights",
    },
    "docs": {
        "build",
        "data.loader",
        "encoders.base",
        "label.command",
        "nn.teacher",
        "nodes",
        "objectives.base",
        "report",
        "train",
    },
    "cli": {
        "bench",
        "docs",
        "build",
        "train",
        "probe",
        "label",
        "features",
        "compare",
        "initial",
        "interop",
        "report",
        "objectives",
        "adapt",
        "analysis",
        "nodes",
        "data.base",
        "data.cache",
        "data.shard_parquet",
        "data.shard_writing",
        "data.shared_memory",
    },
}


def imports(path: Path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sslzoo":
            yield from [".".join([*node.module.split(".")[1:], a.name]) for a in node.names]
        elif isinstance(node, ast.Import):
            yield from [a.name[7:] for a in node.names if a.name.startswith("sslzoo.")]


@pytest.mark.parametrize("package", MAY)
def test_imports_go_one_way(package):
    files = [ROOT / f"{package}.py"] if (ROOT / f"{package}.py").exists() else sorted((ROOT / package).rglob("*.py"))
    assert files
    for path in files:
        for name in imports(path):
            top = name.split(".")[0]
            allowed = (
                top in LEAVES or top == package or any(name == m or name.startswith(f"{m}.") for m in MAY[package])
            )
            assert allowed, f"{path.relative_to(ROOT)} imports sslzoo.{name}"


def test_torchaudio_is_imported_where_it_must_be():
    """It breaks with every torch but its own: filter banks, and the downloader inside a function."""
    users = [p for p in ROOT.rglob("*.py") if re.search(r"^\s*(import|from) torchaudio", p.read_text(), re.MULTILINE)]
    assert {str(p.relative_to(ROOT)) for p in users} <= {"nn/mel.py", "data/audio.py", "interop/sources.py"}


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda p: str(p.relative_to(ROOT)))
def test_files_are_short(path):
    assert len(path.read_text().splitlines()) <= 300


def test_every_config_says_what_it_is():
    for path in CONF.rglob("*.yaml"):
        assert path.read_text().startswith("# "), path
