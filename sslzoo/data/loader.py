"""Data loaders: collation into padded batches, and loaders that can start at any step."""

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

IGNORE = -100  # the target of padding; torch's default ignore_index


class _ReadRows(Dataset):
    """A dataset that reads a whole batch per call."""

    def __init__(self, split: Split):
        self.split = split

    def __getitems__(self, rows: Rows) -> Batch:
        return read_rows(self.split, rows)


def read_rows(split: Split, rows: Rows) -> Batch:
    """The batch of these rows. If the split has on_error="skip", an unreadable item is replaced by the first of its
    spares that can be read: the same one for any number of workers, and after a restart."""
    read = [_read(split, rows, place) for place in range(len(rows))]
    batch = collate([row for row, _ in read], rows.size)
    errors = [error for _, error in read if error is not None]
    batch.skipped, batch.errors = len(errors), errors[:3]
    if rows.global_row_seeds is not None:
        batch.global_row_seeds = torch.from_numpy(rows.global_row_seeds)
    if rows.step_seed is not None:
        batch.step_seed = torch.from_numpy(rows.step_seed)
    return batch


def _read(split: Split, rows: Rows, place: int) -> tuple[tuple, str | None]:
    """(row, None), or (a spare's row, the error message of the item that it replaces)."""
    seed = int(rows.row_seeds[place])
    spares = () if rows.spares is None or split.on_error != "skip" else rows.spares[:, place]
    tried, wrong = [rows.index[place], *spares], None
    for number, index in enumerate(tried):
        try:
            return split.item(int(index), seed if seed >= 0 else None), wrong
        except UserError as error:
            if number == len(tried) - 1:
                raise
            wrong = wrong or str(error).split(" — ")[0]  # without the hint after the dash
    raise AssertionError  # unreachable: the loop returns or raises


def pad(items: list[Tensor], value: float = 0) -> Tensor:
    """Stack items of equal shape, or pad 1-d items [N] to the longest: [B, N]."""
    if items[0].ndim != 1:
        return torch.stack(items)
    return torch.nn.utils.rnn.pad_sequence(items, batch_first=True, padding_value=value)


def collate(rows: list[tuple[Tensor, int, int, dict[str, Tensor]]], size: int = 0) -> Batch:
    """Collate rows from `Split.item`, padded to the longest row, or to `size` if that is more."""
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
    """largest: units (items, samples or tokens) of the largest batch, with padding."""
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
    """Bytes per unit of length, from the first item; 0 if it cannot be read."""
    try:
        item = split.read(0, 0)
    except UserError:
        return 0
    return item.element_size() if item.ndim == 1 else item.nbytes


def train_loader(
    split, batching, seed, start, stop, rank=0, world=1, smallest=1, workers=0, parts=1, to_bucket=False
) -> DataLoader:
    """Batches of steps `start` to `stop`, `parts` per step; independent of `workers` and of where a run resumed."""
    sampler = StepSampler(
        batching, lambda: split.cut_lengths, seed, start, stop, rank, world, smallest, parts, to_bucket, split.mixture
    )
    largest = max(
        -(-size // parts) * longest for size, longest in zip(sampler.batch_sizes, sampler.longest, strict=True)
    )
    return _loader(split, sampler, workers, largest)


def ordered_batches(lengths: np.ndarray, indices: np.ndarray, units: float, smallest: int = 1) -> list[list[int]]:
    """Each of `indices` once, sorted by length, in batches of at most `units` (with padding) and at least `smallest`
    items; a smaller remainder joins the last batch. lengths: of all items [N]."""
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
    """Every item once, sorted by length into batches of at most `units` (items, samples or tokens) and at least
    `smallest` items. The batches do not depend on the number of ranks; ranks take whole batches in turn.

    With `seed`, items are cropped and have row seeds as in training, the same ones each time (validation).
    """
    indices = np.arange(len(split)) if indices is None else np.asarray(indices)
    lengths = split.lengths if seed is None else split.cut_lengths
    batches = ordered_batches(lengths, indices, units, smallest)[rank::world]
    return batch_loader(split, batches, seed, workers, world)


def batch_loader(
    split, batches: list[list[int]], seed: int | None = None, workers: int = 0, world: int = 1
) -> DataLoader:
    """These batches of items, as those of `ordered_loader`. world: how many processes of this machine read as many."""
    lengths = split.lengths if seed is None else split.cut_lengths
    largest = max((len(batch) * int(lengths[batch].max()) for batch in batches), default=0) * world
    return _loader(split, [ordered(np.array(batch, np.int64), seed) for batch in batches], workers, largest)


def ordered(index: np.ndarray, seed: int | None) -> Rows:
    """Rows of these items in the given order; seeded by `seed`, or read whole if it is None."""
    if seed is None:
        return Rows(index, np.full(len(index), -1))
    # the next items of a batch sorted by length: of similar length
    spares = np.stack([np.roll(index, -place) for place in range(1, SPARES + 1)])
    return Rows(index, rng.derive_row_seeds(seed, rows=index), spares=spares)
