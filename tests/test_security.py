"""Nothing that a file says is run: no pickles, no eval; and a config names only what is allowed, before any import."""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY

import sslzoo
from sslzoo import allowed, nodes
from sslzoo.cli.flags import without_allowed
from sslzoo.errors import ConfigError

ROOT = Path(sslzoo.__file__).parent
UNPICKLES = {"data/arrays.py"}  # CIFAR's own format, by an unpickler that knows numbers, strings and arrays alone


@pytest.fixture(autouse=True)
def environment(monkeypatch):
    monkeypatch.setenv(allowed.VARIABLE, "")


def calls(path: Path):
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), {word.arg: ast.unparse(word.value) for word in node.keywords}, node.lineno


@pytest.mark.parametrize("path", sorted(ROOT.rglob("*.py")), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_no_file_is_run(path):
    for name, words, line in calls(path):
        where = f"{path.relative_to(ROOT)}:{line} calls {name}"
        last = name.split(".")[-1]
        assert name not in ("eval", "exec", "compile", "builtins.eval", "builtins.exec"), where
        assert name not in ("yaml.load", "yaml.unsafe_load", "yaml.full_load", "dill.load", "joblib.load"), where
        assert not name.startswith(("marshal.", "shelve.", "cPickle.")), where
        assert not (name.startswith("pickle.") and last in ("load", "loads", "Unpickler")), where
        assert name not in ("tarfile.extractall", "shutil.unpack_archive") and last not in ("extractall",), where
        if name == "torch.load":
            assert words.get("weights_only") == "True", where
        if name in ("np.load", "numpy.load"):
            assert words.get("allow_pickle", "False") == "False", where
        assert words.get("shell") != "True", where
    bases = {ast.unparse(base) for node in ast.walk(ast.parse(path.read_text())) if isinstance(node, ast.ClassDef)
             for base in node.bases}  # fmt: skip
    assert "pickle.Unpickler" not in bases or path.relative_to(ROOT).as_posix() in UNPICKLES


STRANGE = [
    "os.system",
    "subprocess.run",
    "builtins.eval",
    "evil.Model",
    "sslzooo.Trap",
    "torchx.Trap",
    "",
    "runpy.run_path",
]


@pytest.mark.parametrize("path", STRANGE)
def test_a_strange_target_is_refused_wherever_it_stands(path):
    for config in (
        {"a": {"_target_": path}},
        {"a": [{"b": [[{"_target_": path}]]}]},
        {"a": {"b": {"c": {"_target_": path}}}},
    ):
        with pytest.raises(ConfigError, match="--allow") as caught:
            allowed.check(config)
        assert "\n" not in str(caught.value)


def test_what_is_allowed():
    fine = [
        "sslzoo.data.image.ImageFolder",
        "torch.optim.AdamW",
        "lightning.pytorch.callbacks.Timer",
        "torchvision.x.Y",
    ]
    allowed.check([{"_target_": path} for path in fine])
    allowed.check({"_target_": "mine.Net"}, more=["mine"])
    assert without_allowed(["a=1", "--allow", "mine", "--allow=yours,ours", "b=2"]) == ["a=1", "b=2"]
    allowed.check([{"_target_": f"{name}.Net"} for name in ("mine", "yours", "ours")])
    for word in ("--allow", "--allow=", "--allow=os.path", "--allow=a b"):
        with pytest.raises(ConfigError, match="--allow takes a module's name"):
            without_allowed([word])


@pytest.mark.parametrize("path", ["torch.load", "torch.hub.load", "torch.nn.functional.relu"])
def test_of_torch_only_classes_are_made(path):
    with pytest.raises(ConfigError, match="is no class"):
        nodes.target(path, "optim")


def run(*words: str, folder: Path) -> subprocess.CompletedProcess:
    env = {**os.environ, "PYTHONPATH": str(ROOT.parent), allowed.VARIABLE: ""}
    return subprocess.run(
        [sys.executable, "-m", "sslzoo", *words], check=False, cwd=folder, env=env, capture_output=True, text=True
    )


def test_it_is_refused_in_one_line_before_an_import(tmp_path):
    """The module would leave a mark if it were imported: from a typed target, a file, Hydra's own settings, help."""
    (tmp_path / "evil.py").write_text("open('mark', 'w').close()\nclass Net: pass\n")
    conf = tmp_path / "conf"
    for group, text in {
        "encoder/theirs.yaml": "# theirs\n_target_: evil.Net\n",
        "recipe/theirs.yaml": "# @package _global_\n# theirs\nhydra: {callbacks: {x: {_target_: evil.Net}}}\n",
    }.items():
        (conf / group).parent.mkdir(parents=True)
        (conf / group).write_text(text)
    base = ["pretrain", "objective=simclr", "data=digits", "--config-dir", "conf"]
    for words in (
        [*base, "encoder=theirs"],
        [*base, "encoder=theirs", "--cfg", "job"],
        [*base, "encoder=resnet_small", "recipe=theirs"],
        ["pretrain", "objective=simclr", "data=digits", "encoder=resnet_small", "+callbacks.x._target_=evil.Net"],
    ):
        found = run(*words, folder=tmp_path)
        assert found.returncode == 2 and "--allow evil" in found.stderr, (words, found.stderr)
        assert len(found.stderr.strip().splitlines()) == 1, found.stderr
    run(*base, "encoder=theirs", "--help", folder=tmp_path)
    assert not (tmp_path / "mark").exists()
    assert not (tmp_path / "runs").exists()


def test_a_run_from_someone_else_brings_no_classes(tmp_path):
    """A run's folder records where the user's modules lie; one that came with the run is not the user's."""
    from sslzoo.initial import described
    from sslzoo.run import Run

    folder = tmp_path / "runs" / "theirs"
    folder.mkdir(parents=True)
    (folder / "config.yaml").write_text("{}")
    (folder / "evil.py").write_text("raise SystemExit('run')")
    for own in ({}, {"evil": str(folder)}, {"evil": str(tmp_path / "runs")}):
        (folder / "encoder.json").write_text(json.dumps({"encoder": {"_target_": "evil.Net"}, "own": own, "seed": 0}))
        with pytest.raises(ConfigError, match="names evil.Net, and a config may name"):
            described(Run(folder))


def test_the_users_own_config_folder_is_trusted(tmp_path):
    found = run("pretrain", "objective=simclr", "data=tiny_image", "encoder=tiny_image", "--config-dir", str(TINY), "--cfg",
                "job", folder=tmp_path)  # fmt: skip
    assert found.returncode == 0 and "tiny_sets.TinyImages" in found.stdout, found.stderr
