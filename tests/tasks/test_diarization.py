"""Diarization: the permutation-invariant loss against all orders, frames and chunks, error rates worked by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from tiny_tasks import tiny_task

from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.diarized import Chunks, activity
from sslzoo.adapt.job import build_adapt
from sslzoo.data.base import Intervals
from sslzoo.errors import UserError
from sslzoo.run import Run
from sslzoo.tasks.diarization import decided, error_rate


def job_of(config: dict):
    return build_adapt(config, Run(Path(config["run"])))


@pytest.fixture(scope="module")
def task():
    return job_of(tiny_task("speech-turns")).objective


def test_the_loss_is_the_least_over_orders_of_speakers(task):
    logits = torch.randn(3, 7, 2, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([[0, 1, 1, 3, 2, 2, 0], [2, 2, 2, 0, -100, -100, -100], [3, 3, 3, 1, 0, 0, 0]])
    for b, found in enumerate(task.losses(logits, labels)):
        size = int((labels[b] >= 0).sum())
        totals = []
        for order in ((0, 1), (1, 0)):
            total = 0.0
            for t in range(size):
                for s in range(2):
                    active = float((int(labels[b, t]) >> order[s]) & 1)
                    total += float(F.binary_cross_entropy_with_logits(logits[b, t, s], torch.tensor(active))) / 2
            totals.append(total)
        assert float(found) == pytest.approx(min(totals), rel=1e-5)
    swapped = labels.clone()
    for a, b in ((1, 2), (2, 1)):
        swapped[labels == a] = b
    torch.testing.assert_close(task.losses(logits, swapped), task.losses(logits, labels))


def test_frames_have_the_bits_of_who_speaks():
    turns = Intervals(np.array([0.0, 0.1, 0.3]), np.array([0.2, 0.24, 0.5]), np.array(["b", "a", "b"]))
    assert activity(turns, 100, 0, 50).tolist() == [2] * 10 + [3] * 10 + [1] * 4 + [0] * 6 + [2] * 20
    assert activity(turns, 100, 15, 10).tolist() == [3] * 5 + [1] * 4 + [0]


def test_a_recording_is_cut_into_chunks():
    class Recordings:
        lengths = cut_lengths = np.array([250, 90])
        names, on_error = ["x", "y"], "raise"

        def __init__(self):
            self.intervals = {"speaker": [Intervals(np.array([0.0]), np.array([2.5]), np.array(["a"]))] * 2}

        def read(self, index, seed=None):
            return torch.arange(float(self.lengths[index]))

    split = Chunks([Recordings()], np.array([0, 0]), np.array([0, 1]), "speaker", 10, 100, 10)
    assert split.lengths.tolist() == [100, 100, 50, 90] and split.recording.tolist() == [0, 0, 0, 1]
    assert torch.equal(torch.cat([split.read(i) for i in range(3)]), torch.arange(250.0))
    assert [len(split.targets(i)["label"]) for i in range(4)] == [10, 10, 5, 9]
    assert split.names[3] == "y" and split.window(1, None) == (100, 200)


def test_error_rates_by_hand():
    truth = np.zeros((10, 2), bool)
    truth[:6, 0] = truth[4:8, 1] = True  # 10 frames of speech
    right = truth.astype(float)
    assert error_rate([right], [truth], 0.5, 1) == 0
    assert error_rate([right[:, ::-1]], [truth], 0.5, 1) == 0  # names of speakers do not matter
    assert error_rate([np.zeros((10, 2))], [truth], 0.5, 1) == 1
    late = right.copy()
    late[:2, 0] = 0  # 2 missed
    late[9, 1] = 1  # 1 false alarm
    late[4:6] = [[1, 0], [1, 0]]  # 2 missed of an overlap
    assert error_rate([late], [truth], 0.5, 1) == pytest.approx(0.5)
    confused = right.copy()
    confused[6:8] = [[1, 0], [1, 0]]  # 2 of the wrong speaker
    assert error_rate([confused], [truth], 0.5, 1) == pytest.approx(0.2)
    assert error_rate([right, late], [truth, truth], 0.5, 1) == pytest.approx(0.25)  # over all speech
    holes = np.ones((30, 1))
    holes[10:13] = 0
    assert decided(holes, 0.5, 11)[5:25].all() and not decided(holes, 0.5, 1)[11]


def test_published_and_chosen_columns_and_what_is_calibrated(capsys):
    config = tiny_task("speech-turns", "trainer.max_steps=2")
    path = run_adapt({**config, "name": "sd"}, {"method": "full"})
    found = json.loads(path.read_text())
    assert {"der", "der_as_published", "loss", "recordings"} == set(found["test"]) and found["chance"] == 1.0
    assert found["test"]["der_as_published"] <= found["test"]["der"] + 1e-9
    assert found["valid"]["der"] == pytest.approx(found["valid"]["der_as_published"])  # chosen there
    saved = json.loads((path.parent / "adapted.json").read_text())["saved"]
    assert {"objective.threshold", "objective.median"} <= set(saved)


def test_too_many_speakers_or_one(task):
    config = tiny_task("speech-turns")
    with pytest.raises(UserError, match="item 0 has 2 speakers: set task.speakers=2"):
        job_of({**config, "task": {**config["task"], "speakers": 1}})
    with pytest.raises(UserError, match="no time-aligned labels 'nothing'"):
        job_of({**config, "task": {**config["task"], "label": "nothing"}})
    with pytest.raises(UserError, match="each recording of train has one speaker"):
        job_of({**config, "task": {**config["task"], "label": "whole"}})
