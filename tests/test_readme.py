"""The README's example of one's own objective works as it is printed, and its tables are the stored ones."""

import re
import sys
from pathlib import Path

import pytest
from conftest import TINY

from sslzoo import cli
from sslzoo.run import Run

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def test_own_objective(tmp_path, monkeypatch):
    blocks = re.findall(r"```(?:python|yaml)\n# (mine/\S+)\n(.*?)```", README, re.S)
    assert [name for name, _ in blocks] == ["mine/denoise.py", "mine/objective/denoise.yaml"]
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    [command] = re.findall(r"^sslzoo (pretrain --config-dir mine .*)$", README, re.M)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TINY))
    # tiny data, for the test's sake; all else as printed
    words = f"{command} hydra.searchpath=[file://{TINY}] data=tiny_image encoder=tiny_resnet name=own".split()
    monkeypatch.setattr(sys, "argv", ["sslzoo", *words])
    cli.main()
    assert Run(tmp_path / "runs" / "own").done


def test_tables_are_the_stored_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    readme = pytest.importorskip("readme")
    assert readme.fill(README) == README, "run python benchmarks/readme.py"


def test_commands_exist():
    for command in re.findall(r"^(?:\.venv/bin/)?sslzoo (\w+)", README, re.M):
        assert command in cli.COMMANDS
