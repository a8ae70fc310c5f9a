"""The next step works as it is printed; classes of one's own are found without --config-dir."""

import json
import shlex
import sys

import pytest
from conftest import compose

from sslzoo.cli import following
from sslzoo.errors import UserError
from sslzoo.nodes import make
from sslzoo.own import find_again, folders_of


def test_a_next_step_is_quoted_for_the_shell_and_keeps_the_config_folders(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "argv", ["sslzoo", "probe"])
    run = tmp_path / "runs é" / "demo" / "a b"
    line = following.command("report", str(run), argv=["run=x", "--config-dir", "my own"])
    assert shlex.split(line) == ["sslzoo", "report", str(run), "--config-dir", "my own"]
    assert following.setting("run", "r/a b") == "run=r/a b" and following.setting("run", "[a]") == "run='[a]'"


@pytest.mark.parametrize(
    ("kind", "task"), [("image", "task=image_class"), ("speech", "task.label=label"), ("text", "task.label=label")]
)
def test_a_probe_that_fits_the_data_is_found(kind, task):
    config = compose(f"data=tiny_{kind}", f"encoder=tiny_{kind}")
    words = following.fitting_task(make(config["data"]), make(config["encoder"]), [])
    assert words == [task]  # one that has a name for the label column, or the column itself


def test_own_classes_are_found_where_they_lay(tmp_path, monkeypatch):
    mine, elsewhere = tmp_path / "mine", tmp_path / "elsewhere"
    mine.mkdir(), elsewhere.mkdir()
    (mine / "own_classes.py").write_text("class Net:\n    pass\n")
    config = {"encoder": {"_target_": "own_classes.Net", "inner": [{"_target_": "torch.nn.Linear"}]}, "seed": 0}
    monkeypatch.setattr(sys, "path", [*sys.path, str(mine)])
    monkeypatch.delitem(sys.modules, "own_classes", raising=False)
    make({"_target_": "own_classes.Net"})
    found = json.loads(json.dumps(folders_of(config)))
    assert found == {"own_classes": str(mine)}
    sys.path.remove(str(mine))
    del sys.modules["own_classes"]
    monkeypatch.chdir(elsewhere)
    find_again(found, tmp_path / "run")
    assert type(make({"_target_": "own_classes.Net"})).__name__ == "Net"
    sys.path.remove(str(mine))
    del sys.modules["own_classes"]
    mine.rename(tmp_path / "moved")
    sys.path_importer_cache.clear()
    with pytest.raises(UserError, match="classes of your module 'own_classes', which lay in .*pass --config-dir"):
        find_again(found, tmp_path / "run")
