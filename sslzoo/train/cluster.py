"""Which rank this process is, and what starts and ends the others: SLURM starts them only if it has started a task per
rank."""

import os
import subprocess
import time
from contextlib import suppress

from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment

from sslzoo.errors import ConfigError, UserError
from sslzoo.ports import is_free
from sslzoo.train.settings import Settings


class JobStep(SLURMEnvironment):
    """A SLURM job step (`srun`) whose tasks are the ranks. The allocation of the job around it is ignored."""

    def __init__(self):
        super().__init__(auto_requeue=False)

    def world_size(self) -> int:
        return int(os.environ["SLURM_STEP_NUM_TASKS"])

    def validate_settings(self, num_devices: int, num_nodes: int) -> None:
        """Done by `is_job_step`."""

    @staticmethod
    def _validate_srun_variables() -> None:
        """Skipped: these variables are the job's, not the step's."""


def is_job_step(settings: Settings) -> bool:
    """Whether SLURM has started a task for each rank. An interactive shell, a batch script and their children also
    have SLURM's variables, but no such tasks."""
    said = os.environ
    return (
        "SLURM_PROCID" in said
        and "SLURM_PTY_PORT" not in said
        and said.get("SLURM_STEP_NUM_TASKS") == str(settings.ranks)
        and said.get("SLURM_STEP_NUM_NODES", str(settings.nodes)) == str(settings.nodes)
    )


def environment(settings: Settings) -> ClusterEnvironment | None:
    """The cluster environment for Lightning; None to let it detect one, outside SLURM or under torchrun."""
    if "SLURM_NTASKS" not in os.environ or "TORCHELASTIC_RUN_ID" in os.environ:
        return None
    return JobStep() if settings.ranks > 1 and is_job_step(settings) else LightningEnvironment()


def check(settings: Settings) -> None:
    """Raise ConfigError if torchrun or `srun` started another number of ranks than the settings have, UserError if the
    port by which this process is to meet the ranks that it starts is in use."""
    said = os.environ
    where = f"trainer.devices={settings.devices} trainer.nodes={settings.nodes}"
    if "TORCHELASTIC_RUN_ID" in said and said.get("WORLD_SIZE") != str(settings.ranks):
        world, own = said.get("WORLD_SIZE"), said.get("LOCAL_WORLD_SIZE", "1")
        hosts = int(said.get("GROUP_WORLD_SIZE", "1"))
        raise ConfigError(
            f"torchrun started {world} ranks, and {where} are {settings.ranks}: set trainer.devices={own} "
            f"trainer.nodes={hosts}"
        )
    tasks = said.get("SLURM_STEP_NUM_TASKS", "1")
    if tasks not in ("1", str(settings.ranks)) and "SLURM_PTY_PORT" not in said and "LOCAL_RANK" not in said:
        raise ConfigError(
            f"srun started {tasks} tasks, and {where} are {settings.ranks} ranks: start one task a rank "
            f"(srun --ntasks={settings.ranks})"
        )
    starts = settings.ranks > 1 and not {"LOCAL_RANK", "TORCHELASTIC_RUN_ID"} & set(said) and not is_job_step(settings)
    port = said.get("MASTER_PORT", "")
    if starts and said.get("NODE_RANK", "0") == "0" and port.isdecimal() and not is_free("localhost", int(port)):
        raise UserError(f"MASTER_PORT={port} is in use on this machine: set it to another, or unset it")


def end_started(launcher: object, seconds: float = 5.0) -> None:
    """End the ranks that this process has started, such as those that wait for an answer of it; those that end by
    themselves within some seconds say why."""
    ranks = [one for one in getattr(launcher, "procs", None) or [] if isinstance(one, subprocess.Popen)]  # not forks
    end = time.monotonic() + seconds
    for process in ranks:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
    for process in ranks:
        if process.poll() is None:
            process.kill()  # one that waits within a message does not hear SIGTERM
            process.wait()


def left_over(settings: Settings) -> str:
    """A message if SLURM's tasks do not match the ranks; "" if they do."""
    tasks = os.environ.get("SLURM_NTASKS", "1")
    if tasks in ("1", str(settings.ranks)) or "LOCAL_RANK" in os.environ:
        return ""
    return (
        f"SLURM_NTASKS={tasks} is set, and trainer.devices={settings.devices} trainer.nodes={settings.nodes} are "
        f"{settings.ranks}: SLURM's tasks are not used (for one rank a task: srun --ntasks={settings.ranks})"
    )


def first_rank(settings: Settings) -> bool:
    """Whether this process is rank 0 of the launch."""
    if settings.ranks == 1:
        return True
    if "RANK" in os.environ and "WORLD_SIZE" in os.environ:  # torchrun
        return int(os.environ["RANK"]) == 0
    if is_job_step(settings):
        return int(os.environ["SLURM_PROCID"]) == 0
    return all(int(os.environ.get(name) or 0) == 0 for name in ("LOCAL_RANK", "NODE_RANK"))
