"""What a run says of itself before its first step is what it is."""

import json

import pytest
import torch
from conftest import tiny
from test_contracts import train
from torch import nn

from sslzoo import build
from sslzoo.run import Run
from sslzoo.train.cadence import Cadence
from sslzoo.train.outline import lines, outline, parameters


def told(objective: str, *overrides: str, measured=None) -> tuple[dict, dict[str, str]]:
    job = build.build(tiny(objective, *overrides))
    splits = {name: job.data.split(name) for name in ("train", "valid")}
    about = outline(job, splits, measured, 6)
    found = lines(job, about, "runs/x", Cadence(steps=500), Cadence(seconds=30.0))
    assert all(line.startswith("  ") and "\n" not in line for line in found)
    return about, {line.split()[0]: line[13:] for line in found}


def test_parameters_by_part_are_all_of_them():
    module = nn.Module()
    module.own = nn.Parameter(torch.zeros(3))
    module.body, module.head = nn.Linear(4, 5), nn.Linear(4, 5)
    module.head.weight = module.body.weight  # tied: counted once
    module.fixed = nn.Linear(2, 2).requires_grad_(False)
    assert parameters(module) == {"": (3, 0), "body": (25, 0), "head": (5, 0), "fixed": (0, 6)}


@pytest.mark.parametrize("objective", ["moco", "best_rq", "gpt"])
def test_the_parts_sum_to_the_modules(objective):
    about, _ = told(objective)
    job = build.build(tiny(objective))
    for owner, module in (("encoder", job.encoder), ("objective", job.objective)):
        mine = [part for name, part in about["parts"].items() if name.split(".")[0] == owner]
        assert sum(p["trained"] + p["fixed"] for p in mine) == sum(p.numel() for p in module.parameters())


def test_images():
    _, said = told("moco", "trainer.max_steps=100", measured=8)
    assert said["objective"].startswith("MoCo, ") and "teacher" in said["objective"]
    assert said["train"] == "48 images" and said["valid"] == "48 images, of which 8 are measured"
    assert said["batch"] == "8 images an update" and said["steps"] == "100, or 16.7 epochs of 6"
    assert said["writes"] == "runs/x, a checkpoint every 500 steps, validation every 30 s"
    assert said["device"].endswith("32-bit floats") or torch.cuda.is_available()


def test_speech_has_hours_and_text_has_tokens():
    about, said = told("mockingjay")
    samples = build.build(tiny("mockingjay")).data.split("train").lengths.sum()
    assert about["splits"]["train"] == {"items": 40, "hours": round(samples / 16000 / 3600, 4)}
    assert said["train"] == f"40 items, {60 * about['splits']['train']['hours']:.1f} minutes"
    assert said["batch"] == "up to 4 s of audio an update"
    about, said = told("bert")
    assert about["splits"]["valid"]["tokens"] == build.build(tiny("bert")).data.split("valid").lengths.sum()
    assert said["valid"].endswith(" tokens") and said["batch"] == "8 items an update"


def test_it_is_said_once_and_kept(tmp_path, capsys):
    run: Run = train(tiny("rotation", "trainer.max_steps=2", "trainer.progress=true"), tmp_path / "run")
    said = capsys.readouterr().err.splitlines()
    assert said[0] == "run" and said[1].startswith("  encoder    SequenceEncoder, ")
    summary = json.loads(run.summary.read_text())
    assert summary["splits"]["train"] == {"items": 48} and summary["epoch_steps"] == 6
    learned = sum(p["trained"] for name, p in summary["parts"].items() if name.split(".")[0] == "encoder")
    assert learned == summary["parameters"]
    train(tiny("rotation", "trainer.max_steps=2"), tmp_path / "quiet")
    assert "encoder" not in capsys.readouterr().err
