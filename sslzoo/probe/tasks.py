"""Probing tasks: which labels to predict, how the data is split, which metric scores the predictions."""

from dataclasses import dataclass
from typing import Literal

import numpy as np

from sslzoo.data import labels
from sslzoo.data.base import MODALITIES, SPLITS, Data
from sslzoo.data.transcripts import Symbols
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.compatible import check_compatible
from sslzoo.features.intervals import labels_at
from sslzoo.probe import shots as few
from sslzoo.probe.splits import ByGroup, ByItem, Fold, Official, Pool
from sslzoo.probe.subset import subset, tell
from sslzoo.tasks.metrics import BY_KIND

LEARNED = ("answers", "transcripts", "classes", "verification", "diarization")  # kinds of tasks that are not probed


@dataclass
class Part:
    """Train, valid or test of a task: M labelled rows, each an item or a frame of one.

    items: [M], the place in the pool of each row's item.
    centres: [M], the middle of each row's frame, in samples or tokens of its item; None if rows are items.
    labels: [M], class numbers (int64) or values (float64).
    """

    items: np.ndarray
    centres: np.ndarray | None
    labels: np.ndarray

    def __len__(self) -> int:
        return len(self.labels)


@dataclass
class TaskData:
    """A task's labels on a data set. classes: names by number, None for a regression. unseen: classes that occur in
    valid or test but in no frame of train."""

    parts: dict[str, Part]
    classes: list[str] | None
    unseen: list[str]


class Task:
    """A probing task.

    name: the name of its result files; None for the label's. label: the name of a label column or of time-aligned
    labels; None if the data has only one.
    kind: what a row is: an item with a class, an item with a value, a frame with a class, or, for `sslzoo adapt` only,
    a question whose answer is in a text, an utterance with a transcript, or an item with a class in each of several
    label columns ("classes"), whose names `label` joins with a plus: action+object+location, or a pair of utterances of
    one speaker or two ("verification"). trials: a list of such pairs, lines of 1 or 0 and two files; None: they are
    drawn. A recording in which it is asked who speaks when ("diarization") has at most `speakers`, and is read `chunk`
    frames at a time.
    symbols: of transcripts. balanced: of a classification: train draws each class equally often (which needs batches of
    a number of items), and validation's score is the mean over classes.
    split: `Official`, `ByGroup`, `ByItem` or `Fold`. data: the task's own; None for the run's.
    classes: use only items with these labels. min_count: leave out classes with fewer items.
    max_items: items per part at most, max_frames: frames per part at most; chosen by a fixed hash.
    shots: K, the items of each class in train, and as many in validation; of values, K above train's median and K not
    above it; of frames and answers, K items in all. split_seed: decides which. test is as without. See `probe.shots`.
    share: part of train's items to use, the same of each class, such as 0.01 for the 1 % of ImageNet's labels.

    Items whose label is empty, None or NaN are left out, as are frames outside all intervals.
    """

    def __init__(
        self,
        name: str | None = None,
        label: str | None = None,
        modality: list[str] | None = None,
        kind: Literal[
            "classification", "regression", "frames", "answers", "transcripts", "classes", "verification", "diarization"
        ] = "classification",
        metric: Literal[
            "accuracy", "f1", "accuracy_f1", "matthews", "pearson_spearman", "pearson", "spearman", "exact", "wer",
            "cer", "per", "balanced_accuracy", "eer", "der", "slot_f1", "slot_cer",
        ] = "accuracy",
        split: Official | ByGroup | ByItem | Fold | None = None,
        data: Data | None = None,
        classes: list[str | int | float | bool] | None = None,
        min_count: int = 1,
        max_items: int | None = None,
        max_frames: int = 20000,
        shots: int | None = None,
        split_seed: int = 13,
        share: float | None = None,
        symbols: Symbols | None = None,
        balanced: bool = False,
        trials: str | None = None,
        speakers: int = 2,
        chunk: int = 2000,
    ):  # fmt: skip
        name = name or label or kind
        modality = list(MODALITIES) if modality is None else list(modality)
        if not set(modality) <= set(MODALITIES):
            raise ConfigError(f"task {name}: modality must be some of {', '.join(MODALITIES)}; got {modality}")
        if metric not in (fits := BY_KIND[kind]):
            raise ConfigError(f"task {name}: metric={metric} does not score {kind}; one that does: {', '.join(fits)}")
        if min(min_count, max_frames, 1 if max_items is None else max_items) < 1:
            raise ConfigError(f"task {name}: min_count, max_items and max_frames must be 1 or more")
        if shots is not None and shots < 1:
            raise ConfigError(f"task {name}: shots must be 1 or more, or null for all items; got {shots}")
        if share is not None and (not 0 < share <= 1 or shots is not None):
            raise ConfigError(
                f"task {name}: share is a part of train above 0, at most 1, and without shots; got {share}"
            )
        if kind in ("regression", *LEARNED) and (classes is not None or min_count > 1):
            raise ConfigError(f"task {name}: classes and min_count are for classes, not for values")
        if (symbols is not None) != (kind == "transcripts") or (symbols is not None and metric not in symbols.rates):
            raise ConfigError(
                f"task {name}: kind=transcripts needs symbols and one of their rates as metric, and no other kind does"
            )
        if balanced and kind != "classification":
            raise ConfigError(f"task {name}: balanced is for kind=classification")
        self.name, self.label, self.modality, self.kind, self.metric = name, label, modality, kind, metric
        self.split, self.data = split or Official(), data
        self.classes = None if classes is None else [_named(c) for c in classes]
        self.min_count, self.max_items, self.max_frames = min_count, max_items, max_frames
        self.shots, self.split_seed, self.share = shots, split_seed, share
        self.symbols, self.balanced, self.trials = symbols, balanced, trials
        self.speakers, self.chunk = speakers, chunk

    def check_probed(self) -> None:
        """Raise ConfigError for a task that cannot be probed, only adapted to."""
        if self.kind in LEARNED:
            raise ConfigError(f"task {self.name} is learned, not probed: `sslzoo adapt … task={self.name}`")

    def check(self, encoder, data: Data) -> None:
        """Raise ConfigError, before any data is read, if the encoder or the run's data does not fit the task."""
        used = data if self.data is None else self.data
        if encoder.modality != used.modality or used.modality not in self.modality:
            raise ConfigError(
                f"task {self.name} is about {' or '.join(self.modality)} data: its data is {used.modality} "
                f"and the encoder reads {encoder.modality} — `sslzoo list tasks` says which tasks there are"
            )
        if self.kind == "answers" and not hasattr(used, "windows"):
            raise ConfigError(
                f"task {self.name} is about questions and paragraphs: choose data that has them, data=squad"
            )
        if self.kind in ("frames", "transcripts", "verification", "diarization") and "tokens" not in encoder.offers:
            raise ConfigError(f"task {self.name} labels frames, and {type(encoder).__name__} gives one vector an item")
        check_compatible(used, encoder, f"task {self.name}", "data" if self.data is None else "task.data")

    def prepare(self, pool: Pool, stride: int) -> TaskData:
        """The task's labels and parts on this data. stride: samples or tokens between frames.

        Raises UserError if a part is empty, or if valid or test has a class that train lacks.
        """
        if self.kind == "frames":
            return self._prepare_frames(pool, stride)
        values = pool.column(self.label or self._only(pool.columns(), "label columns"))
        names = labels.column(map(_named, values))
        places = np.flatnonzero(names != "")
        if self.kind == "regression":
            targets = np.array([self._value(pool, int(i), values[i]) for i in places], dtype=np.float64)
            taken = self.parts_of(pool, places, targets)
            found = {p: targets[np.searchsorted(places, at)] for p, at in taken.items()}
            return TaskData({p: Part(taken[p], None, found[p]) for p in taken}, None, [])
        texts = names[places]
        if self.classes is not None:
            kept = np.isin(texts, self.classes)
            places, texts = places[kept], texts[kept]
        kinds, counts = np.unique(texts, return_counts=True)
        labels.check_alike(kinds, f"task {self.name}: this data")
        kept = np.isin(texts, kinds[counts >= self.min_count])
        places, texts = places[kept], texts[kept]
        taken = self.parts_of(pool, places, texts)
        found = {p: texts[np.searchsorted(places, at)] for p, at in taken.items()}
        known = np.unique(found["train"])
        for part in ("valid", "test"):
            strange = np.setdiff1d(found[part], known)
            if len(strange):
                some = ", ".join(strange[:5]) + (" …" if len(strange) > 5 else "")
                raise UserError(
                    f"task {self.name}: {part} has labels that train has not: {some} — {self._mend(len(known))}"
                )
        classes = _sorted(known)
        if len(classes) < 2:
            raise UserError(
                f"task {self.name}: all of train is labelled '{classes[0]}': there is nothing to tell apart"
            )
        number = {c: i for i, c in enumerate(classes)}
        parts = {p: Part(taken[p], None, np.array([number[t] for t in found[p]])) for p in taken}
        return TaskData(parts, classes, [])

    def _prepare_frames(self, pool: Pool, stride: int) -> TaskData:
        intervals = pool.intervals(self.label or self._only(pool.timed(), "time-aligned labels"))
        places = np.array([i for i, stretch in enumerate(intervals) if len(stretch.label)], dtype=np.int64)
        parts = {}
        for part, at in self.parts_of(pool, places, None).items():
            frames = [(np.arange(max(1, pool.lengths[i] // stride)) + 0.5) * stride for i in at]
            spoken = [labels_at(f / pool.rate, intervals[i]) for i, f in zip(at, frames, strict=True)]
            items = np.repeat(at, [len(f) for f in frames])
            centres, texts = np.concatenate(frames), np.concatenate(spoken)
            kept = np.flatnonzero((texts != "") if self.classes is None else np.isin(texts, self.classes))
            kept = kept[subset(len(kept), self.max_frames, "frames", self.name, part)]
            if not len(kept):
                raise UserError(f"task {self.name}: no frame of {part} lies in an interval '{self.label or ''}'")
            parts[part] = items[kept], centres[kept], texts[kept]
        known = np.unique(parts["train"][2])
        unseen = np.setdiff1d(np.concatenate([texts for *_, texts in parts.values()]), known)
        # frames of unseen classes are scored too: leaving them out would make the task easier
        classes = _sorted(known) + _sorted(unseen)
        number = {c: i for i, c in enumerate(classes)}
        numbered = {p: Part(i, c, np.array([number[t] for t in texts])) for p, (i, c, texts) in parts.items()}
        return TaskData(numbered, classes, _sorted(unseen))

    def prepare_tags(self, pool: Pool) -> tuple[str, dict[str, np.ndarray], list[str], list[str]]:
        """For tagging whole items, with a class per word or frame: (the name of the time-aligned labels, the places of
        each part's items, all classes by number, the classes that train lacks). `max_frames` is ignored.

        Raises UserError if a part has no labelled item.
        """
        name = self.label or self._only(pool.timed(), "time-aligned labels")
        intervals = pool.intervals(name)

        def found(places: np.ndarray) -> np.ndarray:
            labels = np.unique(np.concatenate([np.unique(intervals[i].label) for i in places]).astype(str))
            return labels[labels != ""] if self.classes is None else labels[np.isin(labels, self.classes)]

        places = [i for i, stretch in enumerate(intervals) if len(stretch.label) and len(found(np.array([i])))]
        parts = self.parts_of(pool, np.array(places, np.int64), None)
        known = found(parts["train"])
        unseen = np.setdiff1d(np.concatenate([found(parts[part]) for part in ("valid", "test")]), known)
        return name, parts, _sorted(known) + _sorted(unseen), _sorted(unseen)

    def some_items(self, part: str, count: int, kinds: np.ndarray | None = None) -> np.ndarray:
        """Indices of the items to use, of `count` in a part: `shots` of each kind in train and valid, else at most
        `max_items`. kinds [count]: their classes; None for one."""
        if self.shots is not None and part != "test":
            one = np.full(count, "")
            return few.draw(one if kinds is None else kinds, self.shots, self.split_seed, part, self.name)
        if self.share is not None and part == "train":
            return few.draw_share(np.full(count, "") if kinds is None else kinds, self.share, self.split_seed)
        if self.max_items is not None and count > self.max_items:
            tell(self.name, part, count, self.max_items)
        return subset(count, self.max_items, "items", self.name, part, kinds=kinds if part == "train" else None)

    def _only(self, names: list[str], what: str) -> str:
        """The only one of `names`, for a task without a label's name. Raises UserError if there are none or several."""
        if len(names) != 1:
            raise UserError(
                f"task {self.name}: this data has no {what} — name data that have, with data=…"
                if not names
                else f"task {self.name}: this data has several {what}: {', '.join(names)} — set task.label to one"
            )
        return names[0]

    def parts_of(self, pool: Pool, places: np.ndarray, labels: np.ndarray | None) -> dict[str, np.ndarray]:
        """Sorted places of each part. labels: of `places`, names of classes or values. Raises UserError if a part is
        empty."""
        if not len(places):
            raise UserError(
                f"task {self.name}: no item of this data has a label '{self.label or ''}' that is asked for"
            )
        values = labels is not None and labels.dtype.kind == "f"
        parts = self.split(pool, places, None if values else labels)
        for part in SPLITS:
            if not len(parts[part]):
                raise UserError(f"task {self.name}: {part} has no labelled items — {self.split.mend}")
        kinds = {} if labels is None else {p: labels[np.searchsorted(places, at)] for p, at in parts.items()}
        if values:
            kinds = few.halves(kinds) if self.shots is not None else {}
        return {part: at[self.some_items(part, len(at), kinds.get(part))] for part, at in parts.items()}

    def _mend(self, classes: int) -> str:
        """Advice on how to get labels that train lacks into it. classes: how many it has."""
        if self.max_items is not None and classes >= self.max_items:
            return "set a task.max_items that is larger than the number of classes"
        return f"{self.split.mend}, or set task.classes to those that are meant"

    def _value(self, pool: Pool, place: int, value) -> float:
        try:
            return float(value)
        except ValueError:
            raise UserError(f"task {self.name}: '{value}' of {pool.names()[place]} is not a number") from None


def _named(value) -> str:
    """A label's name, "" for a missing one; a string is returned unchanged."""
    try:
        return value if isinstance(value, str) else labels.name(value)
    except ValueError as error:
        raise UserError(f"a label is {error}: {str(value)[:80]}") from error


def _sorted(names) -> list[str]:
    """Sorted by value if all are integers, else by name."""
    names = [str(n) for n in names]
    numbers = all(n.lstrip("-").isdigit() for n in names)
    return sorted(names, key=int) if numbers else sorted(names)
