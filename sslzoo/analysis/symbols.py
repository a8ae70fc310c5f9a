"""Classification of symbol strings that are written in words: what pretraining on text gives beyond language."""

import json
from pathlib import Path

from sslzoo.analysis.base import Analysis, Figure, Findings, Lines, Subject, need_text
from sslzoo.build import load_encoder
from sslzoo.probe.evaluate import Probe
from sslzoo.probe.subject import ProbeSubject
from sslzoo.probe.tasks import Task
from sslzoo.progress import Progress
from sslzoo.run import Run


class Symbols(Analysis):
    """Classification of strings whose symbols are mapped to words of the run's vocabulary (Kao and Lee 2021,
    2103.07162), by a probe of the encoder, of the untrained encoder and of a bag of symbols, which ignores order. Also
    reports the results of `sslzoo adapt` on the same task, pretrained and untrained, if there are any.

    task: the strings and their classes; see `data.builtin.dna`. probe: how heads are fitted.
    """

    def __init__(self, task: Task, probe: Probe):
        self.task, self.probe = task, probe

    def check(self, subject: Subject, other: Subject | None) -> None:
        need_text(subject, "analysis=symbols")
        self.task.check(subject.encoder, subject.data)

    def __call__(self, subject: Subject, other: Subject | None, progress: Progress) -> Findings:
        untrained, data = load_encoder(Run(subject.folder), untrained=True)
        encoders = {"pretrained": subject.encoder, "untrained": untrained}
        probed = ProbeSubject(encoders, data, subject.folder, subject.device)
        results = self.probe(probed, self.task, progress)
        metric, chance = results["pretrained"]["metric"], results["pretrained"]["chance"]
        scores = {kind: result["linear"]["test"] for kind, result in results.items()}
        tuned = fine_tuned(subject.folder, self.task.name)
        told = ", ".join(f"{kind} {100 * value:.1f}" for kind, value in (scores | tuned).items())
        n = results["pretrained"]["n_test"]
        lines = []
        if "by_layer" in results["pretrained"]["linear"]:
            series = {k: results[k]["linear"]["by_layer"]["test"] for k in encoders}
            lines = [Lines(f"{metric} by layer", results["pretrained"]["linear"]["layers"], series)]
        said = (
            f"{metric.capitalize()} on {n} strings of test, chance {100 * chance:.1f}: {told}. Raw is a bag of symbols."
        )
        numbers = {"metric": metric, "chance": chance, "n_test": n, "probed": scores, "fine_tuned": tuned}
        numbers["layers"] = {kind: result["linear"] for kind, result in results.items() if kind in encoders}
        summary = f"{self.task.name}: {metric} on {n} strings of test, chance {100 * chance:.1f}\n  {told}"
        figure = Figure(f"Symbols written in words: {self.task.name}", said, lines=lines)
        return Findings("symbols", summary, [figure], numbers)

    def next_steps(self, subject: Subject) -> list[list[str]]:
        adapt = ["adapt", f"run={subject.folder}", f"task={self.task.name}"]
        return [adapt, [*adapt, "untrained=true"]]


def fine_tuned(folder: Path, task: str) -> dict[str, float]:
    """{method: test score} of `sslzoo adapt` on the task, such as "full" and "full from a random start"."""
    found = {}
    for path in sorted(folder.glob("adapted/*/result.json")):
        result, config = json.loads(path.read_text(encoding="utf-8")), path.with_name("config.yaml")
        if result.get("task") == task:
            start = " from a random start" if "\nuntrained: true" in config.read_text(encoding="utf-8") else ""
            found[f"{result['method']}{start}"] = result["test"][result["metric"]]
    return found
