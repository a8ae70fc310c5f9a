"""`--help` beside choices shows the settings of those choices; --version."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from sslzoo import __version__

ROOT = Path(__file__).parents[2]


def line(out: str, key: str) -> str:
    [found] = [text for text in out.splitlines() if text.split()[:1] == [key]]
    return " ".join(found.split())


def test_the_settings_of_the_choices_made(sslzoo):
    code, out, err = sslzoo("pretrain", "objective=hubert", "optim.lr=0.5", "--help")
    assert code == 0 and err == [] and not Path("runs").exists()
    assert out.startswith("usage: sslzoo pretrain objective=hubert optim.lr=0.5 ")
    assert "\nobjective=hubert  HuBERT: which cluster has the masked frame?" in out
    assert line(out, "objective.mask.length") == "objective.mask.length int 10 tokens of a span"  # of objective/mask
    assert line(out, "optim.lr").startswith("optim.lr float 0.5")
    assert line(out, "optim.schedule.warmup").endswith("the share of the steps over which the rate rises")
    assert line(out, "optim.betas").startswith("optim.betas list[float] [0.9, 0.98]")
    assert "linear|sqrt" in line(out, "optim.scale_rule") and "float|null null" in line(out, "trainer.gradient_clip")
    assert line(out, "encoder.channels").startswith("encoder.channels int 3"), "what it refers to"
    assert line(out, "seed").startswith("seed int 0") and "finished run" in line(out, "init")
    assert "chosen by objective/mask=hubert (or bert," in " ".join(out.split())


def test_what_a_docstring_says_of_several_settings_at_once(sslzoo):
    out = sslzoo("pretrain", "objective=byol", "-h")[1]
    for name in ("flip", "gray", "solarize"):
        assert "chances, a number or" in line(out, f"objective.views.{name}")
    assert "list[float]" in line(out, "objective.views.scale")
    out = sslzoo("pretrain", "--multirun", "seed=0,1", "encoder=vit_small", "--help")[1]
    assert line(out, "encoder.trunk.layer_drop").endswith("skipping a layer in training (Fan et al. 2020)")
    assert line(out, "seed").startswith("seed int 0"), "the first of a sweep"


def test_what_a_config_builds_on_and_what_is_still_missing(sslzoo, monkeypatch):
    monkeypatch.delenv("SSLZOO_DATA", raising=False)
    out = sslzoo("pretrain", "encoder=gpt2", "data=wikitext", "--help")[1]
    assert "# " not in line(out, "encoder.trunk.depth") and line(out, "encoder.trunk.depth").endswith("12 blocks")
    assert "(required: ${paths.data}/wikitext)" in line(out, "data.path")
    out = sslzoo("probe", "task=cola", "--help")[1]
    assert line(out, "run").startswith("run (required)") and "the official test labels" in line(out, "task.data.files")
    assert "task=cola  GLUE CoLA" in out


def test_a_wrong_choice_is_said_here_too(sslzoo):
    code, out, err = sslzoo("pretrain", "objective=hubrt", "--help")
    assert code == 2 and out == "" and "did you mean 'hubert'?" in err[0]
    code, out, err = sslzoo("pretrain", "lr=1", "--help")
    assert code == 2 and len(err) == 1 and "did you mean 'optim.lr'?" in err[0]


def test_ones_own_class_and_comments(sslzoo, tmp_path):
    (tmp_path / "mine" / "objective").mkdir(parents=True)
    (tmp_path / "mine" / "objective" / "own.yaml").write_text(
        "# mine\n_target_: helped.Own\nahead: 5 # how far\nby: 2.0\n"
    )
    (tmp_path / "mine" / "helped.py").write_text(
        'class Own:\n    """by: what it is divided by."""\n\n    def __init__(self, encoder, data, ahead: int, by: float):\n        pass\n'
    )
    code, out, err = sslzoo("pretrain", "--config-dir", "mine", "objective=own", "--help")
    assert code == 0 and err == [] and "\nobjective=own  mine" in out
    assert line(out, "objective.ahead") == "objective.ahead int 5 how far"
    assert line(out, "objective.by") == "objective.by float 2.0 what it is divided by"


@pytest.mark.parametrize("words", [["--version"], ["pretrain", "objective=hubert", "--help"]])
def test_at_once(words):
    """torch is not imported."""
    code = f"import sys\nfrom sslzoo import cli\nsys.argv = ['sslzoo', *{words}]\ncli.main()\nassert 'torch' not in sys.modules"
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run([sys.executable, "-c", code], check=False, capture_output=True, text=True, env=env)
    assert found.returncode == 0, found.stderr
    assert words != ["--version"] or found.stdout == f"sslzoo {__version__}\n"
