import ast
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
import threading
import time
from pathlib import Path

import pytest
from conftest import TINY
from folders import make_labels, make_run, part

from sslzoo.compare.plan import plan
from sslzoo.compare.process import Command, last_error_line, override
from sslzoo.compare.queue import alone
from sslzoo.compare.run import compare
from sslzoo.config import fingerprint, options, protocol
from sslzoo.errors import ConfigError, UserError
from sslzoo.run import Run, write_json

CNN = {"overrides": ["objective=simclr"], "tasks": ["digit", "colour"]}
CONFIG = {
    "name": "trial",
    "root": "runs",
    "seeds": [0, 1],
    "on_error": "stop",
    "entries": {
        "cnn": CNN,
        "vit": {"overrides": ["objective=rotation"], "tasks": ["digit"]},
    },
}


class Fake(Command):
    """Does at once what the commands would, and remembers what it was asked."""

    def __init__(self, root, fail=None, refuse=None):
        super().__init__()
        self.root, self.fail, self.refuse, self.asked, self.checked = root, fail or {}, refuse, [], []
        self.words = []

    def check(self, run, overrides, tasks, labels=None):
        self.checked.append(run.name)
        if run.name == self.refuse:
            raise ConfigError("there is no objective 'simclrr'")

    def __call__(self, command, *arguments):
        self.words.append((command, *arguments))
        self.said = said = dict(a.split("=", 1) for a in arguments if a != "--multirun")
        name = Path(said["name"] if "name" in said else said["run"]).name
        failed = []
        for task in said.get("task", "").split(",") if command == "probe" else [None]:
            self.asked.append((command, name, task))
            if error := self.fail.get(self.asked[-1]):
                failed.append(error)  # a sweep's other tasks go on
            elif command == "pretrain":
                make_run(self.root / said["name"], int(said["seed"]), probes={}, targets=said.get("targets"))
            elif command == "label":
                make_labels(self.root / said["name"], int(said["clusters"]), said.get("run"), int(said["seed"]))
            else:
                scores = {"pretrained": 0.8 + int(name[-1]) / 10, "untrained": 0.5, "raw": 0.3}
                results = {kind: part(score) for kind, score in scores.items()}
                write_json(Run(Path(said["run"])).probes / f"{task}.json", results)
        if failed:
            raise failed[0]


def everything(root) -> list:
    return json.loads((root / "trial" / "results.json").read_text())


def test_it_does_all_and_writes_it_down(tmp_path, capsys):
    fake = Fake(tmp_path)
    results = compare(CONFIG, tmp_path, fake)
    assert fake.asked[:3] == [
        ("pretrain", "cnn-s0", None),
        ("probe", "cnn-s0", "digit"),
        ("probe", "cnn-s0", "colour"),
    ]
    assert len(fake.asked) == 4 + 6 and fake.checked == ["cnn-s0", "vit-s0", "cnn-s1", "vit-s1"]
    assert results == everything(tmp_path)
    row = next(r for r in results["rows"] if (r["entry"], r["task"]) == ("cnn", "digit"))
    assert row["linear"]["pretrained"]["values"] == [0.8, 0.9] and row["beats"] == ["untrained", "raw"]
    assert row["minutes"]["mean"] == 1.5 and row["linear"]["pretrained"]["spread"] == pytest.approx(0.0707, abs=1e-4)
    [first] = [r for r in results["runs"] if r["run"] == "cnn-s0"]
    assert first["seed"] == 0 and first["done"] and first["scores"]["digit"]["linear"]["raw"] == 0.3
    assert first["machine"]["cores"] and first["peak_memory_gb"] == 1.25 and len(first["config_hash"]) == 6
    # three features a probe, 6 seconds each
    assert results["minutes"] == pytest.approx(4 * 1.5 + 6 * 3 * 6 / 60)
    out = capsys.readouterr().out
    assert "85.0 ± 7.1" in out and "report.html" in out
    last = out.splitlines()[-3:]
    assert last[0] == "digit: nothing tells cnn and vit apart, 85.0 ± 7.1 at best, within the spread."
    assert last[1].startswith("colour: cnn scores 85.0") and last[2].startswith("wrote ")
    markdown = (tmp_path / "trial" / "results.md").read_text()
    assert "**85.0 ± 7.1**" in markdown and "85.0" in (tmp_path / "trial" / "report.html").read_text()


def test_it_goes_on_where_it_was_stopped(tmp_path):
    at = ("probe", "vit-s0", "digit")
    with pytest.raises(KeyboardInterrupt):
        compare(CONFIG, tmp_path, Fake(tmp_path, {at: KeyboardInterrupt()}))
    again = Fake(tmp_path)
    compare(CONFIG, tmp_path, again)
    assert again.asked[0] == at and ("pretrain", "vit-s0", None) not in again.asked
    assert not any(name == "cnn-s0" for _, name, _ in again.asked)
    third = Fake(tmp_path)
    compare(CONFIG, tmp_path, third)
    assert third.asked == []


def test_a_run_that_stopped_early_is_not_taken_for_done(tmp_path):
    class Stops(Fake):
        def __call__(self, command, *arguments):
            super().__call__(command, *arguments)
            (self.root / "trial" / "cnn-s0" / "DONE").unlink()

    with pytest.raises(UserError, match="cnn-s0: pretraining stopped before its last step"):
        compare(CONFIG, tmp_path, Stops(tmp_path))


def test_a_failure_stops_it_in_one_line_and_keeps_what_is_there(tmp_path):
    fake = Fake(tmp_path, {("pretrain", "vit-s0", None): UserError("no space left on /data")})
    with pytest.raises(UserError) as caught:
        compare(CONFIG, tmp_path, fake)
    assert str(caught.value) == "vit-s0: no space left on /data" and caught.value.code == 1
    assert fake.asked[-1] == ("pretrain", "vit-s0", None)
    results = everything(tmp_path)
    assert [r["error"] for r in results["runs"]] == [None, "vit-s0: no space left on /data", None, None]
    assert "no space left on /data" in (tmp_path / "trial" / "report.html").read_text()


def test_with_continue_it_does_the_rest_and_still_fails(tmp_path):
    failing = {
        ("probe", "cnn-s0", "digit"): ConfigError("bad"),
        ("pretrain", "vit-s1", None): UserError("worse"),
    }
    fake = Fake(tmp_path, failing)
    with pytest.raises(ConfigError, match="2 of 4 runs failed; the first: cnn-s0: bad"):
        compare({**CONFIG, "on_error": "continue"}, tmp_path, fake)
    assert ("probe", "cnn-s1", "colour") in fake.asked
    rows = {(r["entry"], r["task"]): r for r in everything(tmp_path)["rows"]}
    assert rows["cnn", "digit"]["linear"]["pretrained"]["values"] == [0.9]
    assert "(1/2)" in (tmp_path / "trial" / "results.md").read_text()


HUBERT = {
    "name": "trial",
    "seeds": [0, 1],
    "entries": {
        "one": {"label": ["source=mfcc", "clusters=4"], "overrides": ["objective=hubert"], "tasks": []},
        "two": {"label": ["run=one", "layer=1", "clusters=4"], "overrides": ["objective=hubert"], "tasks": []},
        "other": {"overrides": ["objective=simclr"], "tasks": ["digit"]},
    },
}


class Slow(Fake):
    """Takes a moment, and sees what else runs."""

    def __init__(self, *words):
        super().__init__(*words)
        self.busy, self.most, self.begun, self.ended = 0, 0, [], []
        self.lock = threading.Lock()

    def __call__(self, command, *arguments):
        with self.lock:
            self.busy += 1
            self.most = max(self.most, self.busy)
            super().__call__(command, *arguments)
            self.begun.append(self.asked[-1][:2])
        time.sleep(0.02)
        with self.lock:
            self.busy -= 1
            self.ended.append(self.asked[-1][:2])


@pytest.mark.parametrize("jobs", [1, 2, 3])
def test_runs_beside_each_other(tmp_path, jobs):
    slow = Slow(tmp_path)
    results = compare(HUBERT | {"jobs": jobs}, tmp_path, slow)
    assert slow.most == jobs and all(run["done"] for run in results["runs"])
    assert slow.threads is None if jobs == 1 else slow.threads >= 1
    for seed in (0, 1):  # what is labelled by a run waits for it
        assert slow.begun.index(("pretrain", f"one-s{seed}")) < slow.begun.index(("label", f"two-s{seed}-labels"))
    alone = compare(HUBERT, tmp_path, Fake(tmp_path))
    assert alone["config_hash"] == results["config_hash"], "how many run at a time changes nothing"


def test_a_failure_beside_others_begins_no_more(tmp_path):
    slow = Slow(tmp_path, {("pretrain", "cnn-s0", None): UserError("no space left")})
    with pytest.raises(UserError, match="cnn-s0: no space left"):
        compare(CONFIG | {"jobs": 2}, tmp_path, slow)
    assert ("pretrain", "vit-s0", None) in slow.asked and not any(name == "vit-s1" for _, name, _ in slow.asked)


def test_every_entry_begins_with_what_is_shared(tmp_path):
    shared = {"overrides": ["data=digits"], "tasks": ["digit"]}
    made = {
        **CONFIG,
        "shared": shared,
        "entries": {"a": {"overrides": ["objective=mae"], "tasks": ["colour"]}, "b": {}},
    }
    a, b = plan(made, tmp_path)[:2]
    assert a.overrides[:2] == ["data=digits", "objective=mae"] and list(a.tasks) == ["digit", "colour"]
    assert b.overrides[0] == "data=digits" and list(b.tasks) == ["digit"]


def test_all_is_checked_before_anything_runs(tmp_path):
    fake = Fake(tmp_path, refuse="vit-s1")
    with pytest.raises(ConfigError, match="vit-s1: there is no objective 'simclrr'"):
        compare(CONFIG, tmp_path, fake)
    assert fake.asked == [] and not (tmp_path / "trial").exists()


def test_two_at_once_are_refused(tmp_path):
    class Within(Fake):
        def __call__(self, command, *arguments):
            super().__call__(command, *arguments)
            with pytest.raises(UserError, match="another `sslzoo compare`"):
                compare(CONFIG, tmp_path, Fake(tmp_path))
            raise UserError("seen")

    with pytest.raises(UserError, match="seen"):
        compare(CONFIG, tmp_path, Within(tmp_path))


@pytest.mark.parametrize(
    "change, words",
    [
        ({"seeds": []}, "seeds"),
        ({"seeds": [0, 0]}, "twice"),
        ({"seeds": ["a"]}, "seeds"),
        ({"seeds": [True]}, "seeds"),
        ({"name": "../up"}, "name"),
        ({"name": None}, "name"),
        ({"entries": {}}, "comparison="),
        ({"on_error": "ignore"}, "stop or continue"),
        ({"jobs": 0}, "jobs, the runs at a time"),
        ({"shared": {"seeds": [1]}}, "shared may have"),
        ({"shared": {"overrides": "x"}, "entries": {"a": {"tasks": []}}}, "entries.a must have"),
        ({"seedz": [1]}, "did you mean 'seeds'"),
        ({"entries": {"a": {"overrides": []}}}, "entries.a must have"),
        ({"entries": {"a b": {"overrides": [], "tasks": []}}}, "entry"),
        ({"entries": {"a": {"overrides": "x", "tasks": []}}}, "list of strings"),
        ({"entries": {"a": {"overrides": [], "tasks": [3]}}}, "list of tasks"),
        ({"entries": {"a": {"overrides": [], "tasks": [{"b": "c=d"}]}}}, "entries.a.tasks.b must"),
        ({"entries": {"a": {"overrides": [], "tasks": ["../b"]}}}, "a task in"),
        ({"entries": {"a": {"overrides": ["seed=3"], "tasks": []}}}, "sets seed=3"),
        ({"entries": {"a": {"overrides": ["++name=b"], "tasks": []}}}, "sets ..name=b"),
        (
            {"entries": {"a": {"overrides": [], "tasks": [], "labels": []}}},
            "if it likes label and adapt, and nothing else",
        ),
        ({"entries": {"a": {"overrides": [], "tasks": [], "label": "source=mfcc"}}}, "entries.a.label must be a list"),
        ({"entries": {"a": {"overrides": [], "tasks": [], "label": ["seed=1"]}}}, "entries.a.label sets seed=1"),
        ({"entries": {"a": {"overrides": ["targets=x"], "tasks": [], "label": []}}}, "overrides sets targets=x"),
        ({"entries": {"a": {"overrides": [], "tasks": [], "label": ["run=a"]}}}, "before it: none does"),
        (
            {"entries": {"cnn": CNN, "a": {"overrides": [], "tasks": [], "label": ["run=cmn"]}, "z": CNN}},
            "run=cmn, which must name an entry that comes before it: cnn — did you mean 'cnn'",
        ),
        ({"entries": {"a": {"overrides": [], "tasks": [], "label": ["+run='z'"]}, "z": CNN}}, "before it: none does"),
    ],
)
def test_a_config_that_makes_no_sense_is_refused_in_one_line(tmp_path, change, words):
    with pytest.raises(ConfigError, match=re.escape(words) if "." not in words else words) as caught:
        plan({**CONFIG, **change}, tmp_path)
    assert "\n" not in str(caught.value)


def test_the_plan_is_seed_by_seed(tmp_path):
    made = plan(CONFIG, Path("runs"))
    assert [p.run.folder.as_posix() for p in made] == [f"runs/trial/{e}-s{s}" for s in (0, 1) for e in ("cnn", "vit")]
    assert made[0].overrides == ["objective=simclr", "name=trial/cnn-s0", "root=runs", "seed=0"]


def test_codes_may_be_of_an_earlier_entrys_run(tmp_path):
    entries = {name: {"overrides": [], "tasks": []} for name in ("vq", "other", "bert")}
    entries["bert"]["overrides"] = ["encoder.frontend.run=vq"]
    planned = plan({"name": "c", "seeds": [0, 1], "entries": entries}, tmp_path)
    berts = [one for one in planned if one.entry == "bert"]
    assert [one.after for one in berts] == [tmp_path / "c" / f"vq-s{seed}" for seed in (0, 1)]
    assert f"encoder.frontend.run={tmp_path / 'c' / 'vq-s1'}" in berts[1].overrides
    entries["other"]["overrides"] = ["encoder.frontend.run=bert"]
    with pytest.raises(ConfigError, match="entries.other.overrides sets encoder.frontend.run=bert, which must name an"):
        plan({"name": "c", "entries": entries}, tmp_path)
    entries["other"]["overrides"] = ["encoder.frontend.run=runs/elsewhere"]
    assert plan({"name": "c", "entries": entries}, tmp_path)[1].after is None


def test_a_task_may_have_overrides_of_its_own(tmp_path):
    tasks = ["digit", {"sst2": ["task.data.path=x"]}, "digit"]
    made = {**CONFIG, "seeds": [0], "entries": {"a": {"overrides": [], "tasks": tasks}}}
    assert plan(made, tmp_path)[0].tasks == {"digit": [], "sst2": ["task.data.path=x"]}
    fake = Fake(tmp_path)
    results = compare(made, tmp_path, fake)
    assert fake.asked[-1] == ("probe", "a-s0", "sst2") and fake.said["task.data.path"] == "x"
    assert results["entries"]["a"]["tasks"] == ["digit", "sst2"] and results["config"] == made


@pytest.mark.parametrize(
    "value", ["a b", "it's", "x=1,y", "plain/path-1.5", "\\", "a\\b", "\\'", "a\\\\", "${oc.env:HOME}"]
)
def test_an_override_says_what_was_meant(value):
    from hydra.core.override_parser.overrides_parser import OverridesParser

    [parsed] = OverridesParser.create().parse_overrides([override("name", value)])
    assert str(parsed.value()) == value


@pytest.mark.parametrize(
    "text, code, expected",
    [
        ("\x1b[2K\rloss 3\r\nsslzoo: no data in x\r\n", 1, "no data in x"),
        ("Traceback\nKeyError: 3\n", 1, "KeyError: 3"),
        ("", 3, "it ended with code 3 and said nothing"),
        ("step 3\n", -9, "it was ended by signal 9 (most often: out of memory)"),
    ],
)
def test_the_last_words_are_the_error(text, code, expected):
    assert last_error_line(text, code) == expected


def test_a_command_that_fails_says_why_in_one_line(capsys):
    with pytest.raises(ConfigError, match="there is no command 'pretrian'") as caught:
        Command()("pretrian", "seed=1")
    assert "\n" not in str(caught.value) and "there is no command" in capsys.readouterr().err


@pytest.mark.parametrize("line", ["print('x')", "import sys; sys.stderr.write('no\\n'); sys.exit(1)"])
def test_what_a_command_prints_does_not_reach_stdout(line, monkeypatch, capfd):
    monkeypatch.setattr(Command, "program", (sys.executable, "-c", line))
    try:
        Command()("x")
    except UserError as error:
        assert str(error) == "no"
    assert capfd.readouterr().out == ""


def test_after_the_end_nothing_is_begun(monkeypatch):
    """An interrupt may come between two commands of a run that another thread carries out."""
    monkeypatch.setattr(Command, "program", (sys.executable, "-c", "pass"))
    command = Command()
    command("x")
    command.end()
    with pytest.raises(UserError, match="not begun"):
        command("x")
    assert not command.children


def test_an_interrupt_is_passed_on_and_waited_for(tmp_path):
    """A comparison that is told to end tells its run to, which finishes its step and saves."""
    child = tmp_path / "child.py"
    child.write_text(
        textwrap.dedent(f"""
        import pathlib, signal, sys, time
        def stop(*_):
            time.sleep(0.3)
            pathlib.Path({str(tmp_path / "saved")!r}).touch()
            sys.exit(1)
        signal.signal(signal.SIGTERM, stop)
        pathlib.Path({str(tmp_path / "ready")!r}).touch()
        time.sleep(60)
        """)
    )
    parent = textwrap.dedent(f"""
        import sys
        from sslzoo.compare.process import Command, signals_as_interrupt
        Command.program = (sys.executable, {str(child)!r})
        with signals_as_interrupt():
            Command()("pretrain")
        """)
    process = subprocess.Popen([sys.executable, "-c", parent], stderr=subprocess.DEVNULL)
    try:
        for _ in range(200):
            if (tmp_path / "ready").exists():
                break
            time.sleep(0.05)
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) != 0
    finally:
        process.kill()
    assert (tmp_path / "saved").exists()


SMALL = ["objective=rotation", "data=tiny_image", "encoder=tiny_resnet", "trainer.max_steps=2"]


@pytest.mark.parametrize(
    "overrides, tasks, words",
    [
        (["objective=rotatoin"], {}, "did you mean 'rotation'"),
        (["trainer.max_stesp=3"], {}, "trainer.max_stesp"),
        (["encoder=tiny_text"], {}, "encoder="),
        ([], {"image_clas": []}, "did you mean 'image_class'"),
        ([], {"image_class": ["probe.k=0"]}, "probe.k"),
        ([], {"image_class": ["task.name=other"]}, "'other'"),
        ([], {"sst2": []}, "task.data.path"),
        ([], {"sst2": ["task.data.path=x"]}, "task sst2 is about text"),
    ],
)
def test_the_check_refuses_what_the_commands_would(tmp_path, overrides, tasks, words):
    with pytest.raises(ConfigError) as caught:
        Command([TINY]).check(Run(tmp_path / "r"), [*SMALL, *overrides], tasks)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_check_takes_what_fits_and_writes_nothing(tmp_path):
    Command([TINY]).check(Run(tmp_path / "r"), SMALL, {"image_class": []})
    assert list(tmp_path.iterdir()) == []


def test_the_check_refuses_a_run_of_another_config(tmp_path):
    from sslzoo.build import write_config

    command, run = Command([TINY]), Run(tmp_path / "r")
    config = command.compose("pretrain", SMALL)
    write_config(run, {k: v for k, v in config.items() if k not in ("root", "name")})
    command.check(run, SMALL, {})
    with pytest.raises(ConfigError, match="trainer.max_steps: 2 -> 3"):
        command.check(run, [*SMALL, "trainer.max_steps=3"], {})


@pytest.fixture(scope="module")
def command() -> Command:
    """One for all comparisons, which have many tasks in common."""
    return Command()


@pytest.mark.parametrize("name", [name for name in options("comparison") if not name.startswith("adaptation")])
def test_every_comparison_can_be_carried_out(name, command, tmp_path):
    config = command.compose("compare", [f"comparison={name}"])
    for planned in {one.entry: one for one in plan(config, tmp_path)}.values():  # of seeds, one
        command.check(planned.run, planned.overrides, planned.tasks, planned.labels)


def test_the_check_refuses_a_probe_of_other_settings(tmp_path):
    command, run = Command([TINY]), Run(tmp_path / "r")
    config = command.compose("probe", ["task=image_class", f"run={run.folder}"])
    write_json(run.probes / "image_class.json", {"pretrained": {"protocol": fingerprint(protocol(config, {}))}})
    command.check(run, SMALL, {"image_class": []})
    with pytest.raises(ConfigError, match="image_class.json was measured with other settings of task image_class"):
        command.check(run, SMALL, {"image_class": ["probe.k=3"]})


def test_with_a_launcher_each_command_goes_out_as_a_job(tmp_path, monkeypatch):
    """Its words, and the order: what an entry's labels are made of is done before, however many jobs there may be."""
    line = f"import sys; open({str(tmp_path / 'asked')!r}, 'a').write(repr(sys.argv[1:]) + chr(10))"
    monkeypatch.setattr(Command, "program", (sys.executable, "-c", line))
    launcher = ["hydra/launcher=submitit_slurm", "hydra.launcher.partition=gpu"]
    command = Command(launcher=launcher)
    with alone(tmp_path / "trial", command, "compare"):
        command("pretrain", "seed=0")
        command("probe", "--multirun", "task=a,b")
    asked = [ast.literal_eval(text) for text in (tmp_path / "asked").read_text().splitlines()]
    queue = f"hydra.sweep.dir={tmp_path}/trial/.jobs"
    assert asked == [
        ["pretrain", "seed=0", "--multirun", *launcher, queue],
        ["probe", "--multirun", "task=a,b", *launcher, queue],
    ]


def test_the_table_fills_as_runs_end(tmp_path):
    seen = []

    class Looks(Fake):
        def __call__(self, command, *arguments):
            if command == "pretrain" and (tmp_path / "trial" / "results.json").exists():
                seen.append([run["run"] for run in everything(self.root)["runs"] if run["done"]])
            super().__call__(command, *arguments)

    compare(CONFIG, tmp_path, Looks(tmp_path))
    assert seen == [["cnn-s0"], ["cnn-s0", "vit-s0"], ["cnn-s0", "vit-s0", "cnn-s1"]]


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_a_comparison_by_a_launcher_ends_and_is_not_done_again(launcher, tmp_path):
    pytest.importorskip(f"hydra_plugins.hydra_{launcher.removesuffix('_local')}_launcher")
    own = tmp_path / "own"
    (own / "comparison").mkdir(parents=True)
    fixed = ["data=tiny_image", "encoder=tiny_resnet", "trainer.max_steps=2", "trainer.progress=false"]
    entries = {name: {"overrides": [f"objective={name}", *fixed], "tasks": []} for name in ("rotation", "simclr")}
    (own / "comparison" / "two.yaml").write_text(
        "# @package _global_\n" + json.dumps({"name": "two", "jobs": 2, "entries": entries})
    )
    words = [sys.executable, "-m", "sslzoo", "compare", "--config-dir", str(own), "-cd", str(TINY), "comparison=two"]
    words += [f"root={tmp_path / 'runs'}", f"hydra/launcher={launcher}"]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    for _ in range(2):
        done = subprocess.run(words, capture_output=True, text=True, env=env, timeout=500, check=False)
        assert done.returncode == 0, done.stderr
    assert "done already" in done.stderr
    assert [run["done"] for run in json.loads((tmp_path / "runs" / "two" / "results.json").read_text())["runs"]] == [
        True
    ] * 2
    assert (tmp_path / "runs" / "two" / ".jobs").is_dir()
