"""Warnings of collapse and overfitting during training, with their usual causes.

Read from an objective's logs: feature_std, feature_rank, target_std, code_perplexity, accuracy against chance and
val_accuracy, loss against uniform_loss (of a uniform prediction) and unigram_loss (of predicting token frequencies).
"""

import json
import math

from sslzoo.errors import UserError
from sslzoo.run import Run
from sslzoo.train.callback import StepCallback

WATCHED = {  # the log that each symptom is read from
    "constant features": "feature_std",
    "features on a line": "feature_rank",
    "constant targets": "target_std",
    "one code": "code_perplexity",
    "no better than chance": "chance",
    "loss of a guesser": "uniform_loss",
    "frequencies alone": "unigram_loss",
}
FATAL = {"constant targets"}  # a teacher and a student that agree on nothing never come back: the run is stopped


def symptoms(logs: dict[str, float], late: bool) -> dict[str, str]:
    """{symptom: message}. late: whether enough steps have passed for the model to beat chance."""
    found = {}
    std, rank, codes = (logs.get(k, math.inf) for k in ("feature_std", "feature_rank", "code_perplexity"))
    if std < 0.05:
        found["constant features"] = (
            f"every item is mapped to the same point (feature_std {std:.3f}, 1 is healthy): "
            "likely the learning rate is too high, or nothing pushes items apart (negatives, predictor, stop-gradient)"
        )
    if rank < 2:
        found["features on a line"] = (
            f"features use {rank:.1f} dimensions: likely the temperature is too high, the views too alike "
            "or the projection head without batch norm"
        )
    if late and logs.get("target_std", math.inf) < 0.1:
        found["constant targets"] = (
            f"the teacher's targets are the same everywhere (target_std {logs['target_std']:.3f}, below 0.1): likely the "
            "teacher follows too fast (raise objective.momentum), the learning rate is too high or the warm-up too short"
        )
    if codes < 3:
        found["one code"] = (
            f"almost all get one code or cluster (code_perplexity {codes:.1f}): likely the features are near one point, "
            "the learning rate is too high or, of learned codes, the diversity weight is too low or the Gumbel temperature "
            "falls too fast"
        )
    if late and logs.get("accuracy", math.inf) <= 1.2 * logs.get("chance", -math.inf):
        found["no better than chance"] = (
            f"accuracy {logs['accuracy']:.3f} is chance ({logs['chance']:.3f}): likely the learning rate is wrong by a "
            "factor of ten, the warm-up too short or the mask too large"
        )
    loss = logs.get("loss", -math.inf)
    if late and loss >= 0.995 * logs.get("uniform_loss", math.inf):
        found["loss of a guesser"] = (
            f"the loss {loss:.3f} is stuck at the log of the number of candidates ({logs['uniform_loss']:.3f}): "
            "likely the learning rate is wrong by a factor of ten, or the positives carry no common information"
        )
    elif late and loss >= 0.97 * logs.get("unigram_loss", math.inf):
        found["frequencies alone"] = (
            f"the loss {loss:.3f} is that of one who knows how frequent each token is, and not where it stands "
            f"({logs['unigram_loss']:.3f}, the unigram entropy): likely the run is too short, the learning rate wrong by a "
            "factor of ten or its warm-up too short"
        )
    return found


def record(run: Run, step: int, kind: str, message: str) -> None:
    """Add a line to a run's events.jsonl."""
    with open(run.events, "a", encoding="utf-8") as file:
        file.write(json.dumps({"step": step, "kind": kind, "message": message}) + "\n")


class CollapseGuard(StepCallback):
    """Writes a symptom to events.jsonl and the terminal when it has held for three measurements in a row; with
    stop=True, and for those in `FATAL`, also ends the run."""

    def __init__(self, run: Run, every: int, total_steps: int, stop: bool, say):
        self.run, self.every, self.stop, self.say = run, every, stop, say
        self.late = max(50, total_steps // 5)
        self.held: dict[str, int] = {}

    def state_dict(self) -> dict:
        return {"held": dict(self.held)}

    def load_state_dict(self, state: dict) -> None:
        self.held = dict(state["held"])

    def after_step(self, trainer, module) -> None:
        step = trainer.global_step - 1
        if step % self.every:
            return
        found = symptoms(module.logged, step >= self.late)
        for kind, name in WATCHED.items():
            if name in module.logged:  # some are not measured at every logged step
                self.held[kind] = self.held.get(kind, 0) + 1 if kind in found else 0
        for kind, message in found.items():
            if self.held[kind] != 3:
                continue
            if trainer.is_global_zero:
                record(self.run, step, kind, message)
                self.say(f"collapse at step {step}: {message}")
            if kind in FATAL:
                raise UserError(f"stopped at step {step}: {message}")
            if self.stop:
                raise UserError(f"stopped at step {step}: {message} — trainer.on_collapse=warn goes on regardless")


class OverfitGuard(StepCallback):
    """Warns, once per run, in events.jsonl and on the terminal, if training accuracy exceeds validation accuracy by
    more than `gap` at two validations in a row. Training accuracy is the mean over the logged steps since the last
    validation."""

    kind = "learned by heart"

    def __init__(self, run: Run, say, gap: float = 0.2):
        self.run, self.say, self.gap = run, say, gap
        self.sum, self.steps, self.held, self.said = 0.0, 0, 0, False

    def state_dict(self) -> dict:
        return {name: getattr(self, name) for name in ("sum", "steps", "held", "said")}

    def load_state_dict(self, state: dict) -> None:
        for name, value in state.items():
            setattr(self, name, value)

    def after_step(self, trainer, module) -> None:
        if "accuracy" not in module.logged:
            return
        self.sum, self.steps = self.sum + module.logged["accuracy"], self.steps + 1
        if "val_accuracy" not in module.logged:
            return
        accuracy, valid = self.sum / self.steps, module.logged["val_accuracy"]
        self.sum, self.steps = 0.0, 0
        self.held = self.held + 1 if accuracy - valid > self.gap else 0
        if self.held < 2 or self.said:
            return
        self.said = True
        if not trainer.is_global_zero:
            return
        step = trainer.global_step - 1
        message = (
            f"accuracy {accuracy:.3f} in training, {valid:.3f} on validation: the training set is learned by heart — "
            "likely it is small for so many steps, or its items are seen too much alike: fewer steps, more data, stronger "
            "views or dropout"
        )
        record(self.run, step, self.kind, message)
        self.say(f"step {step}: {message}")
