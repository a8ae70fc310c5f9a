"""What a run says of itself where there is no terminal: a line at its end, with the unit of its modality."""

import re
from pathlib import Path

import pytest
from conftest import tiny

from sslzoo.build import build, write_config
from sslzoo.run import Run
from sslzoo.train import launch
from sslzoo.train.progress import ProgressReport

UNITS = {"rotation": "images/s", "wav2vec2": "s of audio/s", "bert": "tokens/s"}


def train(objective: str, folder: Path, steps: int) -> None:
    config = tiny(objective, f"trainer.max_steps={steps}", "trainer.progress=true")
    config = {k: v for k, v in config.items() if k not in ("name", "root")}
    run, job = Run(folder), build(config)
    write_config(run, config)
    launch.pretrain(job, run)


@pytest.mark.parametrize("objective", UNITS)
def test_a_line_with_loss_speed_and_time_left(objective, tmp_path, capsys):
    train(objective, tmp_path / "mine", steps=3)
    [line] = [line for line in capsys.readouterr().err.splitlines() if line.startswith("mine: ")]
    assert re.fullmatch(
        rf"mine: step 3/3  loss [0-9.]+  [0-9,]+ {UNITS[objective]}  [0-9.]+ s waited for data  [0-9.e+]+ G?FLOP/s  0 s left",
        line,
    ), line


def test_what_is_read_between_two_steps_is_said_too(tmp_path, capsys, monkeypatch):
    """DeepCluster reads the whole training set before an epoch."""
    monkeypatch.setattr(ProgressReport, "EVERY", 0.0)
    train("deepcluster", tmp_path / "mine", steps=1)
    said = re.findall(r"mine: features of train ([0-9,]+)/([0-9,]+)\n", capsys.readouterr().err)
    assert said[-1][0] == said[-1][1]
    done = [int(done.replace(",", "")) for done, _ in said]
    assert done == sorted(set(done)) and done[0] > 0
