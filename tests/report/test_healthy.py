from pathlib import Path

import numpy as np
import pytest
import yaml
from folders import make_run

from sslzoo.report import healthy
from sslzoo.run import Run

CONFIG = {
    "objective": {"_target_": "a.SimCLR", "temperature": 0.2},
    "data": {"_target_": "a.Digits"},
    "encoder": {"_target_": "a.ResNet"},
    "trainer": {"max_steps": 100},
}


def curve(config=CONFIG) -> healthy.Healthy:
    steps = np.array([0.0, 10.0])
    return healthy.Healthy("x", 3, config, steps, steps, steps - 1, steps + 1)


@pytest.mark.parametrize(
    "change, fits",
    [
        ({}, True),
        ({"optim": {"lr": 5.0}}, True),
        ({"objective": {"_target_": "a.SimCLR", "temperature": 0.2, "newer": 1}}, True),
        ({"objective": {"_target_": "a.SimCLR", "temperature": 0.1}}, False),
        ({"objective": {"_target_": "a.BYOL"}}, False),
        ({"data": {"_target_": "a.Cifar10"}}, False),
        ({"encoder": None}, False),
        ({"trainer": {"max_steps": 200}}, False),
    ],
)
def test_a_run_is_held_against_those_that_asked_the_same(change, fits):
    assert (healthy.find(CONFIG | change, (curve(),)) is not None) is fits
    assert healthy.find({}, (curve(),)) is None


def test_a_band_lies_between_its_points():
    assert curve().at(5) == (5, 4, 6)


def test_what_is_shipped_can_be_read_and_is_of_the_recipes(tmp_path):
    bands = healthy.shipped()
    assert {"simclr", "bert"} <= {band.name for band in bands}
    for band in bands:
        assert band.seeds >= 3 and (np.diff(band.steps) > 0).all() and healthy.find(band.config) is band
        assert (band.low < band.mean).all() and (band.mean < band.high).all()
        assert band.mean[-1] < band.mean[0]


@pytest.fixture
def maker(monkeypatch):
    monkeypatch.syspath_prepend(str(Path(__file__).parents[2] / "benchmarks"))
    return __import__("healthy")


def seeds(tmp_path, *losses) -> list[Run]:
    runs = [make_run(tmp_path / f"a-s{seed}", seed) for seed in range(len(losses))]
    for seed, (run, loss) in enumerate(zip(runs, losses, strict=True)):
        run.config.write_text(yaml.safe_dump(CONFIG | {"seed": seed}))
        run.metrics.write_text("step,loss\n" + "".join(f"{step},{loss - step / 50}\n" for step in range(100)))
    return runs


def test_a_band_is_made_of_runs_over_seeds(maker, tmp_path):
    path = maker.write("simclr", seeds(tmp_path, 4.9, 5.0, 5.1), tmp_path / "bands")
    made = healthy.load(path)
    assert made.seeds == 3 and made.config["objective"] == CONFIG["objective"] and made.fits(CONFIG)
    mean, low, high = made.at(50)
    assert mean == pytest.approx(4.0, abs=0.01) and (high - mean, mean - low) == pytest.approx((0.3, 0.3), abs=0.01)


def test_runs_of_two_configs_make_no_band(maker, tmp_path):
    runs = seeds(tmp_path, 4.9, 5.0)
    runs[1].config.write_text(yaml.safe_dump(CONFIG | {"optim": {"lr": 1.0}}))
    with pytest.raises(SystemExit, match="seed alone"):
        maker.write("simclr", runs, tmp_path / "bands")
    with pytest.raises(SystemExit, match="two finished runs"):
        maker.write("simclr", runs[:1], tmp_path / "bands")
    assert not (tmp_path / "bands").exists()
