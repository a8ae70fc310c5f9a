"""What the documentation is made of: the texts and stored results of the repository, which a wheel contains."""

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).with_name("text")  # in a wheel: README.md, docs/, benchmarks/ as in the repository
if not ROOT.exists():
    ROOT = Path(__file__).parents[2]
PAGES = {"README.md": "index.md", "CONTRIBUTING.md": "contributing.md", "benchmarks/RESULTS.md": "results.md"}
LINK = re.compile(r"(\]\()([^)\s#]+)")


def texts() -> dict[str, str]:
    """{path in the repository: path in the documentation} of the written pages."""
    found = {f"docs/{path.name}": path.name for path in sorted((ROOT / "docs").glob("*.md"))}
    return {**PAGES, **found}


def write_texts(folder: Path) -> None:
    """Copy the written pages to a folder, with their links to each other changed to where they are there, and the
    pictures of the results."""
    moved = texts()
    for source, target in moved.items():

        def there(link: re.Match, source=source) -> str:
            path = (Path(source).parent / link[2]).as_posix()
            path = re.sub(r"[^/]+/\.\./", "", path)
            return link[1] + (moved.get(path) or path.removeprefix("benchmarks/"))

        text = (ROOT / source).read_text(encoding="utf-8")
        (folder / target).write_text(LINK.sub(lambda m: m[0] if "://" in m[2] else there(m), text), encoding="utf-8")
    (folder / "results").mkdir(exist_ok=True)
    for picture in sorted((ROOT / "benchmarks" / "results").glob("*.png")):
        shutil.copy(picture, folder / "results" / picture.name)


def results() -> Iterator[tuple[str, dict]]:
    """(name, content) of every stored comparison of objectives."""
    for path in sorted((ROOT / "benchmarks" / "results").glob("*.json")):
        found = json.loads(path.read_text(encoding="utf-8"))
        if isinstance(found, dict) and isinstance(found.get("rows"), list) and isinstance(found.get("entries"), dict):
            yield path.stem, found


def objective_of(results: dict, entry: str) -> str | None:
    """The objective of a comparison's entry, if the entry names one."""
    words = [*(results["config"].get("shared") or {}).get("overrides", []), *results["entries"][entry]["overrides"]]
    named = [word.partition("=")[2] for word in words if word.startswith("objective=")]
    return named[-1] if named else None
