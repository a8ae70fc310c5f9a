"""`sslzoo generate`: continuing texts with a run that was trained to predict the next token."""

from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from sslzoo import build, nodes, rng
from sslzoo.data.base import continuation
from sslzoo.errors import ConfigError, UserError
from sslzoo.objectives.gpt import generate
from sslzoo.run import Run

KINDS = {
    "prompt": str | None,
    "prompts": str | None,
    "steps": int,
    "seed": int,
    "temperature": float,
    "top_k": int | None,
    "top_p": float | None,
    "stop": str | None,
}
BETWEEN = "\n---\n"  # separator between texts


def run_generate(config: dict) -> str:
    """The prompts with their continuations. Raises UserError if the run cannot generate text."""
    for key, kind in KINDS.items():
        value = str(config[key]) if key in ("prompt", "stop") and config[key] is not None else config[key]
        if not build.fits(value, kind):
            raise ConfigError(f"{key} must be {nodes.describe(kind)}, got {value!r}")
    if config["steps"] < 0:
        raise ConfigError(f"steps must be at least 0, got {config['steps']}")
    if config["stop"] == "":
        raise ConfigError("stop is empty: leave it out, or set the text to end at")
    prompts = _prompts(config)
    run = Run.find(str(config["run"]), Path(str(config["root"])))
    encoder, data = build.load_encoder(run)
    if data.modality != "text" or "causal" not in encoder.offers:
        raise UserError(f"{run.folder} has learned no text in one direction: choose a run of objective=gpt")
    # long prompts are cut to their last tokens, half of the encoder's positions
    room = encoder.frontend.max_tokens
    ids = [torch.from_numpy(data.tokenizer.encode_stream([text])).long()[-max(1, room // 2) :] for text in prompts]
    steps = min(config["steps"], room - max(map(len, ids)))
    stop = None if config["stop"] is None else str(config["stop"])

    def added(row: int, new: Tensor) -> str:
        return continuation(data.describe, ids[row], new)[1]

    found = generate(
        encoder, ids, steps, torch.from_numpy(rng.derive_row_seeds(config["seed"], "text", rows=np.arange(len(ids)))),
        config["temperature"], config["top_k"], config["top_p"],
        None if stop is None else lambda row, new: stop in added(row, new),
    )  # fmt: skip
    texts = [added(row, text[len(ids[row]) :]) for row, text in enumerate(found)]
    if stop is not None:
        texts = [text.partition(stop)[0] for text in texts]
    return BETWEEN.join(prompt + text for prompt, text in zip(prompts, texts, strict=True))


def _prompts(config: dict) -> list[str]:
    """[prompt], or the lines of the file `prompts`."""
    if (config["prompt"] is None) == (config["prompts"] is None):
        both = "prompt and prompts are both set: leave out one of them"
        raise ConfigError("prompt is required: set prompt=…, or prompts=FILE" if config["prompt"] is None else both)
    if config["prompt"] is not None:
        return [str(config["prompt"])]
    path = Path(config["prompts"])
    try:
        found = [line for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise UserError(f"{path} is not UTF-8 (byte {error.start}): convert it with iconv") from error
    if not found:
        raise UserError(f"{path} has no line to go on from")
    return found
