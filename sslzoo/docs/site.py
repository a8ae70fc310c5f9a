"""`sslzoo docs`: the pages, and mkdocs-material's site of them."""

import tempfile
from importlib.util import find_spec
from pathlib import Path

import yaml

from sslzoo.config import options
from sslzoo.docs import figures
from sslzoo.docs.example import class_of, modality_of, names
from sslzoo.docs.objective_page import page
from sslzoo.docs.sources import results, write_texts
from sslzoo.errors import UserError
from sslzoo.progress import Progress, quiet

INSTALL = "the documentation is built by mkdocs-material, which is not installed: pip install 'sslzoo[docs]'"
PALETTE = [
    {"media": f"(prefers-color-scheme: {light})", "scheme": scheme}
    for light, scheme in (("light", "default"), ("dark", "slate"))
]
GUIDES = {
    "Compose": "compose.md",
    "Data": "data.md",
    "Launch": "launch.md",
    "Probe": "probe.md",
    "Adapt": "adapt.md",
    "Weights": "weights.md",
}


def choose() -> str:
    """How to choose a method: for each modality, what the stored comparisons found."""
    found, whole = figures.scores(), options("objective")
    parts = ["# How to choose a method", "What each objective asks, and how it did where it was compared."]
    for modality, title in (("image", "Images"), ("speech", "Speech"), ("text", "Text")):
        lines = ["| objective | what it does | compares rows of a batch | best place |", "|---|---|---|---|"]
        for name in names():
            if modality != modality_of(name):
                continue
            best = min(found.get(name, []), key=lambda s: (s.place / s.of, s.place), default=None)
            place = f"{best.place} of {best.of} on {best.task} (`{best.comparison}`)" if best else "not compared yet"
            lines.append(
                f"| [{name}](objectives/{name}.md) | {whole[name]} | {class_of(name).batch_terms or 'no'} | {place} |"
            )
        parts += [f"## {title}", "\n".join(lines)]
    parts += ["## The comparisons", "Linear probes times 100, mean ± deviation over seeds; the best first."]
    for name, content in results():
        rows = [(o, s) for o, scores in found.items() for s in scores if s.comparison == name]
        if not rows:
            continue
        rows.sort(key=lambda row: (row[1].task, row[1].place))
        lines = ["| task | objective | pretrained | untrained |", "|---|---|---:|---:|"]
        lines += [f"| {s.task} | [{o}](objectives/{o}.md) | {s.figure} | {s.untrained.mean:.1f} |" for o, s in rows]
        parts += [f"### {name}", f"Seeds {', '.join(map(str, content['seeds']))}.", "\n".join(lines)]
    return "\n\n".join(parts) + "\n"


def write_pages(folder: Path, only: list[str] | None = None, progress: Progress = quiet) -> dict:
    """Write all pages as Markdown to a new folder; returns mkdocs' navigation. only: of these objectives alone."""
    (folder / "objectives").mkdir(parents=True)
    write_texts(folder)
    (folder / "choose.md").write_text(choose(), encoding="utf-8")
    chosen = names() if only is None else only
    for count, name in enumerate(chosen):
        progress("pages of objectives", count, len(chosen))
        (folder / "objectives" / f"{name}.md").write_text(page(name, folder / "objectives"), encoding="utf-8")
    return {
        "nav": [
            {"Start": "index.md"},
            {"How to choose a method": "choose.md"},
            {"Objectives": ["objectives.md", *({name: f"objectives/{name}.md"} for name in chosen)]},
            *({title: path} for title, path in GUIDES.items()),
            {"How to add an objective": "extend.md"},
            {"Results": "results.md"},
            {"Contributing": "contributing.md"},
        ]
    }


def settings(pages: Path, out: Path, nav: dict) -> dict:
    """mkdocs' config. Nothing is read from the network when a page is opened."""
    extensions = [
        "tables",
        "attr_list",
        "md_in_html",
        "pymdownx.superfences",
        {"pymdownx.highlight": {"use_pygments": True}},
    ]
    return {
        "site_name": "sslzoo",
        "docs_dir": str(pages),
        "site_dir": str(out),
        "theme": {"name": "material", "font": False, "features": ["navigation.sections"], "palette": PALETTE},
        "markdown_extensions": extensions,
        "extra_css": ["sslzoo.css"],
        "validation": {"links": {"anchors": "warn", "unrecognized_links": "warn"}, "omitted_files": "ignore"},
        **nav,
    }


def build(out: Path, progress: Progress = quiet) -> int:
    """Build the site in `out`; returns the number of pages. Raises UserError without mkdocs-material, or for a link
    that leads nowhere."""
    if find_spec("mkdocs") is None or find_spec("material") is None:
        raise UserError(INSTALL)
    if out.exists() and any(out.iterdir()) and not (out / "index.html").exists():
        raise UserError(f"{out} is a folder of something else: choose another out=…, which is made")
    from mkdocs.commands.build import build as mkdocs_build
    from mkdocs.config import load_config
    from mkdocs.exceptions import MkDocsException

    with tempfile.TemporaryDirectory() as made:
        pages, config = Path(made) / "pages", Path(made) / "mkdocs.yml"
        nav = write_pages(pages, progress=progress)
        css = (Path(__file__).parents[1] / "report" / "page.css").read_text(encoding="utf-8")
        (pages / "sslzoo.css").write_text(scoped(css), encoding="utf-8")
        config.write_text(yaml.safe_dump(settings(pages, out.resolve(), nav), sort_keys=False), encoding="utf-8")
        try:
            mkdocs_build(load_config(str(config), strict=True))
        except MkDocsException as error:
            raise UserError(f"mkdocs: {error}") from error
        return len(list(pages.rglob("*.md")))


def scoped(css: str) -> str:
    """The report's rules, for the pictures of predictions alone (nested CSS)."""
    return f".shown {{\n{css.replace(':root', '&')}\n}}\n"
