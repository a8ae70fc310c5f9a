"""Speaker verification: the network against slow versions, trials, and error rates worked by hand."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from conftest import SHARED, compose
from test_contracts import batch_of
from tiny_tasks import tiny_task

from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import build_adapt
from sslzoo.adapt.trials import drawn
from sslzoo.errors import UserError
from sslzoo.nn.speaker import AMSoftmax, XVector, statistics
from sslzoo.run import Run
from sslzoo.tasks.verification import equal_error_rate


def config_of(*overrides: str, **task) -> dict:
    config = tiny_task(
        "speech-full",
        "head=verification",
        "objective.projection_dim=6",
        "objective.last_dim=5",
        "trainer.max_steps=2",
        *overrides,
    )
    split = {"_target_": "sslzoo.probe.splits.ByGroup", "column": "voice"}
    config["task"] |= {"kind": "verification", "label": "voice", "metric": "eer", "split": split, **task}
    return config


def job_of(config: dict):
    return build_adapt(config, Run(Path(config["run"])))


def test_the_network_is_five_layers_over_fifteen_frames_and_ignores_padding():
    torch.manual_seed(0)
    net, x = XVector(4, 6), torch.randn(3, 20, 4)
    assert net.context == 15 and [layer.out_channels for layer in net.layers] == [4, 4, 4, 4, 6]
    lengths = torch.tensor([20, 16, 9])
    found = net(x, lengths)
    assert found.shape == (3, 12)
    torch.testing.assert_close(found[1:2], net(x[1:2, :16], lengths[1:2]), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(found[2:], net(x[2:, :9], lengths[2:]), rtol=1e-5, atol=1e-6)
    slow = x[:1]
    for layer, (frames, dilation) in zip(net.layers, ((5, 1), (3, 2), (3, 3), (1, 1), (1, 1)), strict=True):
        steps = slow.shape[1] - (frames - 1) * dilation
        taken = torch.stack([slow[:, k * dilation : k * dilation + steps] for k in range(frames)], 3)  # [1, T, D, k]
        slow = F.relu(torch.einsum("btdk,edk->bte", taken, layer.weight) + layer.bias)
    torch.testing.assert_close(found[:1], torch.cat([slow.mean(1), slow.std(1)], 1), rtol=1e-4, atol=2e-4)
    one = statistics(torch.ones(1, 1, 2), torch.tensor([1]))
    assert torch.isfinite(one).all()


def test_the_margin_is_of_the_right_class_alone():
    head, x = AMSoftmax(3, 4), torch.randn(2, 3, generator=torch.Generator().manual_seed(0))
    labels = torch.tensor([2, 0])
    cosines = F.cosine_similarity(x[:, None], head.weight[None], dim=2)
    torch.testing.assert_close(head(x), 30 * cosines)
    losses = F.cross_entropy(head(x, labels), labels, reduction="none")
    for b, label in enumerate(labels.tolist()):  # Wang et al. 2018, eq. 6
        right = (30 * (cosines[b, label] - 0.4)).exp()
        others = sum((30 * cosines[b, c]).exp() for c in range(4) if c != label)
        torch.testing.assert_close(losses[b], -(right / (right + others)).log(), rtol=1e-4, atol=2e-4)


def test_equal_error_rates_by_hand():
    same = np.array([1, 1, 1, 1, 0, 0, 0, 0], bool)
    assert equal_error_rate(same, np.array([8, 7, 6, 5, 4, 3, 2, 1.0])) == pytest.approx(0, abs=1e-9)
    assert equal_error_rate(same, np.array([8, 7, 6, 3, 5, 4, 2, 1.0])) == pytest.approx(
        0.25
    )  # one of four on each side
    assert equal_error_rate(same, -np.arange(8.0)[::-1]) == pytest.approx(1)
    assert equal_error_rate(same, np.zeros(8)) == pytest.approx(0.5)


def test_trials_are_drawn_once_and_for_all_half_of_one_speaker():
    speakers = np.repeat(["a", "b", "c"], 8)
    first, second, same = drawn(speakers, 40, "here")
    assert len(same) == 40 and same.sum() == 20 and (first < second).all()
    assert ((speakers[first] == speakers[second]) == same).all() and len(set(zip(first, second))) == 40
    assert all(np.array_equal(a, b) for a, b in zip((first, second, same), drawn(speakers, 40, "here"), strict=True))
    many = np.repeat(np.arange(300), 8).astype(str)
    first, second, same = drawn(many, 100, "here")
    assert same.sum() == 50 and (first < second).all()
    with pytest.raises(UserError, match="here has no two utterances of two speakers"):
        drawn(np.array(["a", "a"]), 10, "here")


def test_from_command_to_result(tmp_path):
    config = config_of("trainer.max_steps=4", "trainer.val_every=1")
    path = run_adapt({**config, "name": "asv"}, {"method": "full"})
    found, saved = json.loads(path.read_text()), json.loads((path.parent / "adapted.json").read_text())
    assert found["metric"] == "eer" and found["chance"] == 0.5
    assert set(found["test"]) == {"eer", "trials", "eer_as_published"} and found["test"]["trials"] > 20
    # the step is chosen on validation; as published, it is the best on test of those that were validated
    on_test = dict(map(tuple, saved["on_test"]))
    assert on_test.keys() == dict(map(tuple, saved["validation"])).keys() == {1, 2, 3, 4}
    assert found["test"]["eer"] == pytest.approx(on_test[found["chosen"]["step"]], abs=1e-6)
    assert found["test"]["eer_as_published"] == min(on_test.values()) <= found["test"]["eer"] + 1e-6


def test_a_step_and_embeddings():
    job = job_of(config_of())
    batch = batch_of(job, 0)
    loss = job.objective(job.encoder, batch, 0)
    loss.value.backward()
    assert all(p.grad is not None for p in job.objective.parameters()) and loss.count == len(batch)
    said = job.objective.eval().predict(job.encoder.eval(), batch)
    assert len(said) == len(batch) and np.linalg.norm(said[0]) == pytest.approx(1, rel=1e-5)
    train, test = (set(job.data.split(part).names) for part in ("train", "test"))
    assert train and test


def test_a_list_of_trials_makes_test_of_its_speakers(tmp_path):
    trials = tmp_path / "trials.txt"
    trials.write_text("1 item a0 item a8\n")
    with pytest.raises(UserError, match="line 1 is not of the form"):
        job_of(config_of(trials=str(trials))).data.split("test")
    trials.write_text("0 x y\n")
    with pytest.raises(UserError, match="line 1: this data has no file x"):
        job_of(config_of(trials=str(trials))).data.split("test")
    with pytest.raises(UserError, match="there is no list of trials"):
        job_of(config_of(trials=str(tmp_path / "none"))).data.split("test")
    official = {"_target_": "sslzoo.probe.splits.Official"}
    with pytest.raises(UserError, match="speakers of valid are in train: v0.* set task/split=by_speaker"):
        job_of(config_of(split=official)).data.split("test")
    with pytest.raises(UserError, match="cannot be split|nothing to tell apart"):
        job_of(config_of(label="one", split={"_target_": "sslzoo.probe.splits.ByGroup", "column": "one"})).data.split(
            "test"
        )


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.skipif(not (SHARED / "speech/an4").exists(), reason="no real AN4")
def test_the_real_trials():
    an4 = SHARED / "speech/an4"
    config = config_of(trials=str(an4 / "etc/an4_trials.txt"), label="speaker")
    config["task"]["data"] = compose("run=x", "data=an4", f"data.path={an4}", command="adapt")["data"]
    data = job_of(config).data
    test = data.split("test")
    assert len(test.trials[2]) == 2000 and test.trials[2].sum() == 1000 and len(data.classes) == 26
