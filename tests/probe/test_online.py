"""The probe beside the training: that it changes nothing, that it goes on, and what it finds."""

import csv
import dataclasses

import numpy as np
import pytest
import torch
from conftest import tiny
from test_contracts import train
from worlds import Framed, spoken

from sslzoo.errors import ConfigError, Stopped, UserError
from sslzoo.probe.online import OnlineProbe
from sslzoo.report.page import write

PROBE = [
    "callbacks=online_probe",
    "callbacks.online_probe.label=label",
    "callbacks.online_probe.every=2",
    "callbacks.online_probe.k=3",
]
COUNT = ["+callbacks.mine._target_=tiny_callbacks.Count"]


def config(objective: str, *words: str) -> dict:
    return tiny(objective, "trainer.max_steps=5", "trainer.log_every=3", *words)


def rows(run) -> list[dict]:
    with open(run.metrics, newline="") as file:
        return list(csv.DictReader(file))


@pytest.mark.parametrize("objective", ["simclr", "hubert"])
def test_the_weights_are_the_same_with_it_and_without(objective, tmp_path):
    more = [] if objective == "simclr" else ["+encoder.trunk.dropout=0.2"]
    plain = train(config(objective, *more), tmp_path / "plain")
    probed = train(config(objective, *more, *PROBE), tmp_path / "probed")
    assert probed.weights.read_bytes() == plain.weights.read_bytes()
    assert probed.objective_weights.read_bytes() == plain.objective_weights.read_bytes()
    found = rows(probed)
    assert [int(row["step"]) for row in found if row["probe_knn"]] == [1, 3, 4]
    assert [int(row["step"]) for row in rows(plain)] == [0, 3, 4]
    for row in found:
        if row["probe_knn"]:
            assert 0 <= float(row["probe_knn"]) <= 1 and 0 <= float(row["probe_linear"]) <= 1
            assert float(row["rankme"]) >= 1 and float(row["lidar"]) >= 1


def test_a_stopped_run_has_the_same_curve(tmp_path):
    whole = train(config("simclr", *PROBE, *COUNT), tmp_path / "whole")
    stopping = config("simclr", *PROBE, *COUNT, "+callbacks.mine.stop_at=3")
    with pytest.raises(Stopped):
        train(stopping, tmp_path / "a")
    stopped = train(stopping, tmp_path / "a")
    # stopping logs nothing more; the last step, which `finish` asks for, is the same
    assert rows(stopped) == rows(whole)
    write([stopped], tmp_path / "page.html")
    page = (tmp_path / "page.html").read_text()
    assert all(f">{name}<" in page for name in ("probe_linear", "probe_knn", "rankme", "lidar"))


@dataclasses.dataclass
class Module:
    """What the probe asks of a LightningModule."""

    encoder: torch.nn.Module
    total_steps: int = 10
    also_log: tuple = ()
    device: torch.device = dataclasses.field(default_factory=lambda: torch.device("cpu"))
    objective: object = None


@dataclasses.dataclass
class Trainer:
    datamodule: object


def begun(probe: OnlineProbe, encoder, data):
    module = Module(encoder)
    probe.on_fit_start(Trainer(type("Loaders", (), {"data": data})), module)
    return module


def test_it_finds_what_the_encoder_knows():
    known = {}
    for name, gain in (("knows", 1.0), ("does not", 0.0)):
        probe = OnlineProbe(k=5)
        known[name] = probe.measure(begun(probe, Framed((0.0, gain)), spoken()))
        assert "lidar" not in known[name]  # no views, and no crops
    assert min(known["knows"][name] for name in ("probe_linear", "probe_knn")) > 0.8
    assert known["does not"]["probe_linear"] < 0.7


def test_crops_are_views_of_long_items():
    data = spoken((30, 30, 5), shortest=30, longest=40)
    data.splits["valid"].cut = 10
    data.splits["valid"].read = lambda index, seed=None: torch.Tensor(
        data.splits["valid"].items[index][slice(*data.splits["valid"].window(index, seed))]
    )
    probe = OnlineProbe(k=5, lidar_views=4)
    found = probe.measure(begun(probe, Framed((0.0, 1.0)), data))
    assert 1 <= found["lidar"] <= 2.01 and probe.measure(begun(probe, Framed((0.0, 1.0)), data)) == found


def test_labels_that_tell_nothing_are_one_line(caplog):
    data = spoken()
    for split in data.splits.values():
        split.columns["one"] = np.full(len(split), "x")
    with pytest.raises(UserError, match="several labels, word, one: set callbacks.online_probe.label"):
        begun(OnlineProbe(), Framed(), data)
    with pytest.raises(UserError, match="1 classes of 'one': there is nothing to tell apart"):
        begun(OnlineProbe("one"), Framed(), data)
    with pytest.raises(UserError, match="no labels 'wrod'; it has: word, one — did you mean 'word'"):
        begun(OnlineProbe("wrod"), Framed(), data)
    with pytest.raises(ConfigError, match="must be above 0"):
        OnlineProbe(items=0)
    bare = spoken()
    for split in bare.splits.values():
        split.columns = {}
    probe = OnlineProbe()
    assert set(probe.measure(begun(probe, Framed(), bare))) == {"rankme"}
    assert "no labels: only RankMe and LiDAR are logged" in caplog.text and "no LiDAR" in caplog.text
