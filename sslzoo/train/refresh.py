"""What changes during a run: an objective's `refresh`, with the training set's features."""

import numpy as np
import torch
from torch import Tensor

from sslzoo.data.loader import ordered_loader
from sslzoo.parts import ranks
from sslzoo.progress import Progress, quiet
from sslzoo.train.callback import StepCallback

CHUNK = 65536  # items whose features are added up over ranks at a time


@torch.inference_mode()
def pooled_features(encoder, split, units: float, device, workers: int = 0, progress: Progress = quiet) -> Tensor:
    """One vector an item of a split, float32 [N, D] on the CPU, in the split's order, the same on every rank.
    Each rank reads its share. units: what a batch may hold; see `ordered_loader`."""
    mine = np.arange(len(split))[ranks.rank() :: ranks.world()]
    found, done = torch.zeros(len(split), encoder.dim), 0
    training = encoder.training
    encoder.eval()
    for batch in ordered_loader(split, units, workers=workers, indices=mine):
        found[batch.index] = encoder(batch.inputs.to(device), batch.lengths).pooled.float().cpu()
        done += len(batch)
        progress("features of train", done, len(mine))
    encoder.train(training)
    for part in found.split(CHUNK):  # not at once: all of a large set's may be more than an accelerator holds
        part.copy_(ranks.total(part.to(device)))
    return found


class Refresh(StepCallback):
    """Calls `objective.refresh` before every `refresh_every`-th step, and drops the optimiser's state of the
    parameters that it made anew. A checkpoint of that step holds what was before; a run that continues from it
    refreshes again, from the same weights."""

    def __init__(self, data, split, workers: int = 0, progress: Progress = quiet):
        self.data, self.split, self.workers, self.progress = data, split, workers, progress

    def before_step(self, trainer, module) -> None:
        every = module.objective.refresh_every
        if every is None or trainer.global_step % every:
            return
        units = self.data.batch.units(self.split.cut_lengths)
        features = pooled_features(module.encoder, self.split, units, module.device, self.workers, self.progress)
        for parameter in module.objective.refresh(features):
            for optimizer in trainer.optimizers:
                optimizer.state.pop(parameter, None)
