"""What a run was begun on: it goes on with the same training items, wherever they lie now."""

import hashlib
import json

import numpy as np
import yaml

from sslzoo.data.base import Split
from sslzoo.errors import UserError
from sslzoo.run import Run, write_atomic, write_json

_NAMES = 1000  # names that are looked at, of a split with more


def described(split: Split) -> dict:
    """A split's number of items, and hashes of their lengths and of the names of up to 1,000 of them. Reads no item."""
    lengths = np.ascontiguousarray(split.lengths, "<i8")
    some = np.unique(np.linspace(0, len(split) - 1, min(len(split), _NAMES)).round().astype(np.int64))
    names = "\n".join(str(split.names[int(i)]) for i in some)
    return {
        "count": len(split),
        "lengths": hashlib.sha256(lengths.tobytes()).hexdigest()[:20],
        "names": hashlib.sha256(names.encode("utf-8", "surrogateescape")).hexdigest()[:20],
    }


def check_items(run: Run, split: Split, config: dict, write: bool) -> None:
    """Store which items a run is begun on; raise UserError if it goes on and they are not the same. If their folder has
    moved, the run's config says where it is now. write: whether this rank writes."""
    now = described(split)
    if not run.items.exists():
        if write:
            write_json(run.items, now)
        return
    begun = json.loads(run.items.read_text(encoding="utf-8"))
    if begun != now:
        change = f"there are {now['count']:,} now"
        if begun["count"] == now["count"]:
            change = f"now some have other {'lengths' if begun['lengths'] != now['lengths'] else 'names'}"
        raise UserError(
            f"{run.folder} was begun on {begun['count']:,} training items, and {change} — give it the same data, or choose "
            "another name=…"
        )
    written = yaml.safe_load(run.config.read_text(encoding="utf-8"))
    if write and written != (moved := with_paths(written, config)):
        write_atomic(run.config, lambda path: path.write_text(yaml.safe_dump(moved, sort_keys=False), encoding="utf-8"))


def with_paths(written, config):
    """A config with the other's `path` settings, where both have one."""
    if not isinstance(written, dict) or not isinstance(config, dict):
        return written
    return {
        key: config[key] if key == "path" and key in config else with_paths(value, config.get(key))
        for key, value in written.items()
    }
