"""A sweeper and a launcher, as packages of others have them."""

from hydra.core.plugins import Plugins
from hydra.core.singleton import Singleton
from hydra.core.utils import run_job, setup_globals
from hydra.plugins.launcher import Launcher
from hydra.plugins.sweeper import Sweeper
from omegaconf import open_dict

TOLD = []  # what the sweeper was told


class Climber(Sweeper):
    """Asks twice, the second time for what was better the first time."""

    def __init__(self, max_batch_size=None, params=None):
        pass

    def setup(self, *, hydra_context, task_function, config):
        self.launcher = Plugins.instance().instantiate_launcher(
            hydra_context=hydra_context, task_function=task_function, config=config
        )

    def sweep(self, arguments):
        shared = [word for word in arguments if not word.startswith("optim.lr=")]
        asked = [[*shared, f"optim.lr={lr}"] for lr in (0.01, 0.02)]
        first = [job.return_value for job in self.launcher.launch(asked, initial_job_idx=0)]
        best = asked[first.index(min(first))]
        [again] = self.launcher.launch([[*best, "seed=1"]], initial_job_idx=2)
        TOLD.extend([*first, again.return_value])


class Elsewhere(Launcher):
    """Runs jobs in a process of their own, as those of joblib and submitit do."""

    def setup(self, *, hydra_context, task_function, config):
        self.hydra_context, self.task_function, self.config = hydra_context, task_function, config

    def launch(self, job_overrides, initial_job_idx):
        from joblib import Parallel, delayed

        jobs = enumerate(job_overrides, initial_job_idx)
        arguments = (self.hydra_context, self.config, self.task_function, Singleton.get_state())
        return Parallel(n_jobs=2, backend="loky")(delayed(elsewhere)(*job, *arguments) for job in jobs)


def elsewhere(number, words, context, config, task, state):
    setup_globals()
    Singleton.set_state(state)
    config = context.config_loader.load_sweep_config(config, list(words))
    with open_dict(config):
        config.hydra.job.id = config.hydra.job.num = number
    return run_job(
        hydra_context=context,
        config=config,
        task_function=task,
        job_dir_key="hydra.sweep.dir",
        job_subdir_key="hydra.sweep.subdir",
    )
