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
            for name in ("max_steps", "devices", "nodes", "log_every", "save_every", "keep")
        ],
        ({"workers": -1}, "workers must be at least 0"),
        ({"val_every": 0}, "val_every at least 1 or null"),
        ({"devices": 2}, "2 ranks need a strategy: trainer=ddp"),
        ({"nodes": 3}, "3 ranks need a strategy"),
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


def test_a_gpu_that_is(monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: True)
    assert Settings().on_gpu and Settings().arithmetic == "bf16-mixed"
    assert not Settings(accelerator="cpu").on_gpu and Settings(accelerator="cpu").arithmetic == "32-true"
    assert Settings(precision="32-true").arithmetic == "32-true"
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda: False)
    assert Settings().arithmetic == "32-true"


def test_ranks_are_devices_of_all_nodes():
    assert Settings(devices=4, nodes=2, strategy="ddp").ranks == 8
