from folders import make_run

from sslzoo.report import headline, tables
from sslzoo.report.record import read


def rows(tmp_path, **entries):
    """By entry, the scores (pretrained, untrained, raw) of each of its seeds, by task."""
    groups = {
        name: [read(make_run(tmp_path / f"{name}-s{n}", n, probes)) for n, probes in enumerate(seeds)]
        for name, seeds in entries.items()
    }
    return tables.rows(groups)


def said(made) -> str:
    [answer] = headline.answers(made)
    return headline.sentence(answer)


def test_the_best_is_named_and_how_far_ahead_it_is(tmp_path):
    one = [{"digit": (0.90, 0.5, 0.3)}, {"digit": (0.92, 0.5, 0.3)}]
    other = [{"digit": (0.80, 0.5, 0.3)}, {"digit": (0.82, 0.5, 0.3)}]
    assert (
        said(rows(tmp_path, slow=other, cnn=one))
        == "cnn is best, 91.0 ± 1.4, 10.0 ahead of slow, beyond the spread (Welch's t-test, p = 0.010)"
    )


def test_one_seed_is_ahead_by_an_unknown_spread(tmp_path):
    made = rows(tmp_path, a=[{"digit": (0.9, 0.5, 0.3)}], b=[{"digit": (0.8, 0.5, 0.3)}])
    assert said(made).endswith("10.0 ahead of b, of unknown spread: one seed")


def test_what_the_spread_cannot_tell_apart_is_said(tmp_path):
    a = [{"digit": (0.80, 0.3, 0.3)}, {"digit": (0.90, 0.3, 0.3)}]
    b = [{"digit": (0.82, 0.3, 0.3)}, {"digit": (0.84, 0.3, 0.3)}]
    assert said(rows(tmp_path, a=a, b=b)) == "nothing tells a and b apart, 85.0 ± 7.1 at best, within the spread"


def test_a_baseline_that_beats_the_best_is_said(tmp_path):
    made = rows(tmp_path, a=[{"digit": (0.6, 0.5, 0.7)}], b=[{"digit": (0.5, 0.5, 0.7)}])
    assert said(made).endswith("; but raw features scored 70.0")


def test_one_run_stands_beside_its_baselines(tmp_path):
    assert said(rows(tmp_path, a=[{"digit": (0.6, 0.5, 0.3)}])) == "a scores 60.0, above untrained 50.0 and raw 30.0"
    assert said(rows(tmp_path, c=[{"digit": (0.6, 0.5, 0.7)}])) == "c scores 60.0, above untrained 50.0, below raw 70.0"
    level = [{"digit": (own, 0.55, 0.3)} for own in (0.60, 0.50, 0.55)]
    assert said(rows(tmp_path, d=level)).endswith("level with untrained 55.0, above raw 30.0")
    assert headline.text(rows(tmp_path, b=[{"digit": (0.6, 0.5, 0.3)}])) == ""


def test_a_task_that_is_not_probed_has_no_answer(tmp_path):
    assert list(headline.answers(rows(tmp_path, a=[{}]))) == [] and headline.html([], {}) == ""


def test_the_report_says_it_in_the_terminal_too(sslzoo, tmp_path):
    make_run(tmp_path / "a", 0, {"digit": (0.9, 0.5, 0.3)}, objective="SimCLR")
    make_run(tmp_path / "b", 0, {"digit": (0.8, 0.5, 0.3)}, objective="BYOL")
    code, out, _ = sslzoo("report", "a", "b", "--root", str(tmp_path), "--out", "page.html")
    assert code == 0
    assert out.splitlines() == [
        "digit: a is best, 90.0, 10.0 ahead of b, of unknown spread: one seed.",
        "wrote page.html",
    ]


def test_names_are_escaped_and_linked(tmp_path):
    name = "a<b>"
    made = rows(tmp_path, **{name: [{"x&y": (0.9, 0.5, 0.3)}], "a": [{"x&y": (0.8, 0.5, 0.3)}]})
    html = headline.html(made, {name: "run-0", "a": "run-1"})
    assert '<a href="#run-0"><b>a&lt;b&gt;</b></a> is best' in html and 'ahead of <a href="#run-1">a</a>' in html
    assert "<strong>x&amp;y</strong>" in html
