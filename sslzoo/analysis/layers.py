"""Layer by layer: what a task finds in each, what it weighs, how many directions there are, and how they look."""

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from sslzoo.analysis.base import Analysis, Figure, Findings, Lines, Plane, Subject
from sslzoo.build import load_encoder
from sslzoo.errors import ConfigError
from sslzoo.features.store import FeatureCache
from sslzoo.label.agreement import agreement
from sslzoo.nn import cluster
from sslzoo.nn.rank import rankme
from sslzoo.probe.evaluate import Probe
from sslzoo.probe.projections import SHOWN, principal, rounded, tsne
from sslzoo.probe.subject import ProbeSubject
from sslzoo.probe.tasks import Part, Task
from sslzoo.progress import Progress
from sslzoo.run import Run

COMPONENTS = 50  # principal components that t-SNE is given


@dataclass
class Measured:
    """Of one encoder, by layer: RankMe of the task's test rows, PNMI of clusters with its classes (None for values)."""

    rank: list[float]
    pnmi: list[float] | None


class Layers(Analysis):
    """The layers of a run's encoder and of the untrained one, on a task: the score of a linear head on each alone,
    their weights in the head on all, the effective rank (RankMe, 2210.02885), how much of the classes' entropy clusters
    of a layer have (PNMI; HuBERT, 2106.07447, section V-A), and pictures of some layers by PCA and t-SNE.

    task: of a run's own data, or with its own. probe: how heads are fitted; `by_layer` is set. clusters: of k-means,
    fitted to train's rows; no more than a tenth of them. drawn: how many layers are pictured, evenly spaced; the best
    is among them. cache_gb: as of `sslzoo probe`.
    """

    def __init__(self, task: Task, probe: Probe, clusters: int = 100, drawn: int = 4, cache_gb: float = 20.0):
        if clusters < 2 or drawn < 1 or cache_gb < 0:
            raise ConfigError(
                f"analysis=layers needs clusters of 2 or more, drawn of 1 or more and cache_gb of 0 or more; got {clusters}, "
                f"{drawn} and {cache_gb}"
            )
        self.task, self.probe, self.clusters, self.drawn, self.cache_gb = task, probe, clusters, drawn, cache_gb
        self.probe.by_layer = True

    def check(self, subject: Subject, other: Subject | None) -> None:
        if "tokens" not in subject.encoder.offers:
            raise ConfigError(
                f"{type(subject.encoder).__name__} gives one vector an item, and has no layers to compare"
            )
        self.task.check_probed()
        self.task.check(subject.encoder, subject.data)

    def __call__(self, subject: Subject, other: Subject | None, progress: Progress) -> Findings:
        untrained, _ = load_encoder(Run(subject.folder), untrained=True)
        encoders = {"pretrained": subject.encoder, "untrained": untrained}
        probed = ProbeSubject(encoders, subject.data, subject.folder, subject.device, FeatureCache(self.cache_gb))
        probed.kinds = list(encoders)
        results = self.probe(probed, self.task, progress)
        linear = {kind: results[kind]["linear"] for kind in encoders}
        opened = probed.opened(self.task)
        question = self.task.prepare(opened.pool, subject.encoder.stride)
        measured, planes = {}, []
        for kind in encoders:
            reader = opened.reader(kind, question.parts["train"].items)
            parts = {p: reader(question.parts[p], self.probe.max_gb, progress) for p in ("train", "test")}
            measured[kind] = self._measured(parts, question.parts, question.classes is not None)
            if kind == "pretrained":
                scores = linear[kind]["by_layer"]["valid"]
                planes = self._planes(
                    parts["test"], question.parts["test"], question.classes, linear[kind]["layers"], scores
                )
        probed.cache.trim()
        return self._findings(subject, results["pretrained"], linear, measured, planes)

    def _measured(self, features: dict[str, Tensor], parts: dict[str, Part], classed: bool) -> Measured:
        count = max(2, min(self.clusters, len(parts["train"]) // 10))
        pnmi: list[float] | None = [] if classed else None
        for train, test in zip(features["train"], features["test"], strict=True):
            if pnmi is not None:
                labels = cluster.fit(train.contiguous(), count, seed=0).assign(test.contiguous())[0]
                pnmi.append(agreement(parts["test"].labels, labels.numpy())["pnmi"] or 0.0)
        return Measured([rankme(plane) for plane in features["test"]], pnmi)

    def _planes(
        self, test: Tensor, part: Part, classes: list[str] | None, layers: list[str], scores: list[float]
    ) -> list[Plane]:
        some = np.linspace(0, len(layers) - 1, min(self.drawn, len(layers))).round().astype(int).tolist()
        rows = np.linspace(0, len(part) - 1, min(len(part), SHOWN)).round().astype(int)
        label = [part.labels[row].item() if classes is None else classes[part.labels[row]] for row in rows]
        found = []
        for layer in sorted({*some, int(np.argmax(scores))}):
            spread = principal(test[layer][torch.from_numpy(rows)].double(), COMPONENTS)
            for name, plane in (("PCA", spread[:, :2]), ("t-SNE", tsne(spread))):
                if plane is not None:
                    found.append(Plane(f"layer {layers[layer]}, {name}", rounded(plane), label))
        return found

    def _findings(
        self, subject: Subject, result: dict, linear: dict, measured: dict[str, Measured], planes: list
    ) -> Findings:
        layers, metric = linear["pretrained"]["layers"], result["metric"]
        alone = {kind: one["by_layer"]["test"] for kind, one in linear.items()}
        best = int(np.argmax(linear["pretrained"]["by_layer"]["valid"]))
        lines = [
            Lines(f"{metric} by layer", layers, alone),
            Lines("weight by layer", layers, {kind: one["layer_weights"] for kind, one in linear.items()}),
            Lines("effective rank (RankMe)", layers, {kind: one.rank for kind, one in measured.items()}),
        ]
        pnmi = {kind: one.pnmi for kind, one in measured.items() if one.pnmi is not None}
        if pnmi:
            lines.append(Lines("PNMI of clusters", layers, pnmi))
        told = (
            f"layer {layers[best]} is best on valid: {100 * alone['pretrained'][best]:.1f} on test, and the head on all layers "
            f"{100 * linear['pretrained']['test']:.1f}"
        )
        said = f"{metric.capitalize()} on {result['n_test']} of test, chance {100 * result['chance']:.1f}; {told}."
        figures = [Figure(f"Layer by layer: {self.task.name}", said, lines=lines)]
        if planes:
            said = "Test rows of the pretrained encoder's layers; t-SNE keeps neighbours, and distances between groups mean little."
            figures.append(Figure(f"Layers as pictures: {self.task.name}", said, planes=planes))
        scores = "  ".join(
            f"{name}: {100 * value:.1f}" for name, value in zip(layers, alone["pretrained"], strict=True)
        )
        summary = f"{self.task.name} by layer, {metric} on {result['n_test']} of test\n  {scores}\n  {told}"
        numbers = {
            "task": self.task.name,
            "metric": metric,
            "layers": layers,
            "linear": linear,
            "rankme": {kind: one.rank for kind, one in measured.items()},
            "pnmi": pnmi,
        }
        return Findings(f"layers-{self.task.name}", summary, figures, numbers)

    def next_steps(self, subject: Subject) -> list[list[str]]:
        return [["analyze", f"run={subject.folder}", "analysis=cca"]]
