"""A job of submitit that nears its time limit saves a checkpoint, is queued again, and ends as if it had not been."""

import os
import signal
import time

import pytest
import torch
from conftest import tiny
from safetensors.torch import load_file
from test_contracts import train

from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import checkpoint


def work(config: dict, folder, signals: bool) -> None:
    """Train, and send the signal that comes before the time limit, the first time."""
    torch.set_num_threads(1)
    step = Pretrain.optimizer_step

    def signalled(self, *args, **kwargs):
        if signals and self.global_step == 2 and checkpoint.latest_checkpoint(Run(folder)) is None:
            os.kill(os.getpid(), signal.SIGUSR2)
            time.sleep(0.1)
        return step(self, *args, **kwargs)

    Pretrain.optimizer_step = signalled
    train(config, folder)


class Work:
    def __call__(self, *given) -> None:
        work(*given)

    def checkpoint(self, *given):
        import submitit

        return submitit.helpers.DelayedSubmission(self, *given)


def test_the_launchers_handler_runs_after_the_checkpoint(tmp_path):
    config, at = tiny("mae", "trainer.max_steps=5", "trainer.save_every=100"), []

    def queued_again(number, _):
        at.append(checkpoint.load(checkpoint.latest_checkpoint(Run(tmp_path / "run")))["global_step"])
        raise SystemExit(0)

    before, step = signal.signal(signal.SIGUSR2, queued_again), Pretrain.optimizer_step
    try:
        with pytest.raises(SystemExit):
            work(config, tmp_path / "run", True)
        assert at == [3] and not Run(tmp_path / "run").done
        assert signal.getsignal(signal.SIGUSR2) is queued_again
    finally:
        signal.signal(signal.SIGUSR2, before)
        Pretrain.optimizer_step = step
    parts, whole = train(config, tmp_path / "run"), train(config, tmp_path / "whole")
    assert parts.weights.read_bytes() == whole.weights.read_bytes()


@pytest.mark.slow
def test_submitit_queues_a_job_again(tmp_path):
    submitit = pytest.importorskip("submitit", reason="pip install 'sslzoo[slurm]'")
    config = tiny("mae", "trainer.max_steps=5", "trainer.save_every=100")
    executor = submitit.LocalExecutor(tmp_path / "jobs")
    executor.update_parameters(timeout_min=5)
    job = executor.submit(Work(), config, tmp_path / "run", True)
    job.result()
    assert "Requeued job" in job.stderr() + job.stdout()
    whole = load_file(train(config, tmp_path / "whole").weights)
    assert all(torch.equal(x, whole[name]) for name, x in load_file(Run(tmp_path / "run").weights).items())
