"""What the tests of data readers write to disk, and a cache of their own."""

import logging

import numpy as np
import pytest
import soundfile


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("SSLZOO_CACHE", str(folder))
    return folder


@pytest.fixture
def warnings(caplog):
    """What was logged as a warning, as one text."""
    caplog.set_level(logging.WARNING)
    return lambda: "\n".join(record.getMessage() for record in caplog.records)


def noise(samples: int, channels: int = 1, seed: int = 0) -> np.ndarray:
    """float32 [samples, channels], quiet enough for 16 bits."""
    return (0.1 * np.random.default_rng(seed).standard_normal((samples, channels))).astype(np.float32)


def write_audio(path, seconds: float = 0.3, rate: int = 16000, channels: int = 1, seed: int = 0, **how):
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, noise(round(seconds * rate), channels, seed), rate, **how)
    return path


def cut_file(path, share: float = 0.5):
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    return path
