"""`sslzoo generate`: a text, gone on with by a run that learned to name the next token."""

from pathlib import Path

import torch

from sslzoo import build, nodes
from sslzoo.data.base import continuation
from sslzoo.errors import ConfigError, UserError
from sslzoo.objectives.gpt import generate
from sslzoo.run import Run


def run_generate(config: dict) -> str:
    """The prompt and what was added to it. Raises UserError where the run cannot go on with a text."""
    for key, kind in (("prompt", str), ("steps", int), ("seed", int), ("temperature", float), ("top_k", int | None)):
        value = str(config[key]) if key == "prompt" else config[key]
        if not build.fits(value, kind):
            raise ConfigError(f"{key} must be {nodes.describe(kind)}, got {value!r}")
    if config["steps"] < 0:
        raise ConfigError(f"steps must be at least 0, got {config['steps']}")
    run = Run.find(str(config["run"]), Path(str(config["root"])))
    encoder, data = build.load_encoder(run)
    if data.modality != "text" or "causal" not in encoder.offers:
        raise UserError(f"{run.folder} has learned no text in one direction: choose a run of objective=gpt")
    prompt = str(config["prompt"])
    ids = torch.from_numpy(data.tokenizer.encode_stream([prompt]))[None].long()
    # a text longer than the encoder's places is gone on with from its end
    room = encoder.frontend.max_tokens
    ids = ids[:, -max(1, room // 2) :]
    steps = min(config["steps"], room - ids.shape[1])
    ids_out = generate(encoder, ids, steps, config["seed"], config["temperature"], config["top_k"])
    return prompt + continuation(data.describe, *ids_out[0].split([ids.shape[1], steps]))[1]
