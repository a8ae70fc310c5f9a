"""What can be said before torch is imported is said before, and as it would be said afterwards."""

import re
import subprocess
import sys
import typing

import pytest
from conftest import CONF

from sslzoo.cli.early import written_signature
from sslzoo.nodes import imported_signature

TARGETS = sorted(
    {t for path in CONF.rglob("*.yaml") for t in re.findall(r"_target_: (sslzoo[\w.]+)", path.read_text())}
)
SCRIPT = """
import sys
import sslzoo
from sslzoo.cli import main
if sys.argv[1:] == ["import"]:
    dir(sslzoo), sslzoo.__version__
else:
    try:
        main()
    except SystemExit as stop:
        print("exit", stop.code)
print("torch" in sys.modules)
"""


@pytest.mark.parametrize("path", TARGETS)
def test_a_class_takes_what_its_source_says(path):
    written = written_signature(path, "")
    name, imported = imported_signature(path, "")
    if written is None:  # it has no settings, or they are said by nobody
        assert not any(p.kind is not p.VAR_KEYWORD and p.kind is not p.VAR_POSITIONAL for p in imported.values())
        return
    assert written[0] == name and written[1].keys() == imported.keys()
    for key, parameter in written[1].items():
        assert (parameter.default is parameter.empty) == (imported[key].default is parameter.empty), key
        assert parameter.annotation in (typing.Any, imported[key].annotation), key


def test_most_settings_are_held_to_their_types_early():
    written = [p.annotation for path in TARGETS for p in (written_signature(path, "") or ("", {}))[1].values()]
    assert sum(a is not typing.Any for a in written) > 0.7 * len(written)


def test_what_is_no_class_of_sslzoo_is_left_to_the_import():
    for path in ("os.system", "sslzoo.nowhere.Class", "sslzoo.train.settings.Nothing", "nothing", "sslzoo", ""):
        assert written_signature(path, "") is None


@pytest.mark.parametrize(
    "words, code, said",
    [
        (["import"], None, ""),
        (["nothing"], 2, "there is no command 'nothing'"),
        (["list", "tasks"], None, ""),
        (["pretrain", "--help"], None, ""),
        (["probe", "run=no", "task=digit"], 1, "no run 'no'"),
        (["probe", "run=no", "task=digitt"], 2, "did you mean 'digit'"),
        (["probe", "run=cut", "task=digit"], 1, "cut has no finished encoder yet"),
        (["extract", "run=no", "out=x"], 1, "no run 'no'"),
        (["analyze", "run=no", "analysis=cka"], 1, "no run 'no'"),
        (["analyze", "run=no", "analysis=ckaa"], 2, "did you mean 'cka'"),
        (["analyze", "run=no", "analysis=cka", "analysis.item=3"], 2, "did you mean 'analysis.items'"),
        (["generate", "run=no", "prompt=a"], 1, "no run 'no'"),
        (["adapt", "run=no", "task=digit"], 1, "no run 'no'"),
        (["label", "run=no", "layer=2"], 1, "no run 'no'"),
        (["report", "nowhere"], 1, "no run 'nowhere'"),
        (["compare", "comparison=nothing"], 2, "there is no comparison 'nothing'"),
        (["pretrain", "objective=simclrr"], 2, "did you mean 'simclr'"),
        (["pretrain", "trainer.max_step=3"], 2, "did you mean 'trainer.max_steps'"),
        (["pretrain", "trainer.max_steps=abc"], 2, "trainer.max_steps must be int, got 'abc'"),
        (["pretrain", "optim.betas=[a]"], 2, "optim.betas must be list[float], got ['a']"),
        (["pretrain", "+encoder.depth=3"], 2, "encoder.depth: ResNet takes no 'depth' — did you mean 'depths'?"),
        (["pretrain", "init=no"], 1, "no run 'no'"),
        (
            ["pretrain", "data=docstrings", "data.tokens=bpe", "objective=bert", "encoder=bert_small"],
            2,
            "data.tokens must be one of wordpiece, byte_bpe, unigram, characters, got 'bpe'",
        ),
    ],
)
def test_a_mistake_is_told_without_torch(words, code, said, tmp_path):
    (tmp_path / "runs" / "cut").mkdir(parents=True)
    (tmp_path / "runs" / "cut" / "config.yaml").write_text("{}")
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, *words], cwd=tmp_path, capture_output=True, text=True, check=True, timeout=60
    )
    assert done.stdout.splitlines()[-1] == "False"
    assert said in done.stderr and (code is None or f"exit {code}" in done.stdout), done.stderr


def test_a_missing_run_is_told_in_python_without_torch(tmp_path):
    call = "import sys, sslzoo\ntry: sslzoo.load_encoder('no')\nexcept Exception as e: print(e)\nprint('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", call], cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["no run 'no' — the runs in runs/ are: none", "False"]
