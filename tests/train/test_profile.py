"""trainer.profile=true writes a trace and changes no weights; `make gpu` without a GPU says so."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import compose, tiny
from test_contracts import train

from sslzoo.config import fingerprint

GPU = Path(__file__).parents[2] / "benchmarks" / "gpu.py"


def test_a_trace_opens_in_a_browser_and_changes_nothing(tmp_path):
    traced = train(tiny("mae", "trainer.max_steps=7", "trainer.profile=true"), tmp_path / "traced")
    plain = train(tiny("mae", "trainer.max_steps=7"), tmp_path / "plain")
    events = json.loads(traced.trace.read_text())["traceEvents"]
    assert sum("Optimizer.step" in str(event.get("name")) for event in events) >= 3
    assert not plain.trace.exists() and traced.weights.read_bytes() == plain.weights.read_bytes()
    assert fingerprint(compose("trainer.profile=true")) == fingerprint(compose())


@pytest.mark.skipif(torch.cuda.is_available(), reason="this machine has a GPU")
def test_make_gpu_says_that_there_is_none(tmp_path):
    done = subprocess.run([sys.executable, GPU, "--out", tmp_path / "x"], capture_output=True, text=True, check=False)
    assert done.returncode == 1 and not done.stdout and not (tmp_path / "x").exists()
    assert done.stderr.splitlines() == [
        "make gpu: this machine has no usable GPU, and everything here needs one (`sslzoo doctor` says why)"
    ]


@pytest.mark.slow
def test_the_throughput_of_make_gpu_in_small(tmp_path):
    done = subprocess.run(
        [sys.executable, GPU, "--small", "--out", tmp_path / "x.json"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    found = json.loads((tmp_path / "x.json").read_text())["throughput"]["image"]
    assert all(found[p]["items_per_second"] > 0 and found[p]["flops_per_second"] > 0 for p in ("bf16", "32"))
    assert [found[p]["precision"] for p in ("bf16", "32")] == ["bf16-mixed", "32-true"]
    assert done.stdout.splitlines()[2].startswith("| image | bf16 | ")


@pytest.mark.slow
def test_the_parts_of_make_gpu(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(str(GPU.parent))
    import gpu

    words = ["data=digits", "trainer.max_steps=2", "data.batch.size=16", "trainer.accelerator=cpu", *gpu.QUIET]
    found = gpu.pretrain(tmp_path, "run", words, 120)
    assert len(found["losses"]) == 2 and found["steps_per_second"] > 0
    assert gpu.parity(found, found)["relative"] == 0
    assert "there is no" in gpu.pretrain(tmp_path, "bad", ["data=digitss"], 120)["error"]
    assert gpu.parity({"error": "x"}, found) == {"error": "x"}
