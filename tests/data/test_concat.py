import numpy as np
import pytest
import torch
from given import own_cache, write_audio  # noqa: F401
from tiny_sets import TinyImages, TinySpeech, TinyText

from sslzoo.data.audio import AudioFolder
from sslzoo.data.concat import AudioMix, ImageMix
from sslzoo.data.loader import train_loader
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.errors import ConfigError
from sslzoo.features.intervals import labels_at


def test_items_are_those_of_the_parts(tmp_path):
    for i in range(20):
        write_audio(tmp_path / "a" / f"{i}.wav", 0.2 + i / 50, 8000, seed=i)
        write_audio(tmp_path / "b" / f"{i}.flac", 0.5, 16000, seed=i)
    a = AudioFolder(str(tmp_path / "a"), BySeconds(), max_seconds=0.3)
    b = AudioFolder(str(tmp_path / "b"), BySeconds())
    joined = AudioMix({"a": a, "b": b}, BySeconds(seconds=3.0))
    assert joined.sample_rate == 16000 and joined.batch.rate == 16000 and joined.modality == "speech"
    whole, parts = joined.split("train"), [a.split("train"), b.split("train")]
    assert len(whole) == sum(map(len, parts))
    places = [(part, i) for part in parts for i in range(len(part))]
    for number, (part, i) in enumerate(places):
        for key in (None, 5):
            assert torch.equal(whole.read(number, key), part.read(i, key))
            assert whole.window(number, key) == part.window(i, key)
    assert whole.lengths.tolist() == [part.lengths[i] for part, i in places]
    assert whole.cut_lengths.tolist() == [part.cut_lengths[i] for part, i in places]
    assert whole.names[0].startswith("a: ") and whole.names[-1].startswith("b: ")
    assert whole.columns["set"].tolist() == ["a"] * len(parts[0]) + ["b"] * len(parts[1])
    for batch in train_loader(whole, joined.batch, 0, 0, 5):
        assert batch.inputs.numel() <= 3.0 * 16000


def test_items_of_a_part_without_a_label_have_none():
    one, two = TinySpeech(BySeconds()), TinySpeech(BySeconds())
    split = one.split("train")
    split.columns |= {"extra": np.ones(len(split)), "number": np.arange(len(split))}
    split.intervals["word"] = split.intervals["half"]
    one.split = lambda name: split
    joined = AudioMix({"one": one, "two": two}, BySeconds()).split("train")
    assert set(joined.columns) == {"extra", "label", "number", "set", *two.split("train").columns}
    assert joined.columns["extra"][:40].tolist() == [1.0] * 40 and np.isnan(joined.columns["extra"][40:]).all()
    assert joined.columns["number"].tolist() == [*map(str, range(40)), *[""] * 40]
    assert len(joined.intervals["half"]) == len(joined.intervals["word"]) == len(joined) == 80
    assert len(joined.intervals["word"][0].label) and not len(joined.intervals["word"][40].label)
    assert labels_at(np.zeros(3), joined.intervals["word"][40]).tolist() == ["", "", ""]


@pytest.mark.parametrize(
    "sets, words",
    [
        ({}, "data.sets is empty"),
        (
            {"a": TinySpeech(BySeconds(), 8000)},
            "data.sets.a does not fit: its sample_rate is 8000, and data's is 16000",
        ),
        (
            {"a": TinySpeech(BySeconds()), "b": TinyImages(ByCount(4))},
            "data.sets.b does not fit: its modality is image",
        ),
        ({"a": TinyText(ByCount(4))}, "data.sets.a does not fit: its modality is text"),
    ],
)
def test_what_does_not_fit_is_refused(sets, words):
    with pytest.raises(ConfigError, match=words):
        AudioMix(sets, BySeconds())


def test_images_are_joined_too():
    sets = {"a": TinyImages(ByCount(4)), "b": TinyImages(ByCount(4), mean=[0.4])}
    joined = ImageMix(sets, ByCount(8), 16, 3, [0.45], [0.25])
    assert len(joined.split("valid")) == 96 and joined.split("valid").read(95).shape == (3, 16, 16)
    assert joined.split("valid").for_views().names[95] == joined.split("valid").names[95]
    with pytest.raises(ConfigError, match="data.sets.a does not fit: its resolution is None, and data's is 20"):
        ImageMix(sets, ByCount(8), 16, 3, [0.45], [0.25], resolution=20)
    with pytest.raises(ConfigError, match="data.sets.a does not fit: its size is 16, and data's is 8"):
        ImageMix(sets, ByCount(8), 8, 3, [0.45], [0.25])
