import pytest

from sslzoo.errors import ConfigError
from sslzoo.train.settings import Settings


def test_a_logger_that_is_not_installed_is_refused_with_its_extra(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ConfigError, match=r"pip install 'sslzoo\[wandb\]'"):
        Settings(loggers=["wandb"])
