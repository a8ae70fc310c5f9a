"""The items and trials of a task about verification."""

from pathlib import Path

import numpy as np

from sslzoo import rng
from sslzoo.adapt.items import LabelledItems
from sslzoo.adapt.prepared import PooledItems
from sslzoo.data import files
from sslzoo.data.base import Data, Split
from sslzoo.errors import UserError
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Task

Trials = tuple[np.ndarray, np.ndarray, np.ndarray]  # indices [K] of first and second in a split; bool, one speaker [K]
DRAWN = 2000  # trials of a part without a list of them


class VerifiedItems(LabelledItems):
    """Items with their speaker's number among train's, or -1; trials: of them, None for train."""

    def __init__(
        self, splits: list[Split], source: np.ndarray, places: np.ndarray, labels: np.ndarray, trials: Trials | None
    ):
        super().__init__(splits, source, places, labels)
        self.trials = trials


def verification(task: Task, data: Data, stride: int) -> PooledItems:
    """The items of each part, with train's speakers as classes, and trials of the others.

    With `task.trials`, what it lists is test, all other items of its speakers are left out, and one in ten of the other
    speakers are valid; else the parts are those of `task.split`. Trials that are not listed are drawn, half of them of
    one speaker. Raises UserError if a speaker is in train and in another part.
    """
    pool = Pool(data)
    column = pool.column(task.label or "speaker")
    speakers = np.array(["" if x is None else str(x) for x in column], dtype=object)
    places = np.flatnonzero(speakers != "")
    trials: dict[str, Trials] = {}
    if task.trials is None:
        parts = task.parts_of(pool, places, None)
    else:
        test, trials["test"] = listed(task, pool)
        rest = places[~np.isin(speakers[places], speakers[test])]
        order = sorted(set(speakers[rest]), key=lambda name: rng.derive_seed("valid", name))
        if len(order) < 4:
            raise UserError(
                f"task {task.name}: beside those of {task.trials} there are {len(order)} speakers: it takes 4"
            )
        valid = np.isin(speakers[rest], order[: max(2, len(order) // 10)])
        parts = {"train": rest[~valid], "valid": rest[valid], "test": test}
    known = np.unique(speakers[parts["train"]].astype(str))
    if len(known) < 2:
        raise UserError(
            f"task {task.name}: all of train is of the speaker '{known[0]}': there is nothing to tell apart"
        )
    for part in ("valid", "test"):
        if len(both := np.intersect1d(known, speakers[parts[part]].astype(str))):
            raise UserError(
                f"task {task.name}: speakers of {part} are in train: {', '.join(both[:5])} — set task/split=by_speaker, "
                "or task.trials to a list of trials"
            )
        if part not in trials:
            trials[part] = drawn(speakers[parts[part]], DRAWN, f"task {task.name}: {part}")
    labels = {part: np.searchsorted(known, speakers[at].astype(str)) for part, at in parts.items()}
    labels = {part: x if part == "train" else np.full_like(x, -1) for part, x in labels.items()}
    return PooledItems(
        pool,
        parts,
        known.tolist(),
        lambda part, opened, source, at: VerifiedItems(opened, source, at, labels[part], trials.get(part)),
    )


def drawn(speakers: np.ndarray, count: int, where: str) -> Trials:
    """At most `count` different pairs of items, as many of one speaker as of two, by a fixed hash. speakers: [N]."""
    first, second = np.triu_indices(len(speakers), 1) if len(speakers) <= 2000 else _some_pairs(len(speakers))
    same = speakers[first] == speakers[second]
    if same.all() or not same.any():
        kind = "of two speakers" if same.all() else "of one speaker"
        raise UserError(f"{where} has no two utterances {kind}: there is nothing to verify")
    half = min(count // 2, int(same.sum()), int((~same).sum()))
    chosen = []
    for alike in (True, False):
        at = np.flatnonzero(same == alike)
        chosen.append(at[rng.permutation(0, "trials", str(alike), n=len(at))[:half]])
    kept = np.sort(np.concatenate(chosen))
    return first[kept], second[kept], same[kept]


def _some_pairs(count: int) -> tuple[np.ndarray, np.ndarray]:
    """Pairs of each item with the next ones by place, and with others far away."""
    first = np.repeat(np.arange(count), 20)
    second = (first + np.tile(np.r_[1:11, count // 11 * np.arange(1, 11) + 1], count)) % count
    pairs = np.unique(np.stack([np.minimum(first, second), np.maximum(first, second)], 1), axis=0)
    pairs = pairs[pairs[:, 0] != pairs[:, 1]]
    return pairs[:, 0], pairs[:, 1]


def listed(task: Task, pool: Pool) -> tuple[np.ndarray, Trials]:
    """(the places of the items in the task's list of trials, the trials). A line is `1 FILE FILE` for one speaker or `0
    FILE FILE` for two, with files relative to the set or to a folder in it, as in VoxCeleb's lists."""
    path = Path(str(task.trials))
    if not path.is_file():
        raise UserError(f"there is no list of trials {path}: set task.trials to a file of lines 1|0 FILE FILE")
    names = {name: place for place, name in enumerate(pool.names())}
    by_end = {"/".join(name.split("/")[-k:]): place for name, place in names.items() for k in (1, 2, 3)} | names
    rows = []
    for number, line in enumerate(files.lines(path), 1):
        if not line.strip():
            continue
        said, *pair = line.split()
        if said not in ("0", "1") or len(pair) != 2:
            raise UserError(f"{path}, line {number} is not of the form 1|0 FILE FILE")
        if strange := [name for name in pair if name not in by_end]:
            raise UserError(f"{path}, line {number}: this data has no file {strange[0]}")
        rows.append((by_end[pair[0]], by_end[pair[1]], said == "1"))
    if len({same for *_, same in rows}) < 2:
        raise UserError(f"{path} needs trials of one speaker and trials of two")
    first, second, same = (np.array(x) for x in zip(*rows, strict=True))
    places = np.unique([first, second])
    return places, (np.searchsorted(places, first), np.searchsorted(places, second), same.astype(bool))
