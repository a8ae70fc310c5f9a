"""The name of a run that was given none."""

import glob
from contextlib import suppress
from pathlib import Path

import yaml

from sslzoo.config import fingerprint


def run_name(start: str, config: dict, root: Path) -> str:
    """<start>-<hash of the config>; if there is no such run in `root`, the name of the one that differs in its number
    of ranks only, which this one continues."""
    own = f"{start}-{fingerprint(config)}"
    if (root / own).is_dir():
        return own
    for path in sorted(root.glob(f"{glob.escape(start)}-??????/config.yaml")):
        with suppress(OSError, yaml.YAMLError, AttributeError):
            found = yaml.safe_load(path.read_text(encoding="utf-8"))
            if fingerprint(found, ranks=False) == fingerprint(config, ranks=False):
                return path.parent.name
    return own
