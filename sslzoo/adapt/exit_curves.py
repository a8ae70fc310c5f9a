"""What leaving early costs and saves: an adapted encoder's score, layers and time by the value of its criterion."""

import time
from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch
from torch import nn

from sslzoo.adapt.data import Supervised
from sslzoo.data.base import Batch
from sslzoo.data.loader import ordered_batches, read_rows
from sslzoo.data.sampler import Rows
from sslzoo.tasks.exits import ExitTask

ROWS = 64  # of test that are timed, evenly spaced
SIZES, ROUNDS = (1, 32), 2  # batches of so many rows; each is run so many times, and the fastest counts


def curves(
    encoder: nn.Module, objective: ExitTask, data: Supervised, batches: Callable[[str], Iterator[Batch]], device: str
) -> dict:
    """Ready for JSON: `criterion`, its name, "threshold" or "patience"; `chosen`, the value that predictions use;
    `depth`; `layer_scores`, of each layer's classifier on test; and a list of points for "valid" and "test", from the
    full model to the fewest layers: {<criterion>, score, layers}, the mean number of layers that a row runs, and on
    test speedup_1 and speedup_32, the full model's seconds over theirs in batches of 1 and 32. batches: of a part."""
    found = {part: objective.outputs(encoder, batches(part)) for part in ("valid", "test")}
    limits = [*objective.candidates]
    if objective.limit not in limits:  # a setting
        limits = sorted([*limits, objective.limit], reverse=limits[0] > limits[-1])
    points = {
        part: [
            {objective.criterion: limit, "score": score, "layers": layers}
            for limit in limits
            for score, layers, _ in [objective.scored(outputs, limit)]
        ]
        for part, outputs in found.items()
    }
    for size in SIZES:
        for point, ratio in zip(points["test"], speedups(encoder, objective, data, limits, device, size), strict=True):
            point[f"speedup_{size}"] = ratio
    return {
        "criterion": objective.criterion,
        "chosen": objective.limit,
        "depth": len(objective.exits),
        "layer_scores": objective.layer_scores(found["test"]),
        **points,
    }


def speedups(
    encoder: nn.Module, objective: ExitTask, data: Supervised, limits: list[float], device: str, size: int
) -> list[float]:
    """The full model's seconds on some rows of test, with its last classifier alone, over those with each value of the
    criterion. Batches hold rows of similar lengths, as in prediction."""
    split = data.split("test")
    rows = np.unique(np.linspace(0, len(split) - 1, min(ROWS, len(split))).round().astype(np.int64))
    in_order = [i for batch in ordered_batches(split.cut_lengths, rows, np.inf) for i in batch]
    batches = [
        read_rows(split, Rows(np.array(some), np.full(len(some), -1))).to(device)
        for some in (in_order[i : i + size] for i in range(0, len(in_order), size))
    ]

    def full(batch: Batch) -> None:
        encoded = encoder(batch.inputs, batch.lengths)
        objective.exits[-1](objective.vector(encoder, encoded.last, encoded.lengths), batch.row_seeds)

    ways: list[Callable[[Batch], object]] = [full]
    ways += [partial(objective.leave, encoder, limit=limit) for limit in limits]
    taken = np.full((ROUNDS, len(ways), len(batches)), np.inf)
    for way in ways:  # warm up
        way(batches[-1])
    for times in taken:  # in turn, so that what else the machine does is shared by all
        for number, batch in enumerate(batches):
            for place, way in enumerate(ways):
                begun = time.perf_counter()
                way(batch)
                if device != "cpu":
                    torch.cuda.synchronize()
                times[place, number] = time.perf_counter() - begun
    full_time, *others = taken.min(0).sum(1)
    return [round(float(full_time / other), 3) for other in others]
