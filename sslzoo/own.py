"""Classes of a user's own, which a run's config names: where they lay, so that a later command finds them again."""

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from sslzoo.errors import UserError


def folders_of(config) -> dict[str, str]:
    """The folder of each module of one's own that a config's `_target_`s name, by the module's name; those that have
    been imported. What is installed is found anyway."""
    found = {}
    for top in dict.fromkeys(path.split(".")[0] for path in _targets(config)):
        folder = _folder(top)
        if top != "sslzoo" and folder is not None and not _installed(folder):
            found[top] = str(folder)
    return found


def find_again(found: dict[str, str], owner: Path) -> None:
    """Let the modules that `folders_of` found be imported: from where they lay, after the config folders of this
    command and before the folder that it runs in. Raises UserError where they are nowhere; owner: whose they are."""
    for top, folder in found.items():
        if os.path.isdir(folder) and folder not in sys.path:
            here = os.getcwd()
            sys.path.insert(sys.path.index(here) if here in sys.path else len(sys.path), folder)
        if top not in sys.modules and importlib.util.find_spec(top) is None:
            why = "lay" if not os.path.isdir(folder) else "is no longer"
            raise UserError(
                f"{owner} has classes of your module '{top}', which {why} in {folder} — pass --config-dir with the "
                f"folder that {top} lies in now"
            )


def _targets(node) -> Iterator[str]:
    if isinstance(node, dict):
        if isinstance(node.get("_target_"), str):
            yield node["_target_"]
        node = list(node.values())
    for item in node if isinstance(node, list) else ():
        yield from _targets(item)


def _folder(top: str) -> Path | None:
    """The folder that an imported module or package lies in."""
    module = sys.modules.get(top)
    if module is None:
        return None
    inside = list(getattr(module, "__path__", ()))  # of a package, with or without an __init__.py
    file = inside[0] if inside else getattr(module, "__file__", None)
    return None if file is None else Path(file).resolve().parent


def _installed(folder: Path) -> bool:
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    return any(folder == place or place in folder.parents for place in places)
