"""`sslzoo shard`: what it prints works, and what it does not take is one line."""

import shlex
import sys

import pytest
from conftest import TINY

from sslzoo.cli.sharding import shard
from sslzoo.errors import ConfigError, UserError


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))


def written(tmp_path, *words):
    shard(["--config-dir", str(TINY), "data=tiny_image", f"out={tmp_path / 'out'}", *words])


def test_what_comes_next_reads_the_shards(tmp_path, capsys):
    from conftest import compose

    from sslzoo import build

    written(tmp_path, "shard_mb=0.01")
    said = capsys.readouterr().out
    assert "train" in said and f"wrote {tmp_path / 'out'}" in said
    words = shlex.split(said.split("next:")[1])
    words = words[words.index("pretrain") + 1 : words.index("--config-dir")]
    config = compose(*words, "encoder=tiny_image", "objective=simclr", "data.batch.size=4")
    data, tiny = build.make(config["data"]), build.make(compose("data=tiny_image", "encoder=tiny_image")["data"])
    assert len(data.split("train")) == len(tiny.split("train"))
    assert data.split("valid").read(0).equal(tiny.split("valid").read(0))
    written(tmp_path, "shard_mb=0.01")
    assert "is done already" in capsys.readouterr().out


@pytest.mark.parametrize(
    "word, message",
    [
        ("out=s3://bucket/set", "must be a folder of this machine"),
        ("format=zip", "format must be tar or parquet, got zip"),
        ("shard_mb=0", "shard_mb is the size of a shard in MB"),
        ("shard_mb=big", "shard_mb is the size of a shard in MB"),
        ("splits=[train,extra]", "splits are some of train, valid, test"),
    ],
)
def test_settings_that_are_none(tmp_path, word, message):
    with pytest.raises(ConfigError, match=message):
        written(tmp_path, word)


def test_a_package_that_is_missing_is_asked_for_before_anything_is_read(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    monkeypatch.setattr("sslzoo.build.make", lambda *_, **__: pytest.fail("something was made"))
    with pytest.raises(UserError, match=r"pip install 'sslzoo\[parquet\]', or write format=tar"):
        written(tmp_path, "format=parquet")
