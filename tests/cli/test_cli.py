"""The command line when all is well, and how it ends otherwise. test_cli_mistakes.py has the mistakes."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from conftest import TINY

from sslzoo import cli
from sslzoo.config import CONF
from sslzoo.errors import ConfigError
from sslzoo.run import Run

IMAGES = [
    "data=tiny_image",
    "encoder=tiny_resnet",
    "objective=rotation",
    "trainer.max_steps=2",
    "trainer.progress=false",
]
ROOT = Path(__file__).parents[2]


def pretrain(sslzoo, *words: str):
    return sslzoo("pretrain", "--config-dir", str(TINY), *words)


def test_a_run_from_start_to_done(sslzoo):
    code, out, err = pretrain(sslzoo, *IMAGES)
    assert code == 0 and err == []
    [folder] = Path("runs").iterdir()
    assert folder.name.startswith("rotation-tiny_image-tiny_resnet-s0-")
    assert f"wrote {folder}" in out and f"next:  sslzoo probe run={folder}" in out
    assert Run(folder).done
    code, out, err = pretrain(sslzoo, *IMAGES)
    assert code == 0 and f"{folder} is done already" in out
    # how it is carried out is no part of its name; what it learns is
    pretrain(sslzoo, *IMAGES, "trainer.workers=1")
    assert len(list(Path("runs").iterdir())) == 1
    pretrain(sslzoo, *IMAGES, "optim.lr=0.2")
    assert len(list(Path("runs").iterdir())) == 2


def test_the_config_of_a_job(sslzoo):
    code, out, _ = pretrain(sslzoo, *IMAGES, "optim.lr=0.25", "--cfg", "job")
    shown = yaml.safe_load(out)
    assert code == 0 and not Path("runs").exists()
    assert shown["optim"]["lr"] == 0.25 and shown["encoder"]["_target_"] == "sslzoo.encoders.resnet.ResNet"
    assert shown["encoder"]["channels"] == "${data.channels}"


def test_lists(sslzoo):
    code, out, err = sslzoo("list")
    assert code == 0 and err == []
    assert all(word in out for word in ("simclr", "resnet_small", "librispeech", "adamw_linear", "ddp"))
    code, out, _ = sslzoo("list", "objectives")
    assert code == 0 and "simclr" in out and "resnet_small" not in out
    said = json.loads(sslzoo("list", "encoders", "--json")[1])
    assert set(said) == {p.stem for p in (CONF / "encoder").glob("*.yaml")}
    assert said["resnet_small"].startswith("a small residual network")
    assert {"objectives", "encoders", "data", "tasks", "recipes"} <= set(json.loads(sslzoo("list", "--json")[1]))
    said = json.loads(sslzoo("list", "data", "--json", "--config-dir", str(TINY))[1])
    assert said["tiny_image"] == "tiny images" and "mnist" in said


def test_help(sslzoo):
    for words in (["--help"], ["-h"]):
        code, out, _ = sslzoo(*words)
        assert code == 0 and all(name in out for name in cli.COMMANDS)
    code, out, _ = sslzoo()
    assert code == 2 and "usage: sslzoo COMMAND" in out


@pytest.mark.parametrize("name", sorted(p.stem for p in CONF.glob("*.yaml")))
def test_help_of_a_command_is_its_config_explained(sslzoo, name):
    for words in (["--help"], ["-h"]):
        code, out, err = sslzoo(name, *words)
        assert code == 0 and err == [] and f"usage: sslzoo {name} " in out
        assert "hydra/" not in out and all(
            f"\n{key}:" in out for key in yaml.safe_load((CONF / f"{name}.yaml").read_text()) if key != "hydra"
        )
    assert not Path("runs").exists()


def test_a_traceback_is_for_the_asking(sslzoo, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sslzoo", "frobnicate", "--traceback"])
    with pytest.raises(ConfigError):
        cli.main()
    monkeypatch.setenv("SSLZOO_TRACEBACK", "")
    code, _, err = sslzoo("frobnicate")
    assert code == 2 and len(err) == 1


def test_what_is_not_the_users_fault_is_one_line_too(sslzoo, monkeypatch):
    def fails(argv):
        raise ZeroDivisionError("division\nby zero")

    def interrupted(argv):
        raise KeyboardInterrupt

    monkeypatch.setitem(cli.COMMANDS, "list", fails)
    code, _, err = sslzoo("list")
    assert code == 1 and len(err) == 1 and "ZeroDivisionError: division by zero" in err[0] and "--traceback" in err[0]
    monkeypatch.setitem(cli.COMMANDS, "list", interrupted)
    assert sslzoo("list")[0] == 130


def test_answers_at_once():
    """Lists and completion of commands do without torch, which takes seconds to import."""
    code = """
import sys
from sslzoo import cli
lines = ("sslzoo pre", "sslzoo pretrain objective=s")
for words in (["list"], ["list", "data", "--json"], *(["completion", "--line", line] for line in lines)):
    sys.argv = ["sslzoo", *words]
    cli.main()
print(sorted({"torch", "lightning", "transformers", "sklearn"} & set(sys.modules)))
"""
    found = subprocess.run(
        [sys.executable, "-c", code],
        check=False,
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["pretrian"], "did you mean 'pretrain'"),
        (
            ["pretrain", "data=mnist", "data.path=x", "optim._target_=sslzoo.nowhere.SGD"],
            "cannot import sslzoo.nowhere.SGD",
        ),
    ],
)
def test_as_a_process(words, message, tmp_path):
    """The exit code and the line as a shell sees them: pytest keeps what is logged to itself."""
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    found = subprocess.run(
        [sys.executable, "-m", "sslzoo", *words],
        check=False,
        capture_output=True,
        text=True,
        env=env,
        cwd=tmp_path,
    )
    assert found.returncode == 2 and found.stdout == ""
    assert found.stderr.count("\n") == 1 and message in found.stderr
