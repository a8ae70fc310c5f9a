"""Collapse, named as it happens, with what usually causes it.

Watched among an objective's logs: feature_std, feature_rank, code_perplexity, accuracy with chance, and
loss with uniform_loss (the loss of one who guesses).
"""

import json
import math

from sslzoo.errors import UserError
from sslzoo.run import Run
from sslzoo.train.callback import StepCallback

WATCHED = {  # what each symptom is read from
    "constant features": "feature_std",
    "features on a line": "feature_rank",
    "one code": "code_perplexity",
    "no better than chance": "chance",
    "loss of a guesser": "uniform_loss",
}


def symptoms(logs: dict[str, float], late: bool) -> dict[str, str]:
    """What is wrong, by kind. `late`: enough steps have passed that the model should beat guessing."""
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
    if late and logs.get("loss", -math.inf) >= 0.995 * logs.get("uniform_loss", math.inf):
        found["loss of a guesser"] = (
            f"the loss {logs['loss']:.3f} is stuck at the log of the number of candidates ({logs['uniform_loss']:.3f}): "
            "likely the learning rate is wrong by a factor of ten, or the positives carry no common information"
        )
    return found


class CollapseGuard(StepCallback):
    """Writes each new symptom into events.jsonl and to the terminal once it held at three measurements in a
    row; with stop=True ends the run there."""

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
            if name in module.logged:  # some are measured less often than they are looked at
                self.held[kind] = self.held.get(kind, 0) + 1 if kind in found else 0
        for kind, message in found.items():
            if self.held[kind] != 3:
                continue
            if trainer.is_global_zero:
                with open(self.run.events, "a") as file:
                    file.write(json.dumps({"step": step, "kind": kind, "message": message}) + "\n")
                self.say(f"collapse at step {step}: {message}")
            if self.stop:
                raise UserError(f"stopped at step {step}: {message} — trainer.on_collapse=warn goes on regardless")
