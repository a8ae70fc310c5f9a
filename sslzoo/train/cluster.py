"""Which rank this process is, and what starts the others: SLURM only if it has started a task per rank."""

import os

from lightning.fabric.plugins.environments import ClusterEnvironment, LightningEnvironment, SLURMEnvironment

from sslzoo.errors import ConfigError
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
    """Raise ConfigError if torchrun or `srun` started another number of ranks than the settings have."""
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
