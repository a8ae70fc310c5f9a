"""Sharded runs (trainer=fsdp) and their checkpoints: each rank writes its part while training goes on, any number of
ranks reads them, and a write that fails leaves the one before."""

import csv
import os
import resource
import shutil
import signal
import threading
from pathlib import Path

import pytest
import torch
import torch.multiprocessing as mp
from safetensors.torch import load_file
from test_ddp import start
from two_ranks import free_port

from sslzoo.errors import Stopped
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import checkpoint, sharded_checkpoint

Writer = sharded_checkpoint._Writer
ONE = ["trainer.accelerator=cpu", "optim=adamw", "trainer.activation_checkpointing=true", "trainer.gradient_clip=0.2"]


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Run:
    """A run of one rank."""
    return start(Run(tmp_path_factory.mktemp("whole") / "run"), "bert", *ONE)


def rows(run: Run) -> list[dict]:
    with open(run.metrics, newline="") as file:
        return list(csv.DictReader(file))


def sharded(folder: Path, *overrides: str, ranks: int = 2, before=lambda rank: None) -> None:
    """A run on ranks as torchrun starts them. before: called in each."""

    def rank(number: int) -> None:
        torch.set_num_threads(1)
        os.environ |= {"RANK": str(number), "LOCAL_RANK": str(number)}
        os.environ |= {"WORLD_SIZE": str(ranks), "LOCAL_WORLD_SIZE": str(ranks)}
        os.environ |= {"GROUP_RANK": "0", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
        os.environ |= {"TORCHELASTIC_RUN_ID": "test", "TORCHELASTIC_RESTART_COUNT": "0"}
        before(number)
        start(Run(folder), "bert", *ONE, "trainer=fsdp", f"trainer.devices={ranks}", *overrides)

    port = free_port()
    mp.start_processes(rank, nprocs=ranks, start_method="fork")


def unsharded(folder: Path, *overrides: str) -> None:
    start(Run(folder), "bert", *ONE, *overrides)


def assert_same_run(run: Run, whole: Run) -> None:
    assert run.done and [row["step"] for row in rows(run)] == [row["step"] for row in rows(whole)]
    for name in ("loss", "val_loss", "gradient_norm"):
        a, b = ([float(row[name]) for row in rows(x) if row[name]] for x in (run, whole))
        assert a == pytest.approx(b, rel=1e-3), name
    a, b = load_file(run.weights), load_file(whole.weights)
    assert a.keys() == b.keys() and all(torch.allclose(a[n], x, atol=1e-4, rtol=1e-3) for n, x in b.items())


@pytest.fixture(scope="module")
def two(tmp_path_factory) -> Run:
    """The same on two sharded ranks."""
    run = Run(tmp_path_factory.mktemp("two") / "run")
    sharded(run.folder)
    return run


def test_a_sharded_run_is_that_of_one_rank(whole, two):
    assert_same_run(two, whole)
    saved, one = (checkpoint.load(checkpoint.latest_checkpoint(x)) for x in (two, whole))
    assert saved["optimizer_states"][0]["param_groups"] == one["optimizer_states"][0]["param_groups"]
    assert saved["state_dict"].keys() == one["state_dict"].keys()
    for number, state in one["optimizer_states"][0]["state"].items():
        for name, x in state.items():
            assert torch.allclose(saved["optimizer_states"][0]["state"][number][name], x, atol=1e-4, rtol=1e-3), name


def back_to(run: Run, folder) -> Run:
    """A copy of a run as it was after its second step."""
    copy = Run(shutil.copytree(run.folder, folder))
    checkpoint.SignedIO().remove_checkpoint(copy.checkpoints / "step=00000004.ckpt")
    (copy.folder / "DONE").unlink()
    return copy


def test_a_checkpoint_is_a_file_a_rank_and_no_pickle(two):
    names = ["step=00000002.ckpt", "step=00000004.ckpt"]
    assert sorted(path.name for path in two.checkpoints.iterdir()) == names
    files = {path.name for path in (two.checkpoints / names[1]).iterdir()}
    parts = {f"shard-{rank:05d}-model-00001-of-00001.safetensors" for rank in (1, 2)}
    assert files == {f"{name}{end}" for name in {*parts, "rest.pt"} for end in ("", ".sha256")}
    sizes = [(two.checkpoints / names[1] / name).stat().st_size for name in parts]
    assert max(sizes) < 1.2 * min(sizes)


@pytest.mark.parametrize("ranks", [1, pytest.param(4, marks=pytest.mark.slow)])
def test_another_number_of_ranks_goes_on(whole, two, tmp_path, ranks):
    run = back_to(two, tmp_path / "run")
    unsharded(run.folder) if ranks == 1 else sharded(run.folder, ranks=ranks)
    assert_same_run(run, whole)


def test_sharded_ranks_go_on_from_one(whole, tmp_path):
    run = back_to(whole, tmp_path / "run")
    sharded(run.folder)
    assert_same_run(run, whole)
    assert (run.checkpoints / "step=00000004.ckpt").is_dir()


def test_training_goes_on_while_it_is_written(whole, tmp_path):
    def before(rank):
        write, step, further, steps = Writer.write_data, Pretrain.optimizer_step, threading.Event(), []

        def held(self, plan, planner):
            (tmp_path / f"{rank}-{self.final.name}").write_text(str(further.wait(60)))
            return write(self, plan, planner)

        def counted(self, *words, **how):
            steps.append(0)
            if len(steps) == 3:
                further.set()
            return step(self, *words, **how)

        Writer.write_data, Pretrain.optimizer_step = held, counted

    sharded(tmp_path / "run", before=before)
    for rank in (0, 1):
        assert (tmp_path / f"{rank}-step=00000002.ckpt").read_text() == "True"
    assert_same_run(Run(tmp_path / "run"), whole)


def test_a_signal_waits_for_what_is_written(tmp_path):
    def before(rank):
        write = Writer.write_data

        def told(self, plan, planner):
            if rank == 1 and self.final.stem == "step=00000002":  # a second signal ends a process at once
                os.kill(os.getpid(), signal.SIGTERM)
            threading.Event().wait(0.2)
            return write(self, plan, planner)

        Writer.write_data = told

    with pytest.raises(mp.ProcessRaisedException, match=Stopped.__name__):
        sharded(tmp_path / "run", "trainer.max_steps=5000", "trainer.val_every=null", before=before)
    run = Run(tmp_path / "run")
    assert all(path.name.startswith("step=") for path in run.checkpoints.iterdir())
    last = checkpoint.latest_checkpoint(run)
    assert checkpoint.load(last)["global_step"] == int(last.stem.partition("=")[2]) > 2


def test_a_kill_within_a_write_leaves_the_one_before(whole, tmp_path):
    def before(rank):
        move, moved = sharded_checkpoint.move_into_place, []

        def killed(beside, path):
            if moved:
                os.kill(os.getpid(), signal.SIGKILL)
            moved.append(move(beside, path))

        sharded_checkpoint.move_into_place = killed

    with pytest.raises((mp.ProcessExitedException, mp.ProcessRaisedException)):
        sharded(tmp_path / "run", before=before)
    run = Run(tmp_path / "run")
    names = [".step=00000004.ckpt.unfinished", "step=00000002.ckpt"]
    assert sorted(path.name for path in run.checkpoints.iterdir()) == names
    unsharded(run.folder)
    assert_same_run(run, whole)
    assert all(path.name.startswith("step=") for path in run.checkpoints.iterdir())


def test_a_full_disk_is_said_by_every_rank(whole, tmp_path):
    def before(rank):
        resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, resource.RLIM_INFINITY))

    with pytest.raises(
        mp.ProcessRaisedException, match=r"cannot write .*step=00000002.ckpt \(rank 0\): .*File too large"
    ):
        sharded(tmp_path / "run", before=before)
    run = Run(tmp_path / "run")
    assert not list(run.checkpoints.iterdir())
    unsharded(run.folder)
    assert_same_run(run, whole)


def cut(folder):
    part = max(folder.glob("*.safetensors"))
    part.write_bytes(part.read_bytes()[:-100])


def flip(folder):
    content = bytearray((folder / "rest.pt").read_bytes())
    content[len(content) // 2] ^= 1
    (folder / "rest.pt").write_bytes(content)


DAMAGES = {"cut": cut, "flipped": flip, "lost": lambda folder: max(folder.glob("*.safetensors")).unlink()}


@pytest.mark.parametrize("what", DAMAGES)
def test_of_a_damaged_one_the_one_before_is_used(two, tmp_path, what):
    run, said = Run(shutil.copytree(two.folder, tmp_path / "run")), []
    DAMAGES[what](run.checkpoints / "step=00000004.ckpt")
    assert checkpoint.sound_checkpoint(run, said.append).name == "step=00000002.ckpt"
    assert len(said) == 1 and "passed over step=00000004.ckpt" in said[0] and "\n" not in said[0]


def test_the_weights_are_those_that_were_saved(two):
    state = checkpoint.load(checkpoint.latest_checkpoint(two))["state_dict"]
    for name, x in load_file(two.weights).items():
        assert torch.equal(state[f"encoder.{name}"], x), name
