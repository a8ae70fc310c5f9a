"""The user's own classes in a run's config: recording their folders, so that later commands can import them."""

import importlib.util
import os
import sys
import sysconfig
from collections.abc import Iterator
from pathlib import Path

from sslzoo.errors import UserError


def folders_of(config) -> dict[str, str]:
    """{top-level module: its folder} of the user's imported modules in a config's `_target_`s. Installed packages are
    left out, as they are found anyway."""
    found = {}
    for top in dict.fromkeys(path.split(".")[0] for path in _targets(config)):
        folder = _folder(top)
        if top != "sslzoo" and folder is not None and not _installed(folder):
            found[top] = str(folder)
    return found


def find_again(found: dict[str, str], owner: Path) -> None:
    """Make the modules of `folders_of` importable: add their folders to sys.path, after this command's config folders
    and before the current folder. Raises UserError if one is not found; owner: the run's folder, for the message."""
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
    """The parent folder of an imported module or package."""
    module = sys.modules.get(top)
    if module is None:
        return None
    inside = list(getattr(module, "__path__", ()))  # of a package, with or without an __init__.py
    file = inside[0] if inside else getattr(module, "__file__", None)
    return None if file is None else Path(file).resolve().parent


def _installed(folder: Path) -> bool:
    places = {Path(sysconfig.get_path(name)).resolve() for name in ("purelib", "platlib", "stdlib", "platstdlib")}
    return any(folder == place or place in folder.parents for place in places)
