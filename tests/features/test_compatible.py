"""Other data for a run's encoder: set to be read as it reads."""

import pytest
from conftest import compose

from sslzoo import build
from sslzoo.errors import ConfigError
from sslzoo.features.compatible import agreeing, check_compatible
from sslzoo.nodes import make


def parts(kind: str, *overrides: str, encoder: str | None = None):
    config = compose(f"data=tiny_{kind}", f"encoder={encoder or f'tiny_{kind}'}", *overrides)
    return make(config["encoder"]), make(config["data"])


def node(*overrides: str) -> dict:
    return compose(*overrides, "encoder=tiny_image")["data"]


@pytest.mark.parametrize(
    "kind, encoder, reads",
    [
        ("image", "tiny_image", {"size": 16, "channels": 3}),
        ("image", "tiny_resnet", {"channels": 3}),
        ("speech", "tiny_speech", {"sample_rate": 16000}),
        ("speech", "tiny_wave", {"sample_rate": 16000}),
        ("text", "tiny_text", {"vocab_size": 60, "max_tokens": 24}),
    ],
)
def test_an_encoder_says_what_it_reads(kind, encoder, reads):
    assert dict(parts(kind, encoder=encoder)[0].reads) == reads


def test_images_are_read_at_the_runs_size_and_channels():
    encoder, data = parts("image")
    found, changed = agreeing(node("data=mnist", "data.path=there"), encoder, data, "data")
    assert (found["size"], found["channels"], found["mean"], found["std"]) == (16, 3, data.mean, data.std)
    assert changed == "data is read at size 16 instead of 32, channels 3 instead of 1, as the run's encoder reads"
    check_compatible(make({**found, "mean": [0.5] * 3, "std": [0.5] * 3}), encoder, "data", "data")


def test_a_size_that_the_user_wrote_stays_where_the_encoder_reads_any():
    other = node("data=image_folder", "data.path=there", "data.size=24", "data.resolution=24")
    encoder, data = parts("image", encoder="tiny_resnet")
    assert agreeing(other, encoder, data, "data", ["data.size"])[0] == other
    assert agreeing(other, encoder, data, "data")[0]["size"] == 16
    encoder, data = parts("image")
    with pytest.raises(ConfigError, match="data.size=24, but the run's encoder reads 16 — leave out data.size"):
        agreeing(other, encoder, data, "data", ["data.size"])


def test_a_resolution_below_the_runs_size_is_let_go():
    encoder, data = parts("image", "data.size=64")
    other = node("data=image_folder", "data.path=there", "data.resolution=40")
    found, _ = agreeing(other, encoder, data, "data")
    assert (found["size"], found["resolution"]) == (64, None)


def test_joined_sets_agree_each():
    encoder, data = parts("speech")
    other = compose("data=speech", "data.sets.fsdd.path=there", "data.sample_rate=8000", "encoder=tiny_speech")["data"]
    found, changed = agreeing(other, encoder, data, "data")
    assert build.make(found).sample_rate == 16000 and found["sets"]["librispeech"]["sample_rate"] == 16000
    assert found["batch"] == other["batch"]
    assert changed == "data is read at sample_rate 16000 instead of 8000, as the run's encoder reads"


def test_data_that_cannot_agree_are_refused():
    encoder, _ = parts("speech")
    _, other = parts("speech", "data.sample_rate=8000")
    with pytest.raises(ConfigError, match="task.data reads data of sample_rate 8000, but the encoder reads 16000"):
        check_compatible(other, encoder, "task.data", "task.data")
