"""The end of a run: stopping on signals; writing the weights, a visualization, a summary, DONE."""

import os
import resource
import signal
import time
from typing import Any

import torch

from sslzoo import distributed
from sslzoo.run import Run, commit, machine, write_atomic, write_json
from sslzoo.signal_stack import use_signal_stack
from sslzoo.train.callback import StepCallback
from sslzoo.train.throughput import Throughput
from sslzoo.train.visualization import portable, sounds

NOTICES = {signal.SIGHUP, signal.SIGUSR1}  # a closed terminal (often sent twice); SLURM, near the time limit
URGENT = {signal.SIGTERM, signal.SIGINT}


class GracefulStop(StepCallback):
    """On SIGTERM, SIGINT, SIGHUP or SIGUSR1: finish the step, save, stop. A second SIGTERM or SIGINT ends the process
    at once. An ignored SIGHUP, as under nohup, stays ignored. SIGUSR2 is a launcher's, if it listens (submitit, near
    the time limit): it gets the signal once the checkpoint is written, and queues the job again."""

    def __init__(self):
        self.signal: int | None = None  # of this process
        self.stopped_by: int | None = None  # the signal, of any rank, by which all ranks stop

    def on_train_start(self, trainer, module) -> None:
        terminals = [number for number in (1, 2) if os.isatty(number)]

        def note(number, _):
            if number in URGENT and self.signal in URGENT:
                os._exit(128 + number)
            if number == signal.SIGHUP:  # writing to a closed terminal fails
                for terminal in terminals:
                    os.dup2(os.open(os.devnull, os.O_WRONLY), terminal)
            if self.signal not in URGENT:
                self.signal = number

        use_signal_stack()
        # replaces Lightning's handlers, which would end the run without our checkpoint
        heard = URGENT | NOTICES - {n for n in (signal.SIGHUP,) if signal.getsignal(n) == signal.SIG_IGN}
        heard |= {signal.SIGUSR2} if callable(signal.getsignal(signal.SIGUSR2)) else set()
        self.before = {number: signal.signal(number, note) for number in heard}

    def after_step(self, trainer, module) -> None:
        asked = self.signal or 0
        if trainer.world_size > 1:  # all ranks must stop at the same step
            if module.device.type != "cpu" and not module.logged:
                return  # the reduction synchronises with the device
            asked = int(trainer.strategy.reduce(torch.tensor(asked, device=module.device), reduce_op="max"))
        if asked:
            self.stopped_by, trainer.should_stop = asked, True

    def on_train_end(self, trainer, module) -> None:
        for number, handler in self.before.items():
            signal.signal(number, handler)
        if self.signal == signal.SIGUSR2:
            trainer.strategy.barrier()  # the first rank has written the checkpoint
            requeue: Any = self.before[signal.SIGUSR2]
            requeue(self.signal, None)


def costs(steps: int, seconds: float, on_gpu: bool) -> dict:
    """What a run took on this machine, for its summary."""
    found = {"steps": steps, "minutes": seconds / 60}
    found["peak_memory_gb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    if on_gpu:
        found["peak_gpu_memory_gb"] = torch.cuda.max_memory_allocated() / 2**30
    device = torch.cuda.get_device_name() if on_gpu else "cpu"
    return {**found, "device": device, "machine": machine(), "commit": commit()}


class Finish(StepCallback):
    """Measures a run's time, over all resumed parts, and writes its results after the last step."""

    def __init__(
        self,
        run: Run,
        save,
        example,
        describe,
        about: dict | None = None,
        sample_rate: int | None = None,
        throughput: Throughput | None = None,
    ):
        # save(encoder, objective) writes the weights; describe: ids to text; about: more entries of summary.json;
        # sample_rate: of speech
        self.run, self.save, self.example, self.describe, self.sample_rate = run, save, example, describe, sample_rate
        self.about, self.throughput = about or {}, throughput
        self.seconds = self.data_seconds = 0.0
        self.logs: dict[str, float] = {}  # of the last step

    @property
    def elapsed(self) -> float:
        """Seconds of training, over all parts of the run."""
        return self.seconds + time.monotonic() - self.begun

    @property
    def waited(self) -> float:
        """Seconds of waiting for data, over all parts of the run."""
        return self.data_seconds + (self.throughput.data_seconds if self.throughput else 0.0)

    def state_dict(self) -> dict:
        return {"seconds": self.elapsed, "data_seconds": self.waited, "logs": self.logs}

    def load_state_dict(self, state: dict) -> None:
        self.seconds, self.logs = state["seconds"], state.get("logs", {})
        self.data_seconds = state.get("data_seconds", 0.0)  # older checkpoints have none

    def on_fit_start(self, trainer, module) -> None:
        self.begun = time.monotonic()

    def after_step(self, trainer, module) -> None:
        self.logs = module.logged or self.logs

    def on_fit_end(self, trainer, module) -> None:
        # not on_train_end: a run killed after its last checkpoint resumes with no step left to train
        if trainer.global_step < module.total_steps:
            return
        visualization = self.visualize(module)
        encoder, objective = module.parts_to_save()
        if not trainer.is_global_zero:
            return
        self.save(encoder, objective)
        if visualization:
            write_atomic(self.run.visualization, lambda path: torch.save(visualization, path))
        write_json(
            self.run.summary,
            {
                **costs(trainer.global_step, self.elapsed, module.device.type == "cuda"),
                "steps_per_second": trainer.global_step / self.elapsed,
                "ranks": trainer.world_size,
                "skipped": module.skipped,
                "precision": str(trainer.precision),
                "parameters": sum(p.numel() for p in module.encoder.parameters()),
                **(self.throughput.said() if self.throughput else {}),
                "data_seconds": self.waited,
                **self.about,
                "logs": self.logs,
            },
        )
        self.run.finish()

    def visualize(self, module) -> dict:
        """The objective's visualization of a batch. Every rank computes it, as sharded weights need all ranks."""
        module.eval()
        try:
            with module.gathered(), distributed.alone(), torch.no_grad():
                batch = self.example().to(module.device)
                shown = module.objective.visualize(module.encoder, batch, module.total_steps)
            if shown and self.sample_rate:
                shown = shown | sounds(batch, self.sample_rate)
            return portable(shown, self.describe)
        finally:
            module.train()
