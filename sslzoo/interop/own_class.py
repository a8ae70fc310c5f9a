"""`class:module.Class`: an encoder of the user's own class, with the weights that it begins with, as a run."""

import hashlib
import os
import sys
from pathlib import Path
from typing import Any

import yaml

from sslzoo import own, weights
from sslzoo.data.foreign_inputs import ImageInputs, SpeechInputs
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.lock import sole_writer
from sslzoo.nodes import make, target
from sslzoo.run import Run, checked_name, write_atomic, write_json

HALF = [0.5, 0.5, 0.5]


def import_class(what: str, root: Path, name: str | None = None) -> tuple[Run, bool]:
    """The run of an encoder that `what`, module.Class, makes without arguments, and whether it was made now. The module
    is imported: it is the user's own code, from an installed package or the current folder.

    Raises ConfigError if there is no such class, UserError for one that is no Encoder of speech or images.
    """
    if os.getcwd() not in sys.path:
        sys.path.append(os.getcwd())
    kind = target(what, "encoder")
    if not (isinstance(kind, type) and issubclass(kind, Encoder)):
        raise UserError(f"{what} is no sslzoo.Encoder: derive it from that class (docs/extend.md)")
    node = {"_target_": what}
    try:
        encoder = make(node)
    except TypeError as error:
        raise UserError(f"{what} cannot be made without arguments: give them defaults ({error})") from error
    state = encoder.state_dict()
    digest = hashlib.sha256(what.encode())
    for key, x in sorted(state.items()):
        digest.update(key.encode() + x.detach().cpu().contiguous().numpy().tobytes())
    run = Run(root / checked_name(name or f"{what.rsplit('.', 1)[-1]}-{digest.hexdigest()[:6]}"))
    said = {"family": "class", "class": what, "digest": digest.hexdigest()}
    if run.done:
        known = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        if known.get("imported", {}).get("digest") == said["digest"]:
            return run, False
        raise ConfigError(f"{run.folder} is another run: choose another name=…")
    parts: dict[str, Any] = {"encoder": node, "data": inputs_of(encoder, what), "seed": 0}
    with sole_writer(run.folder):
        weights.save(run.weights, state)
        write_json(run.encoder, {**parts, "own": own.folders_of([node])})
        text = yaml.safe_dump({"imported": said, **parts}, sort_keys=False)
        write_atomic(run.config, lambda path: path.write_text(text, encoding="utf-8"))
        run.finish()
    return run, True


def inputs_of(encoder: Encoder, what: str) -> dict[str, Any]:
    """The config node of its data, from what it `reads`."""
    batch = {"_target_": "sslzoo.data.sampler.ByCount", "size": 32}
    if encoder.modality == "speech" and "sample_rate" in encoder.reads:
        return {
            "_target_": f"{SpeechInputs.__module__}.SpeechInputs",
            "sample_rate": encoder.reads["sample_rate"],
            "batch": batch,
        }
    if encoder.modality == "image" and {"size", "channels"} <= encoder.reads.keys():
        channels: Any = encoder.reads["channels"]
        sizes = {"size": encoder.reads["size"], "channels": channels}
        mean_std = {"mean": HALF[:channels], "std": HALF[:channels]}  # the encoder normalises by its own
        return {"_target_": f"{ImageInputs.__module__}.ImageInputs", **sizes, **mean_std, "batch": batch}
    needs = {"speech": "reads = {'sample_rate': …}", "image": "reads = {'size': …, 'channels': …}"}
    if encoder.modality in needs:
        raise UserError(f"{what} must say how its inputs are read: {needs[encoder.modality]}")
    raise UserError(
        f"{what} is of {encoder.modality}: class:… takes encoders of speech and images, as texts need a tokenizer"
    )
