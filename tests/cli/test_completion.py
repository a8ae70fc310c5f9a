"""Completion of command lines: what is offered, and the scripts that ask for it in three shells."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

from sslzoo import cli

ROOT = Path(__file__).parents[2]


def test_completion(sslzoo):
    def offered(line):
        code, out, err = sslzoo("completion", "--line", line)
        assert code == 0 and err == []
        return out.split()

    assert offered("sslzoo pre") == ["pretrain"]
    assert set(offered("sslzoo ")) == set(cli.COMMANDS)
    assert offered("sslzoo list objec") == ["objectives"]
    assert "objective=simclr" in offered("sslzoo pretrain objective=sim")
    assert {"objective=simclr", "objective=bert"} <= set(offered("sslzoo pretrain objective="))
    assert any(word.startswith("optim.lr") for word in offered("sslzoo pretrain objective=simclr optim.l"))
    assert offered("sslzoo report ru") == []
    assert "data=tiny_image" in offered(f"sslzoo pretrain --config-dir {TINY} data=tiny_")
    Path("runs/sweep/lr=0.1").mkdir(parents=True)
    Path("runs/sweep/lr=0.1/config.yaml").touch()
    assert offered("sslzoo probe task=digit run=") == offered("sslzoo probe run=sw") == ["run=runs/sweep/lr=0.1"]
    assert "analysis=cka" in offered("sslzoo analyze analysis=c") and "analyze" in offered("sslzoo an")
    assert offered("sslzoo analyze other=sw") == ["other=runs/sweep/lr=0.1"]
    assert offered("sslzoo report runs/s") == ["runs/sweep/lr=0.1"] and offered("sslzoo probe run=x") == []


def test_the_program_that_is_typed_is_asked(sslzoo):
    script = sslzoo("completion")[1]
    program = Path("bin/sslzoo")
    program.parent.mkdir()
    program.write_text('#!/bin/sh\necho "$0 $3"\n')
    program.chmod(0o755)
    ask = f'{script}\nCOMP_LINE="bin/sslzoo pre" COMP_POINT=14\n_sslzoo bin/sslzoo pre bin/sslzoo\necho "${{COMPREPLY[@]}}"'
    shown = subprocess.run(["bash", "-c", ask], check=False, capture_output=True, text=True)
    assert shown.stdout.strip() == "bin/sslzoo bin/sslzoo pre", "the program that is typed, wherever it lies"
    assert "complete" in script and subprocess.run(["bash", "-n"], check=False, input=script, text=True).returncode == 0


def program() -> None:
    """bin/sslzoo, which is on no search path."""
    Path("bin").mkdir()
    Path("bin/sslzoo").write_text(f'#!/bin/sh\nPYTHONPATH={ROOT} exec {sys.executable} -m sslzoo "$@"\n')
    Path("bin/sslzoo").chmod(0o755)


@pytest.mark.skipif(shutil.which("zsh") is None, reason="needs zsh")
def test_in_zsh(sslzoo):
    program()
    asked = [["pre"], ["pretrain", "objective=sims"], ["pretrain", "objective=simclr", "optim.l"], ["report", "''"]]
    script = ["compdef() { print compdef $@ }", sslzoo("completion", "zsh")[1]]
    script += ["compadd() { print compadd $@ }", "_files() { print files }"]
    script += [f"words=(bin/sslzoo {' '.join(words)}); CURRENT={len(words) + 1}; _sslzoo" for words in asked]
    found = subprocess.run(["zsh", "-f", "-c", "\n".join(script)], check=False, capture_output=True, text=True)
    assert found.returncode == 0 and found.stderr == ""
    lines = [line.split() for line in found.stdout.splitlines()]
    assert lines == [
        ["compdef", "_sslzoo", "sslzoo"],
        ["compadd", "-Q", "--", "pretrain"],
        ["compadd", "-Q", "--", "objective=simsiam"],
        ["compadd", "-Q", "-S", "--", "optim.layer_decay=", "optim.lr="],  # and no blank behind
        ["files"],
    ]


@pytest.mark.skipif(shutil.which("fish") is None, reason="needs fish")
def test_in_fish(sslzoo):
    program()
    asked = ["pre", "pretrain objective=sims", "pretrain objective=simclr optim.l"]
    script = [sslzoo("completion", "fish")[1], *(f"complete -C 'bin/sslzoo {words}'" for words in asked)]
    found = subprocess.run(["fish", "-N", "-c", "\n".join(script)], check=False, capture_output=True, text=True)
    assert found.returncode == 0 and found.stderr == ""
    assert found.stdout.split() == ["pretrain", "objective=simsiam", "optim.layer_decay=", "optim.lr="]


def test_another_shell_is_refused(sslzoo):
    code, out, err = sslzoo("completion", "tcsh")
    assert code == 2 and out == "" and len(err) == 1 and "choose from" in err[0] and "fish" in err[0]
