"""What conf/trainer may not say."""

import pytest
import torch

from sslzoo.errors import ConfigError
from sslzoo.train.settings import Settings


@pytest.mark.parametrize(
    ("bad", "message"),
    [
        *[
            ({name: 0}, f"trainer.{name} must be at least 1, got 0")
            for name in ("max_steps", "devices", "nodes", "log_every", "keep", "accumulate")
        ],
        ({"gradient_clip": -1.0}, "trainer.gradient_clip is the largest norm of a gradient, .*; got -1.0"),
        ({"strategy": "dpp"}, "there is no trainer.strategy='dpp' — did you mean 'ddp'"),
        ({"strategy": "fsdp_cpu_offload", "accelerator": "cpu"}, "trainer.strategy=fsdp_cpu_offload needs a GPU"),
        ({"strategy": "deepspeed"}, "trainer.strategy=deepspeed needs a package: pip install deepspeed"),
        ({"strategy": "single_device", "devices": 2}, "2 ranks need another strategy than single_device"),
        ({"workers": -1}, "workers must be at least 0"),
        ({"val_every": 0}, r"trainer.val_every must be a number of steps \(500\), a time .*; got 0"),
        ({"save_every": "10 days"}, "trainer.save_every must be .*; got 10 days"),
        ({"devices": 2}, "2 ranks need a strategy: trainer=ddp"),
        ({"nodes": 3}, "3 ranks need a strategy"),
        ({"precision": "bf8"}, "trainer.precision must be auto, 32, bf16 or fp16, got bf8"),
        ({"precision": 16}, "trainer.precision must be auto, 32, bf16 or fp16, got 16"),
    ],
)
def test_refused(bad, message):
    with pytest.raises(ConfigError, match=message):
        Settings(**bad)


def test_a_gpu_that_is_not_there(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(ConfigError, match="no usable GPU"):
        Settings(accelerator="gpu")
    assert not Settings().on_gpu and Settings().arithmetic == "32-true"


@pytest.mark.parametrize("computes", [True, False])
def test_a_gpu_that_is(computes, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    # what emulates bf16 does not compute in it
    monkeypatch.setattr(
        torch.cuda, "is_bf16_supported", lambda including_emulation=True: including_emulation or computes
    )
    assert Settings().on_gpu and Settings().arithmetic == ("bf16-mixed" if computes else "32-true")
    assert not Settings(accelerator="cpu").on_gpu and Settings(accelerator="cpu").arithmetic == "32-true"


@pytest.mark.parametrize(
    ("said", "meant"),
    [
        *[(name, "32-true") for name in (32, "32", "32-true")],
        *[(name, "bf16-mixed") for name in ("bf16", "bf16-mixed")],
        *[(name, "16-mixed") for name in ("fp16", "16-mixed")],
    ],
)
def test_precision_by_its_own_name_and_lightnings(said, meant):
    assert Settings(precision=said).arithmetic == meant


def test_ranks_are_devices_of_all_nodes():
    assert Settings(devices=4, nodes=2, strategy="ddp").ranks == 8
