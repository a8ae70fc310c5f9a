"""Calling an objective's `refresh` during a run, with the training set's features."""

import numpy as np
import torch
from torch import Tensor

from sslzoo import distributed
from sslzoo.data.loader import ordered_loader
from sslzoo.progress import Progress, quiet
from sslzoo.train.callback import StepCallback
from sslzoo.train.validate import evaluating

NO_FEATURES = torch.zeros(0, 0), torch.zeros(0, dtype=torch.int64)


@torch.inference_mode()
def pooled_features(
    encoder, split, units: float, device, workers: int = 0, progress: Progress = quiet
) -> tuple[Tensor, Tensor]:
    """(pooled features of this rank's share of a split, float32 [n, D]; the items' indices in the split, int64 [n],
    ascending), on the CPU. units: the batch size; see `ordered_loader`."""
    mine = np.arange(len(split))[distributed.rank() :: distributed.world_size()]
    found, done = torch.zeros(len(mine), encoder.dim, dtype=torch.float32), 0
    with evaluating(encoder):
        for batch in ordered_loader(split, units, workers=workers, indices=mine):
            pooled = encoder(batch.inputs.to(device), batch.lengths).pooled
            found[np.searchsorted(mine, batch.index.numpy())] = pooled.float().cpu()
            done += len(batch)
            progress("features of train", done, len(mine))
    return found, torch.from_numpy(mine)


class RefreshFeatures(StepCallback):
    """Calls `objective.refresh` before every `refresh_every`-th step, and drops the optimiser's state of the
    parameters that it reset. A checkpoint of that step is from before the refresh; a run resumed from it refreshes
    again, from the same weights."""

    def __init__(self, data, split, workers: int = 0, progress: Progress = quiet):
        self.data, self.split, self.workers, self.progress = data, split, workers, progress

    @staticmethod
    def needed(objective, step: int) -> bool:
        return step == 0 or objective.refreshes_with_features

    def features(self, module) -> tuple[Tensor, Tensor]:
        units = self.data.batch.units(self.split.cut_lengths)
        return pooled_features(module.encoder, self.split, units, module.device, self.workers, self.progress)

    def before_step(self, trainer, module) -> None:
        every = module.objective.refresh_every
        if every is None or trainer.global_step % every:
            return
        with trainer.precision_plugin.forward_context(), module.gathered():
            share = self.features(module) if self.needed(module.objective, trainer.global_step) else NO_FEATURES
        for parameter in module.objective.refresh(*share):
            for optimizer in trainer.optimizers:
                optimizer.state.pop(parameter, None)
