"""A trace of a few steps (trainer.profile=true), which opens in a browser: ui.perfetto.dev or chrome://tracing."""

import torch
from torch.profiler import ProfilerActivity, profile

from sslzoo.run import Run, write_atomic
from sslzoo.train.callback import StepCallback

SKIPPED, TRACED = 3, 3  # steps before the trace, in which memory is allocated and kernels chosen; steps in it


class Profile(StepCallback):
    """Writes `trace.json` to the run's folder: operators and, on a GPU, kernels of a few steps of the first rank."""

    def __init__(self, run: Run, say):
        self.run, self.say = run, say
        self.profile: profile | None = None

    def on_train_start(self, trainer, module) -> None:
        self.begin = trainer.global_step + SKIPPED

    def before_step(self, trainer, module) -> None:
        if trainer.is_global_zero and trainer.global_step == self.begin:
            gpu = [ProfilerActivity.CUDA] if torch.cuda.is_available() else []
            self.profile = profile(activities=[ProfilerActivity.CPU, *gpu])
            self.profile.start()

    def after_step(self, trainer, module) -> None:
        if self.profile is not None and trainer.global_step == self.begin + TRACED:
            self.stop()

    def stop(self) -> None:
        if self.profile is None:
            return
        found, self.profile = self.profile, None
        found.stop()
        write_atomic(self.run.trace, lambda path: found.export_chrome_trace(str(path)))
        self.say(f"wrote {self.run.trace}: open it in ui.perfetto.dev or chrome://tracing")

    def on_train_end(self, trainer, module) -> None:
        self.stop()
