"""Baselines of a probe — raw features, an untrained encoder — measured once and shared between runs."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from sslzoo import compat
from sslzoo.data.base import Data
from sslzoo.run import Run, commit, sha256, write_json

SHARED = {"raw": ("encoder", "data"), "untrained": ("encoder", "data", "seed")}  # encoder.json keys


class Baselines:
    """A cache of results in `folder`. The file name hashes all that a result depends on: the run's encoder, data
    and seed, the files that its data wrote (a tokenizer), the task, the probe, and the code; the files of a data
    set are assumed unchanged. A cached result has "seconds" 0 and "shared", its file name."""

    def __init__(self, folder: Path, run: Run, data: Data, protocol: dict):
        self.folder, self.run = folder, compat.translate(json.loads(run.encoder.read_text(encoding="utf-8")))
        self.rest = {**protocol, "learned": _learned(data), "commit": commit()}

    def __call__(self, task: str, kind: str, measure: Callable[[], dict]) -> dict:
        """A task's result for a kind of features: from the cache, else from `measure`."""
        if kind not in SHARED:
            return measure()
        depends = {**self.rest, "kind": kind, **{key: self.run[key] for key in SHARED[kind]}}
        name = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / f"{task}-{kind}-{name}.json"
        try:
            return {**json.loads(path.read_text(encoding="utf-8")), "seconds": 0.0, "shared": path.name}
        except (OSError, ValueError):  # missing or damaged
            result = measure()
            write_json(path, result)
            return result


def _learned(data: Data) -> list[str]:
    """SHA-256 of each file that a data set writes beside a run's weights."""
    with tempfile.TemporaryDirectory() as folder:
        data.save(Path(folder))
        return [sha256(path) for path in sorted(Path(folder).iterdir())]
