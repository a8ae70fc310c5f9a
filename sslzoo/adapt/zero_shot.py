"""Asking a run's language model without training it."""

import time
from typing import Any

from sslzoo.adapt.methods import Method, frozen
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError
from sslzoo.run import Run, write_json
from sslzoo.train.finish import costs


class ZeroShot(Method):
    """Nothing learns: a task's prompts are scored by the run's language model as it is (2012.15723, section 3; Brown et
    al. 2020, 2005.14165)."""

    def __call__(self, encoder: Encoder) -> Encoder:
        return frozen(encoder)

    def check(self, objective: type) -> None:
        if not getattr(objective, "prompted", False):
            raise ConfigError(
                f"method=zero_shot asks the run's language model, and {objective.__name__} has a head that must be learned: "
                "leave out head, or choose another method"
            )

    def train(self, job: Any, run: Run, folder: Run, shared: Run) -> bool:
        """Write what a training of no step would leave."""
        if shared.folder != folder.folder:
            raise ConfigError("method=zero_shot learns nothing, at no learning rate: leave out search.lr")
        begun, split, seed = time.monotonic(), job.data.split("train"), job.config["seed"]
        prepared = {"items": len(split), "epoch_steps": 1}  # no batch is drawn, whatever the split's size
        objective = job.objective.requires_grad_(False).eval()
        objective.prepare(**prepared, seed=seed)
        objective.calibrate(job.encoder, [], None)
        job.save(folder, prepared, job.encoder, objective)
        write_json(folder.summary, costs(0, time.monotonic() - begun, on_gpu=False))
        folder.finish()
        return True
