"""`sslzoo launch` prints the job script, refuses what cannot run in one line;
`sslzoo doctor --ranks` tries the ranks."""

import socket
from pathlib import Path

import pytest
from conftest import TINY
from two_ranks import free_port

from sslzoo.cli import launching
from sslzoo.errors import ConfigError
from sslzoo.train import cluster
from sslzoo.train.settings import Settings

RUN = ["--", "pretrain", "data=digits", "trainer=ddp"]


@pytest.fixture
def sinfo(tmp_path, monkeypatch):
    """A SLURM with two partitions."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "sinfo").write_text("#!/bin/sh\necho gpu\necho long\n")
    (tmp_path / "bin" / "sinfo").chmod(0o755)


def test_the_script_for_slurm(sslzoo, sinfo):
    code, out, err = sslzoo("launch", "--hosts", "2", "--ranks", "4", "--partition", "gpu", "--dry-run", *RUN)
    assert code == 0 and not err
    lines = out.splitlines()
    assert lines[0] == "#!/bin/bash" and "#SBATCH --nodes=2" in lines and "#SBATCH --ntasks-per-node=4" in lines
    assert "#SBATCH --partition=gpu" in lines and "#SBATCH --signal=B:USR1@120" in lines
    command = "sslzoo pretrain data=digits trainer=ddp trainer.devices=4 trainer.nodes=2 &"
    assert f"srun --ntasks=8 --kill-on-bad-exit=1 {command}" in lines
    assert any("scontrol requeue" in line for line in lines)


def test_the_script_for_torchrun(sslzoo):
    words = ["--by", "torchrun", "--hosts", "2", "--ranks", "2", "--host", "node1", "--port", "29611", "--dry-run"]
    code, out, err = sslzoo("launch", *words, *RUN)
    assert code == 0 and not err and "--nnodes=2 --nproc-per-node=2" in out
    assert "--rdzv-endpoint=node1:29611" in out
    assert "-m sslzoo pretrain data=digits trainer=ddp trainer.devices=2 trainer.nodes=2" in out


@pytest.mark.parametrize("by", [["--partition", "gpu"], ["--by", "torchrun", "--host", "ADDRESS"]], ids=" ".join)
def test_the_scripts_are_those_of_the_documentation(by, sslzoo, sinfo):
    words = ["pretrain", "objective=mae", "encoder=vit_base", "trainer=fsdp"]
    code, out, err = sslzoo("launch", *by, "--hosts", "2", "--ranks", "8", "--dry-run", "--", *words)
    assert code == 0 and not err
    assert f"```bash\n{out.strip()}\n```" in (Path(__file__).parents[2] / "docs" / "launch.md").read_text()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--partition", "gpus", "--dry-run", *RUN], "there is no partition 'gpus'"),
        (["--ranks", "4", "--dry-run", *RUN, "trainer.devices=3"], "--ranks 4 and trainer.devices=3 differ"),
        (["--ranks", "400", "--dry-run", *RUN], "a batch of 128 is too small: this objective on these ranks needs at least 400"),
        (["--dry-run"], "there is nothing to launch"),
        (["--by", "torchrun", "--hosts", "2", "--dry-run", *RUN], "--host is the first machine's address"),
        (["--dry-run", "--", "pretrain", "data=digitss"], "digitss"),
    ],
)  # fmt: skip
def test_what_cannot_run_is_refused_in_one_line(words, said, sslzoo, sinfo):
    code, out, err = sslzoo("launch", *words)
    assert code == 2 and not out and len(err) == 1 and said.split(" — ")[0] in err[0]


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"])  # Linux has all of 127.0.0.0/8
def test_a_port_in_use_is_said(sslzoo, host):
    with socket.socket() as taken:
        taken.bind(("", 0))
        taken.listen()
        port = str(taken.getsockname()[1])
        words = ["launch", "--by", "torchrun", "--port", port, "--dry-run"]
        assert sslzoo(*words, "--host", "192.0.2.1", *RUN)[0] == 0, "another machine's is not checked"
        code, _, err = sslzoo(*words, "--host", host, *RUN)
    assert code == 1 and err == [f"sslzoo: port {port} is in use on this machine: choose another --port"]


def test_ranks_other_than_those_asked_for_are_an_error(monkeypatch):
    for name in ("SLURM_STEP_NUM_TASKS", "SLURM_PTY_PORT", "LOCAL_RANK", "TORCHELASTIC_RUN_ID", "WORLD_SIZE"):
        monkeypatch.delenv(name, raising=False)
    two = Settings(devices=2, strategy="ddp", accelerator="cpu")
    cluster.check(two)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "4")
    with pytest.raises(ConfigError, match="srun started 4 tasks, and trainer.devices=2 trainer.nodes=1 are 2 ranks"):
        cluster.check(two)
    monkeypatch.setenv("SLURM_STEP_NUM_TASKS", "2")
    cluster.check(two)
    for name, value in {
        "TORCHELASTIC_RUN_ID": "x",
        "WORLD_SIZE": "6",
        "LOCAL_WORLD_SIZE": "3",
        "GROUP_WORLD_SIZE": "2",
    }.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(ConfigError, match="torchrun started 6 ranks.*: set trainer.devices=3 trainer.nodes=2"):
        cluster.check(two)


def test_doctor_tries_ranks(sslzoo, monkeypatch):
    monkeypatch.setattr("sslzoo.cli.ranks.MEGABYTES", 1)
    _, out, _ = sslzoo("doctor", "--ranks", "2")
    assert "2 ranks talk over" in out and "an all-reduce of" in out and "a step of a perceptron" in out
    assert "the disk here takes" in out


def test_torchrun_that_outlives_its_ranks_is_ended(sslzoo, tmp_path, monkeypatch):
    """As where the other host, which holds its store, is lost."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=":")
    monkeypatch.setattr(launching, "PATIENCE", 0.2)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / "torchrun").write_text("#!/bin/bash\nsleep 1 &\nexec sleep 600\n")
    (tmp_path / "bin" / "torchrun").chmod(0o755)
    code, _, err = sslzoo("launch", "--by", "torchrun", "--port", str(free_port()), *RUN)
    assert code == 1 and err[-1] == "sslzoo: torchrun ended with 1: the same command goes on from the last checkpoint"


def test_classes_of_your_own_are_found(sslzoo):
    own = ["--", "pretrain", "--config-dir", str(TINY), "objective=rotation", "data=tiny_image", "encoder=tiny_resnet"]
    code, out, err = sslzoo("launch", "--ranks", "2", "--dry-run", *own)
    assert code == 0 and f"pretrain --config-dir {TINY} objective=rotation" in out, err
    code, _, err = sslzoo("launch", "--ranks", "2", "--dry-run", "--", "pretrain", "--config-dir", "nowhere")
    assert code == 2 and err == ["sslzoo: --config-dir nowhere is not a folder"]
