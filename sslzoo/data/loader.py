"""From a split to padded batches: collation, and loaders that start at any step."""

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslzoo import draws
from sslzoo.data.base import Batch, Split
from sslzoo.data.sampler import Row, StepSampler

IGNORE = -100  # the target of padding, as torch's losses have it


class _Keyed(Dataset):
    """A split read by (index, key); a key below 0 stands for none."""

    def __init__(self, split: Split):
        self.split = split

    def __getitem__(self, row: Row):
        index, key = row
        return self.split.item(index, key if key >= 0 else None)


def pad(items: list[Tensor], value: float = 0) -> Tensor:
    """Items of one shape, but for the first dimension of 1-d ones, as one padded tensor."""
    if items[0].ndim != 1:
        return torch.stack(items)
    return torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=value)


def collate(rows: list[tuple[Tensor, int, int, dict[str, Tensor]]]) -> Batch:
    """A batch of rows as `Split.item` gives them."""
    items, indices, keys, targets = zip(*rows, strict=True)
    lengths = [len(x) if x.ndim == 1 else 1 for x in items]
    joined = {name: pad([row[name] for row in targets], IGNORE) for name in targets[0]}
    return Batch(pad(list(items)), *(torch.tensor(x, dtype=torch.int64) for x in (lengths, keys, indices)), joined)


def _thread_per_worker(_: int) -> None:
    torch.set_num_threads(1)


def _loader(split: Split, batches, workers: int) -> DataLoader:
    return DataLoader(
        _Keyed(split),
        batch_sampler=batches,
        collate_fn=collate,
        num_workers=workers,
        worker_init_fn=_thread_per_worker,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )


def train_loader(split, batching, seed, start, stop, rank=0, world=1, smallest=1, workers=0) -> DataLoader:
    """Batches of steps `start` to `stop`, the same whatever `workers` is and wherever it starts."""
    sampler = StepSampler(batching, split.cut_lengths, seed, start, stop, rank, world, smallest)
    return _loader(split, sampler, workers)


def ordered_loader(
    split, units: float, key: int | None = None, workers: int = 0, indices=None, rank: int = 0, world: int = 1
) -> DataLoader:
    """Every item once, sorted by length into batches of at most `units` (items, samples or tokens).

    With `key`, items are cut and drawn for as in training, but always in the same way (validation). Of
    several ranks each takes rows of every batch; a batch with fewer rows than ranks is left out.
    """
    indices = np.arange(len(split)) if indices is None else np.asarray(indices)
    order = indices[np.argsort(split.lengths[indices], kind="stable")]
    batches, batch = [], []
    for i in order.tolist():
        if batch and (len(batch) + 1) * split.lengths[i] > units:
            batches.append(batch)
            batch = []
        batch.append(i)
    batches.append(batch)
    rows = [[(i, draws.key(key, i) if key is not None else -1) for i in batch] for batch in batches]
    return _loader(split, [b[rank::world] for b in rows if len(b) >= world], workers)
