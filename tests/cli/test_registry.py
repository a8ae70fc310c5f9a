"""`sslzoo runs ls|show|best|diff|rm`: what is there, told from the folders alone."""

import json
import os
import subprocess
import sys
import time

import pytest
import yaml

from sslzoo.cli.completion import candidates
from sslzoo.cli.registry import runs
from sslzoo.errors import ConfigError, UserError
from sslzoo.lock import sole_writer
from sslzoo.report.runs import rows
from sslzoo.run import Run


def made(root, name: str, loss: float, **settings) -> Run:
    run = Run(root / name)
    run.folder.mkdir(parents=True)
    run.config.write_text(yaml.safe_dump({"seed": 0, "optim": {"lr": 0.1, **settings}}))
    run.metrics.write_text(f"step,loss,val_loss\n0,9,9\n5,{loss},{loss + 1}\n")
    return run


def beat(run: Run, **more) -> None:
    said = {"step": 3, "of": 10, "time": time.time(), "seconds": 1.5, "steps": 3, "loss": 2.0, "host": "h", "pid": 1}
    run.heartbeat.write_text(json.dumps(said | more))


@pytest.fixture
def root(tmp_path):
    for name, loss in (("a", 2.0), ("b", 1.0), ("sweep/c", 3.0)):
        made(tmp_path / "runs", name, loss, **({"lr": 0.5} if name == "b" else {}))
    return tmp_path / "runs"


def said(capsys, *words) -> str:
    runs([str(word) for word in words])
    return capsys.readouterr().out


def test_a_run_is_known_by_its_heartbeat(root):
    from socket import gethostname

    a, b, c = (Run(root / name) for name in ("a", "b", "sweep/c"))
    beat(a, host=gethostname())  # of this machine, and no process has it
    beat(b)  # of another machine, whose lock cannot be seen
    beat(c, time=time.time() - 3600)
    assert {row.name: row.status for row in rows(root)} == {"a": "died", "b": "running", "sweep/c": "died"}
    a.heartbeat.write_text("{")  # half written by something else
    b.heartbeat.unlink()
    c.failure.write_text("out of memory")
    assert {row.name: row.status for row in rows(root)} == {"a": "stopped", "b": "stopped", "sweep/c": "failed"}
    with sole_writer(a.folder):
        assert rows(root)[0].status == "running"


def test_best_show_and_diff(root, capsys):
    where = f"root={root}"
    assert [row["name"] for row in json.loads(said(capsys, "best", where, "--json"))] == ["b", "a", "sweep/c"]
    (root / "a" / "probe").mkdir()
    (root / "a" / "probe" / "digit.json").write_text(json.dumps({"pretrained": {"linear": {"test": 0.5}}}))
    assert [row["name"] for row in json.loads(said(capsys, "best", "digit", where, "--json"))] == ["a"]
    assert "lr  0.1 -> 0.5" in said(capsys, "diff", "a", "b", where)
    assert "have the same settings" in said(capsys, "diff", "a", root / "sweep" / "c", where)
    (root / "a" / "events.jsonl").write_text('{"step": 3, "kind": "one code", "message": "collapse"}\n')
    shown = said(capsys, "show", "a", where)
    assert "digit" in shown and "collapse" in shown and "status     stopped" in shown
    assert "a" in said(capsys, where) and "sweep/c" in said(capsys, root)


def test_removing(root, capsys):
    where = f"root={root}"
    assert "would remove" in said(capsys, "rm", "a", where) and (root / "a").exists()
    assert "removed" in said(capsys, "rm", "a", "b", "--yes", where)
    assert [row.name for row in rows(root)] == ["sweep/c"]


def test_nothing_outside_and_nothing_in_use_is_removed(root, tmp_path, capsys):
    made(tmp_path, "elsewhere", 1.0)
    (root / "link").symlink_to(tmp_path / "elsewhere")
    for name in (tmp_path / "elsewhere", root / ".." / "elsewhere", "../elsewhere", "link"):
        with pytest.raises(UserError, match="does not lie in"):
            said(capsys, "rm", "a", name, "--yes", f"root={root}")
    code = "import sys, time; from pathlib import Path; from sslzoo.lock import sole_writer; lock = sole_writer(Path(sys.argv[1])); "
    code += "lock.__enter__(); print('held', flush=True); time.sleep(60)"
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    process = subprocess.Popen([sys.executable, "-c", code, root / "b"], stdout=subprocess.PIPE, text=True, env=env)
    try:
        assert process.stdout.readline() == "held\n"
        with pytest.raises(UserError, match="is being written by another process .pid"):
            said(capsys, "rm", "a", "b", "--yes", f"root={root}")
    finally:
        process.kill()
        process.wait()
    assert (root / "a").exists() and (root / "b").exists() and (tmp_path / "elsewhere").exists()


@pytest.mark.parametrize(
    "words, error, message",
    [
        (["show"], ConfigError, "one run in full: show RUN; got 0 words"),
        (["diff", "a"], ConfigError, "diff RUN OTHER; got 1 words"),
        (["best", "digti"], UserError, "has a score of digti"),
        (["bset"], UserError, "there is no folder bset.*did you mean 'best'"),
        (["show", "nowhere"], UserError, "no run 'nowhere'"),
        (["root=nowhere"], UserError, "there is no folder nowhere"),
        (["--what"], ConfigError, "unrecognized arguments"),
    ],
)
def test_what_is_not_taken(root, words, error, message):
    with pytest.raises(error, match=message):
        runs([*words, *([] if words[0].startswith("root") else [f"root={root}"])])


def test_completion(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    assert candidates("sslzoo runs b", {}) == ["best"]
    assert candidates("sslzoo runs show runs/a", {}) == ["runs/a"]
