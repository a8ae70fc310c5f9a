"""Probing: how well frozen features predict a task's labels, against an untrained encoder and raw input."""

import time
from collections.abc import Callable
from functools import partial

import numpy as np
import torch
from torch import Tensor

from sslzoo.errors import ConfigError
from sslzoo.features.frozen import Source
from sslzoo.probe import bags
from sslzoo.probe.heads import Linear, Neighbours, fit
from sslzoo.probe.leakage import leakage
from sslzoo.probe.projections import confusion, projections
from sslzoo.probe.reader import Scale
from sslzoo.probe.subject import ProbeSubject
from sslzoo.probe.tasks import Part, Task, TaskData
from sslzoo.progress import Progress, quiet
from sslzoo.tasks.metrics import score

Read = Callable[[Part], Tensor | bags.Bags]  # a part's features
Known = Callable[[str, str, Callable[[], dict]], dict]  # task, kind, function that measures -> result
PATIENCE = 2  # penalties in a row below the best on valid


class Probe:
    """The probing protocol, the same for every source of features and every task.

    Features are standardised on train. A linear head on a softmax-weighted sum of the layers is fitted to train for
    each of `penalties`, strongest first, each warm-started from the last, until two after the best score worse. The
    head with the best score on valid (on a tie, the strongest penalty) is evaluated once on test. Also reported: `k`
    weighted nearest neighbours in the last layer, with no hyper-parameter to choose. by_layer: also fit a head on
    each layer alone, with the penalty chosen for the sum. Deterministic.

    suffix: what names its results beside those of this one.
    """

    suffix = ""

    def __init__(
        self,
        penalties: list[float] = [10.0, 1.0, 0.1, 0.01, 0.001, 0.0001, 0.00001, 0.000001],  # noqa: B006 (read, never written)
        k: int = 20,
        temperature: float = 0.07,
        max_gb: float = 4.0,
        by_layer: bool = False,
    ):
        if not penalties or min(penalties) <= 0:
            raise ConfigError(f"probe.penalties must be numbers above 0, got {list(penalties)}")
        if k < 1 or temperature <= 0 or max_gb <= 0:
            got = f"{k}, {temperature} and {max_gb}"
            raise ConfigError(f"probe.k must be 1 or more, probe.temperature and probe.max_gb above 0; got {got}")
        self.penalties = sorted(penalties, reverse=True)
        self.k, self.temperature, self.max_gb, self.by_layer = k, temperature, max_gb, by_layer

    def __call__(
        self,
        subject: ProbeSubject,
        task: Task,
        progress: Progress = quiet,
        known: Known = lambda task, kind, measure: measure(),
    ) -> dict:
        """{"pretrained": result, "untrained": result, "raw": result}, ready for JSON. known: returns a cached
        result or measures it.

        Raises ConfigError, before any data is read, if the task does not fit the subject.
        """
        task.check(subject.encoder, subject.data)
        opened = subject.opened(task)
        question = task.prepare(opened.pool, subject.encoder.stride)
        results = {}

        def measured(kind: str) -> dict:
            begun = time.perf_counter()
            reader = opened.reader(kind, question.parts["train"].items)
            result = self._measure(
                task.metric,
                question,
                reader.source,
                lambda part: reader(part, self.max_gb, progress),
                subject.device,
            )
            header = {"task": task.name, "kind": kind, "metric": task.metric}
            return {**header, **result, "seconds": round(time.perf_counter() - begun, 2)}

        for kind in subject.kinds:
            results[kind] = known(task.name, kind, partial(measured, kind))
        if "pretrained" in results:
            places = {name: part.items for name, part in question.parts.items()}
            found = leakage(opened.pool, places, subject.data, progress, subject.leakage_items)
            results["pretrained"] = {**results["pretrained"], "leakage": found}
        return results

    def _measure(self, metric: str, question: TaskData, source: Source, read: Read, device) -> dict:
        parts, classes = question.parts, question.classes
        truth = {name: part.labels for name, part in parts.items()}
        targets, decide = targets_of(truth["train"], classes)
        train, valid, scale = self._read(question, source, read, device)

        head, sweep = self._choose(metric, train, targets.to(device), valid, truth["valid"], decide)
        main = source.main
        neighbours = self._neighbours(train[main], targets, classes)

        penalty = max(sweep, key=sweep.get)
        alone = range(len(train)) if self.by_layer and len(train) > 1 else ()
        heads = {i: fit(train[i : i + 1], targets.to(device), head.weight.shape[1], penalty) for i in alone}

        # all hyper-parameters are chosen: the only place where test is read
        test = scale(read(parts["test"])).to(device)
        answers = head(test)
        predicted = decide(answers)
        each = {
            name: [score(metric, truth[name], decide(one(x[i : i + 1]))) for i, one in heads.items()]
            for name, x in (("valid", valid), ("test", test))
        }
        return {
            "linear": {
                "test": score(metric, truth["test"], predicted),
                "valid": max(sweep.values()),
                "penalty": penalty,
                "edge": len(sweep) > 1 and penalty in (max(sweep), min(sweep)),  # a penalty beyond might score better
                "sweep": {f"{penalty:g}": value for penalty, value in sweep.items()},
                "layers": source.layers,
                "layer_weights": head.layers.softmax(0).tolist(),
                **({"by_layer": each} if heads else {}),
            },
            "knn": {
                "test": score(metric, truth["test"], decide(neighbours(test[main]))),
                "k": neighbours.k,
                "temperature": self.temperature,
                "layer": source.layers[main],
            },
            **described(metric, question, predicted),
            "projections": projections(
                head.mix(test), answers, truth["test"], predicted, (head(train), truth["train"]), classes is not None
            ),
        }

    def _read(self, question: TaskData, source: Source, read: Read, device):
        """(features of train, of valid, the scale of train), standardised and on the device."""
        train, valid = (read(question.parts[part]) for part in ("train", "valid"))
        kind = bags.BagScale if isinstance(train, bags.Bags) else Scale
        scale = kind.of(train, source.per_dimension_scale)
        return scale(train).to(device), scale(valid).to(device), scale

    def _neighbours(self, train, targets: Tensor, classes: list[str] | None):
        """Nearest neighbours in one plane of train's features."""
        votes = targets if targets.is_floating_point() else torch.eye(len(classes or []))[targets]
        if isinstance(train, bags.Bags):
            return bags.BagNeighbours.of(train, votes, self.k, self.temperature)
        return Neighbours.of(train, votes.to(train.device), self.k, self.temperature)

    def _choose(self, metric, train, targets, valid, truth, decide) -> tuple[Linear, dict[float, float]]:
        """The head with the best score on valid, and each penalty's score there. Stops once `PATIENCE` penalties
        score below the best: weaker ones overfit and take the longest to fit. (A tie does not count as worse:
        under strong penalties a head may predict one class only.)"""
        outputs = targets.shape[1] if targets.is_floating_point() else int(targets.max()) + 1
        best, head, sweep, worse = None, None, {}, 0
        solve = bags.fit if isinstance(train, bags.Bags) else fit
        for penalty in self.penalties:
            head = solve(train, targets, outputs, penalty, start=head)
            found = score(metric, truth, decide(head(valid)))
            if best is None or found > max(sweep.values()):
                best, worse = head, 0
            elif found < max(sweep.values()):
                worse += 1
            sweep[penalty] = found
            if worse == PATIENCE:
                break
        return best, sweep


def targets_of(labels: np.ndarray, classes: list[str] | None):
    """The labels of train as targets, and a function from a head's outputs [N, C] to labels."""
    if classes is not None:
        return torch.from_numpy(labels), lambda answers: answers.argmax(1).cpu().numpy()
    values = torch.from_numpy(labels).float()[:, None]
    mean, std = values.mean().item(), max(values.std(correction=0).item(), 1e-6)
    return (values - mean) / std, lambda answers: answers[:, 0].double().cpu().numpy() * std + mean


def _chance(metric: str, truth: dict[str, np.ndarray]) -> float:
    """The score of a constant prediction: the majority class of train, or its mean."""
    train = truth["train"]
    answer = np.bincount(train).argmax() if train.dtype.kind == "i" else train.mean()
    return score(metric, truth["test"], np.full_like(truth["test"], answer))


def described(metric: str, question: TaskData, predicted: np.ndarray) -> dict:
    """What a result says of the data and of predictions on test, beside scores."""
    parts, classes = question.parts, question.classes
    truth = {name: part.labels for name, part in parts.items()}
    return {
        "chance": _chance(metric, truth),
        **{f"n_{name}": len(part) for name, part in parts.items()},
        "classes": classes,
        "unseen": question.unseen,
        "per_class": _per_class(truth["test"], predicted, classes),
        "confusion": None if classes is None else confusion(truth["test"], predicted),
    }


def _per_class(truth: np.ndarray, predicted: np.ndarray, classes: list[str] | None) -> dict[str, float] | None:
    """The linear head's recall of each class on test."""
    if classes is None:
        return None
    present = np.unique(truth)
    return {classes[c]: float((predicted[truth == c] == c).mean()) for c in present}
