"""`sslzoo docs`: what the pages say, that every link leads somewhere, and the site of mkdocs-material."""

import importlib.util
import re
from pathlib import Path

import pytest

from sslzoo.config import options
from sslzoo.docs import figures, site
from sslzoo.docs.example import class_of, example
from sslzoo.docs.objective_page import prose
from sslzoo.docs.sources import ROOT, objective_of, results
from sslzoo.report import tables

SOME = ["simclr", "jigsaw", "audio2vec", "data2vec_image"]
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def pages(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("docs") / "pages"
    site.write_pages(folder, SOME)
    return folder


def slug(heading: str) -> str:
    return re.sub(r"[\s-]+", "-", re.sub(r"[^\w\s-]", "", heading.strip().lower()))


def test_every_link_leads_somewhere(pages):
    """To a page, a picture or a heading that is there; addresses are of papers."""
    names, checked = set(options("objective")), 0
    for page in pages.rglob("*.md"):
        text = re.sub(r"```.*?```", "", page.read_text(), flags=re.DOTALL)
        for link in LINK.findall(text):
            checked += 1
            if link.startswith("http"):
                assert re.match(r"https://[\w.-]+(/\S*)?$", link), (page, link)
                continue
            path, _, anchor = link.partition("#")
            there = page if not path else (page.parent / path).resolve()
            unwritten = there.parent == pages / "objectives" and there.stem in names  # only some are, here
            assert there.exists() or unwritten, f"{page.name} links to {link}"
            if anchor:
                assert anchor in {slug(h) for h in re.findall(r"^#+ (.*)$", there.read_text(), re.MULTILINE)}, link
    assert checked > 60


def test_a_page_is_written_from_docstring_yaml_and_results(pages):
    text = (pages / "objectives" / "simclr.md").read_text()
    assert "l(i, j) = -log( exp(sim(z_i, z_j) / t)" in text, "the docstring's equation"
    assert (ROOT / "conf" / "objective" / "simclr.yaml").read_text().strip() in text, "the yaml, with its comments"
    assert "[2002.05709](https://arxiv.org/abs/2002.05709)" in text
    assert 'class="gallery"' in text and "data:image/png" in text, "what it predicts"
    assert (pages / "objectives" / "simclr.png").read_bytes()[:4] == b"\x89PNG" and "](simclr.png)" in text
    [score] = [s for s in figures.scores()["simclr"] if s.comparison == "kinds_cifar10"]
    assert (
        f"{score.pretrained.mean:.1f} ± {score.pretrained.spread:.1f} | {score.untrained.mean:.1f} | {score.place} of "
        in text
    )
    assert "compares the rows of a batch (negatives)" in text
    other = (pages / "objectives" / "jigsaw.md").read_text()
    assert "In `kinds_cifar10`" not in other and "A batch has at least 2 items" in other


def test_a_page_is_of_the_modality_that_its_config_is_for(pages):
    """And its command runs: an objective whose slices are longer than the shortest word of the set gets others."""
    pytest.importorskip("espeakng_loader")
    text = (pages / "objectives" / "audio2vec.md").read_text()
    assert "```text\nloss = mean over slices a" in text and "`logmel_small`" in text
    assert "sslzoo pretrain objective=audio2vec data=spoken encoder=logmel_small objective.size=3\n" in text
    image = (pages / "objectives" / "data2vec_image.md").read_text()
    assert image.startswith("# data2vec_image\n\ndata2vec on images") and "On images, with" in image
    assert (
        "On speech" not in image and "sslzoo pretrain objective=data2vec_image data=digits encoder=vit_small" in image
    )


def test_a_healthy_run_is_of_the_objective_and_not_of_its_class():
    """Of two configs of SimCLR the one of images has a curve."""
    assert class_of("simclr") is class_of("simclr_audio")
    assert figures.band_of("simclr").config["data"]["_target_"].endswith("Digits")
    assert figures.band_of("simclr_audio") is None


def test_one_seed_has_no_spread():
    two, one = (tables.Score(values) for values in ((60.0, 62.0), (60.0,)))
    before = tables.Score((50.0, 50.5)[: len(two.values)])
    score = figures.Score("ladder", "word", "accuracy", two, before, 1, 2)
    assert score.figure == "61.0 ± 1.4" and score.beyond == "above the untrained encoder"
    score = figures.Score("ladder", "word", "accuracy", one, tables.Score((50.5,)), 1, 2)
    assert score.figure == "60.0 (one seed)" and score.beyond == "+9.5 to the untrained encoder with one seed"


@pytest.mark.slow
@pytest.mark.parametrize("name", options("objective"))
def test_the_command_of_a_page_runs(name):
    """As far as to the first step, its first batch drawn: of every objective."""
    shown = example(name)
    if not shown.drawn and "pip install" in shown.picture:
        pytest.skip(shown.picture)
    assert shown.drawn and bool(shown.before) == class_of(name).learns_targets
    assert not {"data", "encoder"} - {word.partition("=")[0] for word in shown.words}


def test_scores_are_those_of_the_results():
    for name, content in results():
        for row in content["rows"]:
            objective = objective_of(content, row["entry"])
            if objective is None or "linear" not in row:
                continue
            found = [s for s in figures.scores()[objective] if (s.comparison, s.task) == (name, row["task"])]
            assert len(found) == 1 and found[0].pretrained.mean >= 100 * row["linear"]["pretrained"]["mean"] - 1e-9


def test_a_page_to_choose_by_names_every_objective(pages):
    text = (pages / "choose.md").read_text()
    missing = [name for name in options("objective") if f"](objectives/{name}.md)" not in text]
    assert not missing
    assert "### kinds_cifar10" in text and "How to add an objective" not in text


def test_equations_are_blocks_of_their_own():
    found = prose("Words (2002.05709):\n\nloss = a + b\n    c = d\n\nMore words = here.")
    assert found == (
        "Words ([2002.05709](https://arxiv.org/abs/2002.05709)):\n\n```text\nloss = a + b\n    c = d\n```\n\nMore words = here."
    )


def test_without_mkdocs_one_line_says_what_to_install(sslzoo, monkeypatch):
    whole = importlib.util.find_spec
    monkeypatch.setattr(site, "find_spec", lambda name: None if name == "material" else whole(name))
    code, out, err = sslzoo("docs")
    assert code == 1 and not out and len(err) == 1 and "pip install 'sslzoo[docs]'" in err[0]


def test_a_folder_of_something_else_is_left_alone(sslzoo, tmp_path, monkeypatch):
    monkeypatch.setattr(site, "find_spec", lambda name: object())
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine" / "notes.txt").write_text("mine")
    code, _, err = sslzoo("docs", "out=mine")
    assert code == 1 and "mine is a folder of something else" in err[-1]


@pytest.mark.slow
def test_the_site_is_built_and_no_link_is_broken(sslzoo, tmp_path):
    """By mkdocs itself, which ends at a warning."""
    pytest.importorskip("material")
    code, out, err = sslzoo("docs", "out=site")
    assert code == 0, err
    assert "wrote site/index.html" in out
    for name in options("objective"):
        assert (tmp_path / "site" / "objectives" / name / "index.html").exists(), name
    assert "fonts.googleapis" not in (tmp_path / "site" / "index.html").read_text(), "nothing is fetched"
