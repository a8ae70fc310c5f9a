"""Labels of the tiny hums, as `sslzoo label` would write them: how often a frame crosses zero, in a few steps."""

import json
import tempfile
from functools import cache
from pathlib import Path

import numpy as np
from tiny_sets import TinySpeech

from sslzoo.data.sampler import BySeconds
from sslzoo.data.targets import fingerprint
from sslzoo.run import write_signed

HOP, CLUSTERS = 320, 8
_kept = []  # temporary folders, until the session ends


def frames(samples: int) -> int:
    """What tiny_speech's encoder makes of so many: log-mel frames of 400 samples every 160, in pairs."""
    return -(-(1 + (samples - 400) // 160) // 2)


def write_targets(
    folder: Path, data, codes_of, clusters: int = CLUSTERS, hop: int = HOP, splits=("train", "valid", "test")
):
    """A folder of labels. codes_of: from a split and an item's place, its labels."""
    said = {"clusters": clusters, "hop": hop, "sample_rate": data.sample_rate, "splits": {}}
    for name in splits:
        split = data.split(name)
        codes = [np.asarray(codes_of(split, i)) for i in range(len(split))]
        starts = np.cumsum([0, *map(len, codes)]).astype(np.int64)
        save(folder / f"{name}.codes.npy", np.concatenate(codes).astype(np.uint16))
        save(folder / f"{name}.starts.npy", starts)
        said["splits"][name] = {"hash": fingerprint(split), "items": len(split)}
    (folder / "label.json").write_text(json.dumps(said))
    return folder


def save(path: Path, array: np.ndarray) -> None:
    def write(beside: Path) -> None:
        with open(beside, "wb") as file:  # np.save would add a suffix to a name
            np.save(file, array)

    write_signed(path, write)


def crossings(split, index: int) -> np.ndarray:
    wave = split.read(index).numpy()
    crossed = np.abs(np.diff(np.signbit(wave).astype(int)))
    counts = [crossed[t * HOP : t * HOP + 400].sum() for t in range(frames(len(wave)))]
    return np.digitize(counts, np.linspace(20, 140, CLUSTERS - 1))


@cache
def tiny_targets() -> str:
    """The folder, made once a session."""
    _kept.append(tempfile.TemporaryDirectory())
    return str(write_targets(Path(_kept[-1].name), TinySpeech(BySeconds()), crossings))
