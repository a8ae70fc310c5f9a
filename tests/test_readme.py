"""The example of one's own objective works as docs/extend.md prints it; the pages' tables are the stored ones, their
commands and links are there."""

import re
import shlex
import sys
from pathlib import Path

import conftest
import pytest
import test_contracts as contracts
import torch
import yaml
from conftest import TINY
from omegaconf import OmegaConf

from sslzoo import cli
from sslzoo.run import Run

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXTEND = (ROOT / "docs" / "extend.md").read_text()


@pytest.fixture
def mine(tmp_path, monkeypatch) -> Path:
    """The page's two files, as they are printed, in a folder of one's own."""
    blocks = re.findall(r"```(?:python|yaml)\n# (mine/\S+)\n(.*?)```", EXTEND, re.DOTALL)
    assert [name for name, _ in blocks] == ["mine/ahead.py", "mine/objective/ahead.yaml"]
    for name, text in blocks:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(TINY))
    monkeypatch.delitem(sys.modules, "ahead", raising=False)
    return tmp_path / "mine"


def test_the_page_fits_on_a_screen():
    [code] = re.findall(r"```python\n# mine/ahead.py\n(.*?)```", EXTEND, re.DOTALL)
    assert len(code.splitlines()) <= 40


def test_own_objective(mine, tmp_path, monkeypatch):
    [command] = re.findall(r"^sslzoo (pretrain --config-dir mine .*)$", EXTEND, re.MULTILINE)
    # tiny data, for the test's sake; all else as printed
    tiny_sets = f"hydra.searchpath=[file://{TINY}] data=tiny_speech encoder=tiny_gru name=own"
    kept = [word for word in command.split() if not word.startswith(("data=", "encoder="))]
    monkeypatch.setattr(sys, "argv", ["sslzoo", *kept, *tiny_sets.split()])
    cli.main()
    assert Run(tmp_path / "runs" / "own").done


def test_the_pages_objective_is_sslzoos_and_keeps_every_contract(mine, tmp_path, monkeypatch):
    from hydra.core.global_hydra import GlobalHydra

    def own(objective: str, *overrides: str) -> dict:
        GlobalHydra.instance().clear()
        return conftest.tiny("apc", *overrides) | {
            "objective": yaml.safe_load((mine / "objective/ahead.yaml").read_text())
        }

    def node_of(objective: str):
        folder = mine if objective == "ahead" else conftest.CONF
        return OmegaConf.load(folder / "objective" / f"{objective}.yaml")

    monkeypatch.syspath_prepend(str(mine))
    job, ours = contracts.ready(own("ahead")), contracts.ready(conftest.tiny("apc"))
    batch = contracts.batch_of(job, 0)
    assert torch.equal(job.objective(job.encoder, batch, 0).value, ours.objective(ours.encoder, batch, 0).value)

    monkeypatch.setattr(contracts, "tiny", own)
    for module in (contracts, conftest):
        monkeypatch.setattr(module, "node_of", node_of)
    monkeypatch.setattr(contracts, "GOLDEN", tmp_path)
    (tmp_path / "ahead.json").write_text((Path(__file__).parent / "golden" / "apc.json").read_text())
    contracts.test_composes_and_takes_a_step("ahead")
    contracts.test_two_ranks_give_one_ranks_gradients("ahead", tmp_path)
    contracts.test_golden_losses("ahead")
    contracts.test_padding_changes_nothing("ahead")
    contracts.test_batches_do_not_depend_on_workers("ahead")
    contracts.test_state_is_all_in_the_state_dict("ahead", tmp_path)
    contracts.test_stopped_and_continued_is_never_stopped("ahead", tmp_path / "stopped")


def test_tables_are_the_stored_results(monkeypatch):
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    readme = pytest.importorskip("readme")
    for page in readme.PAGES:
        assert readme.fill(page.read_text()) == page.read_text(), "run python benchmarks/readme.py"


def commands(page: Path):
    """The words of a page's commands that compose a config, but of those with a folder, a package or an interval that
    is not there; a sweep's first values."""
    lines = "\n".join(re.findall(r"```sh\n(.*?)```", page.read_text(), re.DOTALL)).replace("\\\n", " ").splitlines()
    for line in lines:
        found = re.match(
            r"(?:\w+=\S+ )?(?:\.venv/bin/)?sslzoo (pretrain|probe|adapt|analyze|generate|label) (.*)", line
        )
        if found is None or re.search(r"…|--config-dir|class:|torchaudio:|hf:|interval\(", line):
            continue
        words = shlex.split(found[2], comments=True)
        if several := {"-m", "--multirun"} & set(words):
            words = [re.sub(r"=([^\[{,]+),.*", r"=\1", word) for word in words if word not in several]
        yield found[1], words


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_compose(page, sslzoo):
    """And of few labels the batch is no larger than what is drawn, 16 of each of two classes at least."""
    for command, words in commands(page):
        code, out, err = sslzoo(command, *words, "--cfg", "job")
        assert code == 0, (command, words, err)
        shots = yaml.safe_load(out).get("task", {}).get("shots")
        if shots and "method=pet" not in words and "method=ipet" not in words:  # these learn unlabelled texts, too
            assert any(word.startswith("data.batch.size=") and int(word[16:]) <= 2 * shots for word in words), words


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_commands_and_links_exist(page):
    text = page.read_text()
    for command in re.findall(r"^(?:\.venv/bin/)?sslzoo (\w+)", text, re.MULTILINE):
        assert command in cli.COMMANDS
    for link in re.findall(r"\]\((?!http)([^)#]+)", text):
        assert (page.parent / link).exists(), link


def test_the_front_page_is_short():
    assert len((ROOT / "README.md").read_text().splitlines()) < 120
