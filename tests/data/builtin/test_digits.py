import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression

from sslzoo.data.builtin import digits
from sslzoo.data.builtin.digits import Digits
from sslzoo.data.sampler import ByCount
from sslzoo.errors import ConfigError

COUNTS = {"train": 30, "valid": 20, "test": 20}


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path))
    return tmp_path


def test_two_makings_are_the_same_bytes():
    first, second = digits.make(COUNTS, 32), digits.make(COUNTS, 32)
    assert set(first) == set(second) and all(np.array_equal(first[key], second[key]) for key in first)


def test_fewer_pictures_are_the_first_of_more():
    few, more = digits.make(COUNTS, 32), digits.make(COUNTS | {"train": 50}, 32)
    assert np.array_equal(few["train_images"], more["train_images"][:30])
    assert np.array_equal(few["test_images"], more["test_images"])


def test_a_scan_is_in_one_split_and_each_digit_in_its_share():
    target = load_digits().target
    shares = digits._shares(target)
    assert sorted(np.concatenate(shares)) == list(range(len(target)))
    for rows, share in zip(shares, digits.SHARES, strict=True):
        assert len(rows) == pytest.approx(share * len(target), abs=6)
        for part in (rows, rows[:200]):
            counts = np.bincount(target[part], minlength=10)
            assert counts.max() - counts.min() <= 0.06 * len(part)


def test_labels_are_those_of_the_scans():
    made, target = digits.make(COUNTS, 32), load_digits().target
    for name in COUNTS:
        assert np.array_equal(made[f"{name}_digits"], target[made[f"{name}_scans"]])
    assert not set(made["train_scans"]) & (set(made["valid_scans"]) | set(made["test_scans"]))


def test_the_split_shows_what_was_made(own_cache):
    data = Digits(ByCount(4), **COUNTS)
    made, split = digits.make(COUNTS, 32), data.split("valid")
    assert len(split) == 20 and split.column("digit").tolist() == made["valid_digits"].tolist()
    assert np.array_equal(split.read(3).numpy(), made["valid_images"][3].transpose(2, 0, 1))
    assert len(list(own_cache.glob("digits-*.npz"))) == 1
    again = Digits(ByCount(4), **COUNTS).split("valid")
    assert np.array_equal(again.read(3).numpy(), split.read(3).numpy())


@pytest.mark.parametrize("size, channels", [(32, 1), (48, 3)])
def test_grey_and_large_ones(size, channels):
    stats = {"mean": [0.5] * channels, "std": [0.3] * channels}
    split = Digits(ByCount(4), size, channels, **stats, **COUNTS).split("train")
    assert split.read(0).shape == (channels, size, size)


def test_the_digit_stands_out_and_its_clutter_says_nothing_of_it():
    scans = load_digits()
    shape = np.pad(scans.images[0] / 16, 2)
    for seed in range(20):
        with_digit, without = (
            digits.scene(x, [shape, shape], 32, np.random.default_rng(seed)).astype(float) @ digits.LUMA / 255
            for x in (shape, 0 * shape)
        )
        drawn = abs(with_digit - without)
        assert 0.01 < (drawn > 0.15).mean() < 0.5
        assert (drawn == 0).mean() > 0.4  # elsewhere the scene is what it was


def test_pixels_do_not_give_the_answer():
    made = digits.make({"train": 500, "valid": 1, "test": 300}, 32)
    train, test = (made[f"{name}_images"] @ np.array(digits.LUMA) / 255 - 0.5 for name in ("train", "test"))
    probe = LogisticRegression(C=0.01, max_iter=200).fit(train.reshape(500, -1), made["train_digits"])
    assert probe.score(test.reshape(300, -1), made["test_digits"]) < 0.3


@pytest.mark.parametrize("wrong", [{"size": 16}, {"train": 0}, {"channels": 2}, {"std": [0.0, 1.0, 1.0]}])
def test_wrong_values_are_refused_before_anything_is_made(wrong, own_cache):
    with pytest.raises(ConfigError, match="data\\."):
        Digits(ByCount(4), **wrong)
    assert not list(own_cache.iterdir())
