"""mypy finds nothing: the public surface says all its types, and the rest is held to what pyproject.toml says."""

import os
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
USER = """
import numpy as np
import torch
import sslzoo

enc: sslzoo.PretrainedEncoder = sslzoo.load("run", root="runs", device="cpu")
out: sslzoo.Output = enc([np.zeros(16000)], rate=8000)
hidden: list[torch.Tensor] = out.hidden
size: int = enc.dim
module: sslzoo.Encoder = sslzoo.load_encoder("run", adapted="digit-full")


class Mine(sslzoo.Objective):
    modalities = ("speech",)

    def forward(self, encoder: torch.nn.Module, batch: sslzoo.Batch, step: int) -> sslzoo.Loss:
        return sslzoo.Loss(batch.inputs.mean(), len(batch))


try:
    sslzoo.load(5)  # type: ignore[arg-type]
except sslzoo.UserError as error:
    print(error.code + 1)
"""


def mypy(*words: str) -> str:
    pytest.importorskip("mypy")
    environment = os.environ | {"MYPYPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *words], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    return done.stdout + done.stderr


@pytest.mark.slow  # reads torch's types: about a minute
def test_mypy_finds_nothing(tmp_path):
    said = mypy("--cache-dir", str(tmp_path))
    assert "Success: no issues found" in said, said
    user = tmp_path / "user.py"
    user.write_text(USER)
    said = mypy(
        "--cache-dir", str(tmp_path), "--strict", "--config-file", os.devnull, "--follow-imports=silent", str(user)
    )
    assert "Success: no issues found" in said, said


def test_modules_that_are_held_to_less_are_there_and_are_not_public():
    overrides = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["mypy"]["overrides"]
    public, less = (
        next(o["module"] for o in overrides if key in o) for key in ("disallow_untyped_defs", "disable_error_code")
    )
    assert not set(public) & set(less)
    for module in less:
        path = ROOT / module.replace(".", "/")
        assert path.with_suffix(".py").exists() or (path / "__init__.py").exists(), (
            f"{module} is gone: take it out of the list"
        )
        assert not any(module.startswith(name.removesuffix("*")) for name in public if name.endswith("*")), module
