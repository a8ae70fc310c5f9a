"""What no training made — raw features, an untrained encoder — measured once for all runs that it stands beside."""

import hashlib
import json
import tempfile
from collections.abc import Callable
from pathlib import Path

from sslzoo import compat
from sslzoo.data.base import Data
from sslzoo.run import Run, commit, sha256, write_json

SHARED = {"raw": ("encoder", "data"), "untrained": ("encoder", "data", "seed")}  # what of a run each needs


class Baselines:
    """Results in `folder`, under names that tell apart all that they depend on: the run's encoder, data and
    seed, what its data learned (a tokenizer), the task, the probe, and the code. The files of a data set are
    taken to be what they were. A result that was there already took 0 seconds, and says so by "shared"."""

    def __init__(self, folder: Path, run: Run, data: Data, protocol: dict):
        self.folder, self.run = folder, compat.translate(json.loads(run.encoder.read_text(encoding="utf-8")))
        self.rest = {**protocol, "learned": _learned(data), "commit": commit()}

    def __call__(self, task: str, kind: str, measure: Callable[[], dict]) -> dict:
        """A task's result for a kind of features: the one that is there, or else what `measure` returns."""
        if kind not in SHARED:
            return measure()
        depends = {**self.rest, "kind": kind, **{key: self.run[key] for key in SHARED[kind]}}
        name = hashlib.sha256(json.dumps(depends, sort_keys=True).encode()).hexdigest()[:16]
        path = self.folder / f"{task}-{kind}-{name}.json"
        try:
            return {**json.loads(path.read_text(encoding="utf-8")), "seconds": 0.0, "shared": path.name}
        except (OSError, ValueError):  # none yet, or a damaged one
            result = measure()
            write_json(path, result)
            return result


def _learned(data: Data) -> list[str]:
    """Digests of the files that a data set writes beside a run's weights."""
    with tempfile.TemporaryDirectory() as folder:
        data.save(Path(folder))
        return [sha256(path) for path in sorted(Path(folder).iterdir())]
