"""From a split to padded batches: collation, and loaders that start at any step."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from sslzoo import rng
from sslzoo.data.base import Batch, Split
from sslzoo.data.sampler import SPARES, Rows, StepSampler
from sslzoo.data.shared_memory import fitting_workers
from sslzoo.errors import UserError

IGNORE = -100  # the target of padding, as torch's losses have it


class _ReadRows(Dataset):
    """A split that is read a batch at a time."""

    def __init__(self, split: Split):
        self.split = split

    def __getitems__(self, rows: Rows) -> Batch:
        return read_rows(self.split, rows)


def read_rows(split: Split, rows: Rows) -> Batch:
    """The batch of these rows. Of a split with on_error="skip" an item that cannot be read is replaced by the
    first of its spares that can: the same one whatever the number of workers, and after a stop."""
    read = [_read(split, rows, place) for place in range(len(rows))]
    batch = collate([row for row, _ in read], rows.size)
    errors = [error for _, error in read if error is not None]
    batch.skipped, batch.errors = len(errors), errors[:3]
    if rows.global_row_seeds is not None:
        batch.global_row_seeds = torch.from_numpy(rows.global_row_seeds)
    return batch


def _read(split: Split, rows: Rows, place: int) -> tuple[tuple, str | None]:
    """One row, and where it is another's, what was wrong with the one that it stands for."""
    seed = int(rows.row_seeds[place])
    spares = () if rows.spares is None or split.on_error != "skip" else rows.spares[:, place]
    tried, wrong = [rows.index[place], *spares], None
    for number, index in enumerate(tried):
        try:
            return split.item(int(index), seed if seed >= 0 else None), wrong
        except UserError as error:
            if number == len(tried) - 1:
                raise
            wrong = wrong or str(error).split(" — ")[0]  # without how to mend it
    raise AssertionError  # one of them was returned or raised


def pad(items: list[Tensor], value: float = 0) -> Tensor:
    """Items of one shape, but for the first dimension of 1-d ones, as one padded tensor."""
    if items[0].ndim != 1:
        return torch.stack(items)
    return torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=value)


def collate(rows: list[tuple[Tensor, int, int, dict[str, Tensor]]], size: int = 0) -> Batch:
    """A batch of rows as `Split.item` gives them, padded to the longest, or to `size` if that is more."""
    items, indices, seeds, targets = zip(*rows, strict=True)
    lengths = [len(x) if x.ndim == 1 else 1 for x in items]
    joined = {name: pad([row[name] for row in targets], IGNORE) for name in targets[0]}
    inputs = pad(list(items))
    if inputs.ndim == 2 and inputs.shape[1] < size:
        inputs = F.pad(inputs, (0, size - inputs.shape[1]))
    lengths, seeds, indices = (torch.tensor(x, dtype=torch.int64) for x in (lengths, seeds, indices))
    return Batch(inputs, lengths, seeds, indices, joined)


def _thread_per_worker(_: int) -> None:
    torch.set_num_threads(1)


def _as_it_is(batch: Batch) -> Batch:
    return batch


def _loader(split: Split, batches, workers: int, largest: int) -> DataLoader:
    """largest: the units of the largest batch, padding included."""
    if workers and len(split):
        workers = fitting_workers(workers, largest * _unit_bytes(split))
    return DataLoader(
        _ReadRows(split),
        batch_sampler=batches,
        collate_fn=_as_it_is,
        num_workers=workers,
        worker_init_fn=_thread_per_worker,
        pin_memory=torch.cuda.is_available(),
        persistent_workers=False,
    )


def _unit_bytes(split: Split) -> int:
    """Bytes of an item of length 1; 0 where the first one cannot be read."""
    try:
        item = split.read(0, 0)
    except UserError:
        return 0
    return item.element_size() if item.ndim == 1 else item.nbytes


def train_loader(
    split, batching, seed, start, stop, rank=0, world=1, smallest=1, workers=0, parts=1, to_bucket=False
) -> DataLoader:
    """Batches of steps `start` to `stop`, `parts` of each, the same whatever `workers` is and wherever it starts."""
    sampler = StepSampler(
        batching, split.cut_lengths, seed, start, stop, rank, world, smallest, parts, to_bucket, split.mixture
    )
    largest = max(-(-size // parts) * int(split.cut_lengths[part].max()) for part, size in sampler.buckets)
    return _loader(split, sampler, workers, largest)


def ordered_batches(lengths: np.ndarray, indices: np.ndarray, units: float, smallest: int = 1) -> list[list[int]]:
    """Every one of `indices` once, sorted by length, in batches of at most `units` when padded, but of no fewer than
    `smallest` items: what would be less goes to the batch before. lengths: of all items [N]."""
    batches, batch = [], []
    for i in indices[np.argsort(lengths[indices], kind="stable")].tolist():
        if len(batch) >= smallest and (len(batch) + 1) * lengths[i] > units:
            batches.append(batch)
            batch = []
        batch.append(i)
    if batches and len(batch) < smallest:
        batches[-1] += batch
    elif batch:
        batches.append(batch)
    return batches


def ordered_loader(
    split,
    units: float,
    seed: int | None = None,
    workers: int = 0,
    indices=None,
    rank: int = 0,
    world: int = 1,
    smallest: int = 1,
) -> DataLoader:
    """Every item once, sorted by length into batches of at most `units` (items, samples or tokens), and of at least
    `smallest` items. The batches do not depend on the number of ranks; of several each takes whole ones in turn.

    With `seed`, items are cut and drawn for as in training, but always in the same way (validation).
    """
    indices = np.arange(len(split)) if indices is None else np.asarray(indices)
    lengths = split.lengths if seed is None else split.cut_lengths
    batches = ordered_batches(lengths, indices, units, smallest)[rank::world]
    largest = max((len(batch) * int(lengths[batch].max()) for batch in batches), default=0) * world
    return _loader(split, [ordered(np.array(batch, np.int64), seed) for batch in batches], workers, largest)


def ordered(index: np.ndarray, seed: int | None) -> Rows:
    """The rows of these items as they stand, cut and drawn for by `seed`, or whole without one."""
    if seed is None:
        return Rows(index, np.full(len(index), -1))
    # of a batch sorted by length, those after it: of like length
    spares = np.stack([np.roll(index, -place) for place in range(1, SPARES + 1)])
    return Rows(index, rng.derive_row_seeds(seed, rows=index), spares=spares)
