"""`untrained:RUN`: a run's encoder before its first step, as a run of its own,
to be asked what the trained one is asked."""

import hashlib
import json
from pathlib import Path

import torch
import yaml

from sslzoo import build, weights
from sslzoo.errors import ConfigError
from sslzoo.lock import sole_writer
from sslzoo.run import Run, checked_name, write_atomic, write_json


def import_untrained(what: str, root: Path, name: str | None = None) -> tuple[Run, bool]:
    """The run of the initial weights of the run that `what` names, and whether it was made now. They are those that the
    run's seed gives; of an encoder of another library, those that its settings give here."""
    trained = Run.find(what, root)
    saved = build.described(trained)
    encoder, data = build.load_encoder(trained, untrained=True)
    digest = hashlib.sha256(json.dumps(saved, sort_keys=True).encode())
    for key, x in sorted(encoder.state_dict().items()):
        digest.update(key.encode() + x.detach().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    run = Run(root / checked_name(name or f"{trained.name}-untrained"))
    said = {"family": "untrained", "digest": digest.hexdigest()}
    if run.done:
        known = yaml.safe_load(run.config.read_text(encoding="utf-8"))
        if known.get("imported") == said:
            return run, False
        raise ConfigError(f"{run.folder} is another run: choose another name=…")
    with sole_writer(run.folder):
        weights.save(run.weights, encoder.state_dict())
        data.save(run.folder)
        write_json(run.encoder, saved)
        parts = {key: saved[key] for key in ("encoder", "data", "seed")}
        text = yaml.safe_dump({"imported": said, **parts}, sort_keys=False)
        write_atomic(run.config, lambda path: path.write_text(text, encoding="utf-8"))
        run.finish()
    return run, True
