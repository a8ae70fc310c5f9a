"""Pattern-exploiting training: models of several patterns label texts, on which a classifier is trained (PET, iPET)."""

import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from sslzoo.adapt.members import Ensemble
from sslzoo.adapt.methods import Full
from sslzoo.adapt.unlabelled import SoftLabelledItems, TrainedOn, text_split
from sslzoo.errors import ConfigError
from sslzoo.prompts.ensemble import softmax
from sslzoo.run import Run
from sslzoo.tasks.classification import Classification
from sslzoo.train import launch


@dataclass
class PET(Full):
    """PET (Schick & Schuetze 2021, 2001.07676, section 3). A model of each of `prompt.patterns` is trained on the
    task's few labels, `repetitions` times (`prompts.pattern_training`); their scores of unlabelled texts, weighted and
    softened, are the soft labels on which the whole encoder and a new head are trained, as any adaptation is.

    The models are in `generation-0/pattern-<p>-<repetition>` of the adaptation's folder, each a run of its own with its
    accuracies in result.json.

    repetitions: models of a pattern, each with a seed of its own. steps: of each model; `trainer.max_steps` is the
    classifier's. lr: the models', None for `optim.lr`. labelled_rows: of a step at most; beside each,
    `unlabelled_per_row` texts for language modelling, weighted by `alpha`. weights: of a model in the ensemble, its
    accuracy on the labelled items before it was trained, or alike for all (section 3.3). temperature: of the soft
    labels. unlabelled: a file of texts beside the task's, with the same columns; None for train's items beyond the
    labelled ones. max_unlabelled: how many at most.
    """

    repetitions: int = 3
    steps: int = 250
    lr: float | None = None
    labelled_rows: int = 4
    unlabelled_per_row: int = 3
    alpha: float = 1e-4
    weights: Literal["accuracy", "uniform"] = "accuracy"
    temperature: float = 2.0
    unlabelled: str | None = None
    max_unlabelled: int = 10000

    prompted = True  # these four are no settings
    least_patterns = 1
    generations = 1
    labels = True

    def __post_init__(self):
        for name in ("repetitions", "steps", "labelled_rows", "max_unlabelled"):
            if getattr(self, name) < 1:
                raise ConfigError(f"method.{name} must be at least 1, got {getattr(self, name)}")
        if self.unlabelled_per_row < 0 or not 0 <= self.alpha < 1 or self.temperature <= 0:
            raise ConfigError(
                "method needs unlabelled_per_row >= 0, 0 <= alpha < 1 and temperature > 0, got "
                f"{self.unlabelled_per_row}, {self.alpha} and {self.temperature}"
            )

    def check(self, objective: type) -> None:
        if not issubclass(objective, Classification):
            raise ConfigError(
                f"PET is for tasks of one class an item, with head=classification, and not for {objective.__name__}: "
                "choose another task, or method=prompt"
            )

    def train(self, job: Any, run: Run, folder: Run, shared: Run) -> bool:
        """Train the models that are not done, in `shared`, and the classifier, in `folder`."""
        ensemble = Ensemble(self, job, run, shared)
        ensemble.train()
        split, _ = text_split(ensemble.texts, job.data.tokenizer, job.data.max_tokens)
        labels = SoftLabelledItems(split, softmax(ensemble.combined(), self.temperature))
        classifier = ensemble.build({**job.config, "objective": soft(job.config["objective"], self.temperature)})
        return launch.pretrain(replace(classifier, data=TrainedOn(classifier.data, labels)), folder)

    def spent(self, folder: Run) -> dict:
        """The models' results by name, and the seconds of all trainings together."""
        models, seconds = {}, 60 * json.loads(folder.summary.read_text(encoding="utf-8"))["minutes"]
        for path in sorted(folder.folder.glob("generation-*/*/result.json")):
            models[f"{path.parts[-3]}/{path.parts[-2]}"] = found = json.loads(path.read_text(encoding="utf-8"))
            seconds += found["seconds"]
        return {"models": models, "seconds": round(seconds, 2)}


@dataclass
class IPET(PET):
    """iPET (section 3.4): `generations` ensembles, each trained anew from the run's weights. From the second on, a
    model has `growth` times as many items as the one before it, of the same shares of classes: the labelled ones, and
    others with the label that a random `share` of the other models gives them, drawn by its probability.

    labels: whether the task's labelled items are used. False: zero-shot; the first generation is not trained, and the
    second has 10 items, drawn from those of which its models are surest.
    """

    generations: int = 3
    share: float = 0.25
    growth: float = 5.0
    labels: bool = True

    least_patterns = 2

    def __post_init__(self):
        super().__post_init__()
        if self.generations < 2 or not 0 < self.share <= 1 or self.growth <= 1:
            raise ConfigError(
                "method needs generations >= 2, 0 < share <= 1 and growth > 1, got "
                f"{self.generations}, {self.share} and {self.growth}"
            )
        if not self.labels and self.weights == "accuracy":
            raise ConfigError(
                "method.weights=accuracy is the accuracy on labelled items, which method.labels=false leaves out: set "
                "method.weights=uniform"
            )


def soft(objective: dict, temperature: float) -> dict:
    """The node of a classification with soft labels."""
    return {**objective, "_target_": "sslzoo.tasks.soft_labels.SoftLabels", "temperature": temperature}
