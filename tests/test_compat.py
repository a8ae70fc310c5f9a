"""Runs that were made before modules and settings were renamed load, and give what they gave then.

tests/old_runs: a tiny run of each kind of encoder, made then by `sslzoo pretrain`, and what its encoder pooled of the
first items of the validation split (`expected.json`). Never made again: they are what old runs look like.
"""

import json
import shutil
from pathlib import Path

import pytest
import torch
import yaml

from sslzoo import build, compat
from sslzoo.compare.process import Command
from sslzoo.config import CONF
from sslzoo.data.loader import collate
from sslzoo.errors import ConfigError
from sslzoo.report.record import read
from sslzoo.run import Run

OLD = Path(__file__).parent / "old_runs"
RUNS = sorted(path.name for path in OLD.iterdir())


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_gives_the_same_features(name):
    encoder, data = build.load_encoder(Run(OLD / name))
    expected = json.loads((OLD / name / "expected.json").read_text())
    split = data.split("valid")
    batch = collate([split.item(i, i) for i in range(len(expected["lengths"]))])
    with torch.no_grad():
        found = encoder(batch.inputs, batch.lengths)
    pooled = torch.tensor(expected["pooled"], dtype=torch.float64)
    assert found.lengths.tolist() == expected["lengths"]
    assert pooled.abs().max() > 0.1
    torch.testing.assert_close(found.pooled.double(), pooled, rtol=0, atol=1e-6)


@pytest.mark.parametrize("name", RUNS)
def test_an_old_run_is_read_and_named_as_a_new_one(name):
    run = Run(OLD / name)
    written = yaml.safe_load(run.config.read_text())
    config = read(run).config
    assert config == compat.translate(config) and config == compat.translate(written)
    for node in ("encoder", "objective"):
        build.target(config[node]["_target_"], node)  # every name in it leads somewhere


def test_an_old_runs_picture_is_found():
    assert read(Run(OLD / "text")).visualization["kind"] == "tokens"


def test_the_runs_are_of_every_kind_and_really_old():
    configs = [yaml.safe_load((OLD / name / "config.yaml").read_text()) for name in RUNS]
    assert {c["data"]["_target_"] for c in configs} == {
        f"tiny_sets.Tiny{kind}" for kind in ("Images", "Speech", "Text")
    }
    assert all(compat.is_old(c) for c in configs)


def test_what_is_new_stays_as_it_is():
    for path in (*CONF.glob("encoder/**/*.yaml"), *CONF.glob("objective/**/*.yaml")):
        assert not compat.is_old(yaml.safe_load(path.read_text())), path
    node = {"_target_": "sslzoo.encoders.recurrent.Recurrent", "front": 1, "a": [{"decay": 2}]}
    assert compat.translate(node) == node
    weights = {"frontend.layers.0.conv.weight": 1, "trunk.blocks.1.up.bias": 2, "stem.0.weight": 3}
    assert compat.translate_weights(weights) == weights


def test_every_new_target_is_there():
    for target in (*compat.TARGETS.values(), *compat.SETTINGS):
        build.target(target, "x")


def test_a_config_with_an_old_target_is_told_the_new_one():
    with pytest.raises(ConfigError, match="mask: sslzoo.data.masking.Spans is sslzoo.augment.masking.SpanMask now"):
        build.check({"mask": {"_target_": "sslzoo.data.masking.Spans"}})


def test_an_old_run_that_is_done_is_the_same_run_and_one_that_is_not_is_refused(tmp_path):
    shutil.copytree(OLD / "speech", tmp_path / "run")
    run = Run(tmp_path / "run")
    config = compat.translate(yaml.safe_load(run.config.read_text()))
    build.write_config(run, config)
    with pytest.raises(ConfigError, match="seed: 0 -> 1"):
        build.write_config(run, config | {"seed": 1})
    (run.folder / "DONE").unlink()
    with pytest.raises(ConfigError, match="was begun by an older sslzoo.* cannot be continued — choose another name"):
        build.write_config(run, config)


def test_old_runs_are_probed_and_labelled(tmp_path):
    """By the commands that read a run's encoder and data from its folder."""
    from sslzoo.label.command import planned_targets
    from sslzoo.probe.baselines import Baselines

    run = Run(OLD / "speech")
    encoder, data = build.load_encoder(run)
    found = planned_targets(
        Command().compose("label", [f"run={run.folder}", "layer=1", "clusters=4", "sample=100", "name=x", "root=x"])
    )
    assert found == {"clusters": 4, "hop": encoder.stride, "sample_rate": data.sample_rate}
    assert "frontend" in Baselines(tmp_path, run, data, {}).run["encoder"]
