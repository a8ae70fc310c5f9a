import json
import math

import numpy as np
import pytest
from folders import make_run

from sslzoo.report.healthy import Healthy
from sslzoo.report.record import read
from sslzoo.report.verdict import html, verdict


def judged(tmp_path, metrics: dict[str, list] | None = None, curves=(), name: str = "run", **made):
    """The verdict on a run with these columns, a row a step."""
    run = make_run(tmp_path / name, **made)
    if metrics is not None:
        rows = zip(range(len(next(iter(metrics.values())))), *metrics.values(), strict=True)
        lines = [",".join(["step", *metrics]), *(",".join(map(str, row)) for row in rows)]
        run.metrics.write_text("\n".join(lines) + "\n")
    return verdict([read(run)], tuple(curves))


FALLING = np.linspace(5, 3, 20).round(3).tolist()


def test_a_run_that_learned_is_healthy(tmp_path):
    found = judged(tmp_path, {"loss": FALLING, "accuracy": [0.5] * 20, "chance": [0.1] * 20})
    assert found.state == "healthy" and found.of("odd", "warning") == []
    assert "the loss fell from 4.95 to 3.05" in found.sentence and "better than the untrained encoder" in found.sentence
    assert 'class="verdict healthy"' in html(found)


@pytest.mark.parametrize(
    "metrics, word",
    [
        ({"loss": FALLING[::-1]}, "rose"),
        ({"loss": [2.0] * 20}, "stood still"),
        ({"loss": [*FALLING[:10], math.nan, *FALLING[11:]]}, "not finite from step 10"),
        ({"loss": FALLING, "accuracy": [0.11] * 20, "chance": [0.1] * 20}, "as by chance"),
        ({"loss": np.linspace(5.2, 4.99, 20).tolist(), "uniform_loss": [5.0] * 20}, "one who guesses"),
        ({"loss": FALLING, "accuracy": [1.0] * 20, "val_accuracy": [""] * 19 + [0.4]}, "by heart"),
        ({"loss": FALLING, "val_loss": np.abs(np.linspace(-1, 0.6, 20)).tolist()}, "validation loss grows"),
    ],
)
def test_what_is_odd_is_said(tmp_path, metrics, word):
    found = judged(tmp_path, metrics)
    assert found.state == "odd" and word in found.sentence
    assert word in html(found) and "One thing to look at" in html(found)


def test_a_probe_below_the_untrained_encoder_is_odd(tmp_path):
    found = judged(tmp_path, probes={"digit": (0.35, 0.48, 0.3), "word": (0.9, 0.5, 0.3)})
    assert found.state == "odd"
    assert "no better than the untrained encoder on digit 35.0 (untrained 48.0)" in found.sentence
    assert found.of("good")[-1] == "better than the untrained encoder on word 90.0 (untrained 50.0)"


def test_the_loss_of_a_moving_teacher_is_no_measure(tmp_path):
    assert judged(tmp_path, {"loss": FALLING[::-1]}, objective="BYOL").state == "healthy"  # by its probe


def test_a_warning_is_odd_and_is_not_said_twice(tmp_path):
    run = make_run(tmp_path / "a")
    run.metrics.write_text("step,loss,accuracy,chance\n" + "".join(f"{n},{5 - n / 9},0.1,0.1\n" for n in range(9)))
    event = {"step": 5, "kind": "no better than chance", "message": "accuracy 0.1 is chance (0.1)."}
    run.events.write_text(json.dumps(event) + "\n")
    found = verdict([read(run)], ())
    assert found.state == "odd" and found.sentence.count("chance (0.1)") == 1 and "as by chance" not in found.sentence


def test_an_unfinished_run_says_so_first(tmp_path):
    run = make_run(tmp_path / "a")
    (run.folder / "DONE").unlink()
    found = verdict([read(run)], ())
    assert found.state == "unfinished" and "no DONE" in found.sentence


def test_nothing_to_judge_by_is_no_health(tmp_path):
    assert judged(tmp_path, {"other": [1.0]}, probes={}).state == "unknown"


def test_a_run_is_held_against_healthy_ones_of_its_config(tmp_path):
    steps, config = np.arange(20.0), {"objective": {"_target_": "sslzoo.objective.SimCLR", "temperature": 0.2}}
    config |= {k: {"_target_": f"sslzoo.{k}.{v}"} for k, v in (("data", "Digits"), ("encoder", "ResNet"))}
    mean = np.array(FALLING)
    band = Healthy("simclr", 3, config, steps, mean, mean - 0.2, mean + 0.2)
    assert "of 3 healthy runs" in judged(tmp_path, {"loss": FALLING}, [band], "same").of("good")[1]
    high = judged(tmp_path, {"loss": [v + 1 for v in FALLING]}, [band], "high")
    assert high.state == "odd" and "above the 2.8 to 3.2 of 3 healthy runs" in high.sentence.replace("2.80", "2.8")
    assert "below the" in judged(tmp_path, {"loss": [v - 1 for v in FALLING]}, [band], "low").sentence
    other = judged(tmp_path, {"loss": [v + 1 for v in FALLING]}, [band], "other", objective="VICReg")
    assert other.state == "healthy"


def test_seeds_are_judged_together_and_the_odd_one_is_named(tmp_path):
    runs = [make_run(tmp_path / f"a-s{n}", n) for n in range(2)]
    runs[1].metrics.write_text("step,loss\n" + "".join(f"{n},{1 + n}\n" for n in range(9)))
    found = verdict([read(run) for run in runs], ())
    assert found.state == "odd" and "rose from 1 to 9 (a-s1)" in found.sentence


def test_what_all_seeds_did_is_said_once_with_its_range(tmp_path):
    runs = [make_run(tmp_path / f"a-s{n}", n) for n in range(3)]
    for n, run in enumerate(runs):
        run.metrics.write_text("step,loss\n" + "".join(f"{k},{5 + n - k / 4}\n" for k in range(9)))
    assert "the loss fell from 5–7 to 3–5;" in verdict([read(run) for run in runs], ()).sentence
