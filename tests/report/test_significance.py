"""Ranking by more than the spread, and rows that today's code or settings did not make."""

import json
import subprocess

import numpy as np
import pytest
from folders import make_run

from sslzoo.report import stale, tables
from sslzoo.report.page import write
from sslzoo.report.record import read
from sslzoo.report.significance import told, welch
from sslzoo.report.stale import code_changed
from sslzoo.report.tables import Score, beats


@pytest.mark.parametrize("seed", range(4))
def test_welch_is_scipys(seed):
    from scipy.stats import ttest_ind

    g = np.random.default_rng(seed)
    one, other = g.normal(0.8, 0.03, 3).tolist(), g.normal(0.75, 0.01, 5).tolist()
    expected = ttest_ind(one, other, equal_var=False, alternative="greater").pvalue
    assert welch(one, other) == pytest.approx(expected, rel=1e-9)
    assert welch(other, one) == pytest.approx(1 - expected, rel=1e-9)


def test_one_seed_has_no_test_and_constants_are_certain():
    assert welch([0.9], [0.8, 0.7]) is None
    assert welch([0.9, 0.9], [0.8, 0.8]) == 0.0 and welch([0.8, 0.8], [0.8, 0.8]) == 1.0
    assert welch([0.9, 0.91], [0.8, 0.8]) == pytest.approx(0.0151, abs=1e-3)  # one is constant: raw features
    assert told(0.0004) == "Welch's t-test, p < 0.001" and told(0.0123) == "Welch's t-test, p = 0.012"


def test_more_than_the_spread_is_not_enough_of_two_seeds():
    one, other = Score((0.80, 0.84)), Score((0.77, 0.79))
    assert one.mean - other.mean > max(one.spread, other.spread) and not beats(one, other)
    assert beats(Score((0.80, 0.84, 0.82, 0.81)), Score((0.77, 0.79, 0.78, 0.78)))
    assert beats(Score((0.82,)), Score((0.78,))), "one seed has no spread, which is said"


def git(folder, *words):
    who = ["-c", "user.name=a", "-c", "user.email=a@b"]
    done = subprocess.run(["git", "-C", folder, *who, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_only_code_that_scores_depend_on_makes_results_stale(tmp_path):
    root = tmp_path / "sslzoo"
    (root / "nn").mkdir(parents=True)
    (root / "__init__.py").touch()
    assert not code_changed("abc", root), "outside git"
    (root / "nn" / "losses.py").write_text("one\n")
    git(tmp_path, "init", "-q")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "first")
    first = git(tmp_path, "rev-parse", "--short=12", "HEAD")
    code_changed.cache_clear()
    (root / "help.py").write_text("text\n")
    git(tmp_path, "add", ".")
    git(tmp_path, "commit", "-qm", "second")
    assert not code_changed(first, root) and not code_changed(None, root)
    assert code_changed(f"{first}-dirty", root) and code_changed("0123456789ab", root)
    (root / "nn" / "losses.py").write_text("two\n")
    code_changed.cache_clear()
    assert code_changed(first, root)
    code_changed.cache_clear()


def test_stale_rows_are_marked_in_every_table(tmp_path, monkeypatch):
    monkeypatch.setattr(tables, "code_changed", lambda since: since == "old")
    runs = {name: make_run(tmp_path / name, 0, {"digit": (0.9, 0.5, 0.3)}) for name in ("new", "old", "odd", "same")}
    for name, run in runs.items():
        summary = json.loads(run.summary.read_text())
        run.summary.write_text(json.dumps({**summary, "commit": name}))
        path = run.probes / "digit.json"
        probe = json.loads(path.read_text())
        probe["pretrained"]["protocol"] = "bbbbbb" if name == "odd" else "aaaaaa"
        path.write_text(json.dumps(probe))
    rows = tables.rows({name: [read(run)] for name, run in runs.items()})
    found = {row.entry: row.stale for row in rows}
    assert found == {"new": [], "old": ["other code"], "odd": ["other settings of the probe"], "same": []}
    assert next(row for row in rows if row.entry == "old").json()["stale"] == ["other code"]
    text = tables.markdown(rows)
    assert "| old † |" in text and "| odd † |" in text and "| new |" in text
    assert "† stale: made by other code or other settings of the probe than today's" in text
    assert "†" not in tables.markdown([row for row in rows if not row.stale])
    write(list(runs.values()), tmp_path / "page.html")
    assert "stale: made by other" in (tmp_path / "page.html").read_text()
    assert stale.ROOT.name == "sslzoo"
