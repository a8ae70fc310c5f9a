"""Who starts the ranks: SLURM where it plainly has."""

import signal
import socket
import subprocess
import sys
from types import SimpleNamespace

import pytest
from lightning.fabric.plugins.environments import LightningEnvironment

from sslzoo.errors import UserError
from sslzoo.train.cluster import JobStep, check, end_started, environment, first_rank, left_over
from sslzoo.train.settings import Settings

TWO = Settings(devices=2, strategy="ddp", accelerator="cpu")
ONE = Settings(accelerator="cpu")
SHELL = {"SLURM_NTASKS": "4", "SLURM_JOB_ID": "7", "SLURM_PROCID": "0", "SLURM_JOB_NAME": "train"}
STEP = {
    **SHELL,
    "SLURM_NTASKS": "2",
    "SLURM_NTASKS_PER_NODE": "8",  # what the job was asked for
    "SLURM_STEP_NUM_TASKS": "2",
    "SLURM_STEP_NUM_NODES": "1",
    "SLURM_PROCID": "1",
    "SLURM_LOCALID": "1",
}


@pytest.fixture
def given(monkeypatch):
    def give(variables):
        for name in ("RANK", "WORLD_SIZE", "LOCAL_RANK", "NODE_RANK", "MASTER_PORT", "TORCHELASTIC_RUN_ID", *STEP):
            monkeypatch.delenv(name, raising=False)
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return give


def test_without_slurm_lightning_looks_for_itself(given):
    given({})
    assert environment(TWO) is None and left_over(TWO) == "" and first_rank(TWO)


def test_variables_left_over_are_not_followed_and_it_is_said(given):
    given(SHELL)
    assert type(environment(TWO)) is LightningEnvironment and type(environment(ONE)) is LightningEnvironment
    assert left_over(TWO).startswith(
        "SLURM_NTASKS=4 is set, and trainer.devices=2 trainer.nodes=1 are 2: SLURM's tasks"
    )
    assert left_over(Settings(devices=4, strategy="ddp", accelerator="cpu")) == ""
    given({**SHELL, "SLURM_NTASKS": "1"})  # a batch script of one task, which starts its ranks itself
    assert type(environment(TWO)) is LightningEnvironment and left_over(TWO) == ""


def test_a_step_whose_tasks_are_the_ranks(given):
    given(STEP)
    found = environment(TWO)
    assert type(found) is JobStep and (found.world_size(), found.global_rank()) == (2, 1)
    found.validate_settings(2, 1)
    assert not first_rank(TWO) and first_rank(ONE)
    given({**STEP, "SLURM_PTY_PORT": "1"})  # `srun --pty bash`
    assert type(environment(TWO)) is LightningEnvironment


@pytest.mark.parametrize(
    ("variables", "first"),
    [
        ({"RANK": "0", "WORLD_SIZE": "2", "LOCAL_RANK": "0"}, True),
        ({"RANK": "2", "WORLD_SIZE": "4", "LOCAL_RANK": "0"}, False),  # torchrun's, of another host
        ({"LOCAL_RANK": "1"}, False),  # Lightning's own
        ({"LOCAL_RANK": "0", "NODE_RANK": "1"}, False),
        ({"LOCAL_RANK": "0", "NODE_RANK": "0"}, True),
    ],
)
def test_the_first_rank(variables, first, given):
    given(variables)
    assert first_rank(TWO) is first


def test_a_port_in_use_is_said_before_a_rank_starts(given):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        given({"MASTER_PORT": port})
        with pytest.raises(UserError, match=f"MASTER_PORT={port} is in use on this machine"):
            check(TWO)
        check(ONE)
        for others in ({"LOCAL_RANK": "0"}, {"NODE_RANK": "1"}, STEP):  # it is for this run's ranks, or on another host
            given({"MASTER_PORT": port, **others})
            check(TWO)
    given({"MASTER_PORT": port})
    check(TWO)


def test_ranks_that_wait_for_this_one_are_ended(given):
    programs = "import time; time.sleep(600)", "raise SystemExit(3)"
    waiting, ending = (subprocess.Popen([sys.executable, "-c", program]) for program in programs)
    ending.wait()
    end_started(SimpleNamespace(procs=[waiting, ending]), seconds=0.2)
    assert (waiting.returncode, ending.returncode) == (-signal.SIGKILL, 3)
    end_started(None)
    end_started(SimpleNamespace(procs=None))
