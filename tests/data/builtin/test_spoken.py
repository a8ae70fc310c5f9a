from collections import Counter
from importlib.metadata import PackageNotFoundError

import numpy as np
import pytest
import torch

from sslzoo.data.base import SPLITS
from sslzoo.data.builtin import espeak, spoken
from sslzoo.data.builtin.espeak import Line
from sslzoo.data.builtin.spoken import INTENTS, SILENCE, WORDS, Spoken
from sslzoo.data.sampler import BySeconds
from sslzoo.errors import ConfigError, UserError

SMALL = {"words": 2, "takes": 1, "sentences": 1}


@pytest.fixture(scope="module")
def own_cache(tmp_path_factory):
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("SSLZOO_CACHE", str(folder))
        yield folder


@pytest.fixture(scope="module")
def splits(own_cache):
    data = Spoken(BySeconds(), **SMALL)
    return {name: data.split(name) for name in SPLITS}


def test_two_makings_are_the_same_bytes():
    first, second = spoken.make(16000, 1, 1, 1), spoken.make(16000, 1, 1, 1)
    assert set(first) == set(second)
    for key in first:
        assert first[key].dtype == second[key].dtype and first[key].tobytes() == second[key].tobytes(), key


def test_the_next_run_reads_what_was_made(splits, own_cache, monkeypatch):
    monkeypatch.setattr(spoken, "make", lambda *_: pytest.fail("made again"))
    again = Spoken(BySeconds(), **SMALL).split("test")
    assert torch.equal(again.read(5), splits["test"].read(5))
    assert len(list(own_cache.glob("spoken-*.npz"))) == 1


def test_voices_are_in_one_split_and_say_the_same(splits):
    voices = {name: set(split.column("voice")) for name, split in splits.items()}
    assert [len(voices[name]) for name in SPLITS] == [32, 8, 8]
    assert len(set.union(*voices.values())) == 48
    for split in splits.values():
        said = Counter(zip(split.column("voice"), split.column("word"), strict=True))
        assert {word for _, word in said} == {"keep", "peak", ""} and set(said.values()) == {1}
        # as many voices of each accent in a split, so that an accent gives no split away
        assert len(set(Counter(v.split("+")[0] for v in set(split.column("voice"))).values())) == 1


def test_every_item_has_a_word_or_an_intent(splits):
    intents = Counter()
    for split in splits.values():
        word, intent, text = (split.column(key) for key in ("word", "intent", "transcript"))
        assert ((word == "") != (intent == "")).all()
        assert (text[word != ""] == word[word != ""]).all()
        for wanted, sentence in zip(intent[intent != ""], text[intent != ""], strict=True):
            action, thing = wanted.split()
            assert thing in sentence and sentence.startswith("is " if action == "ask" else "turn ")
            assert action == "ask" or action in sentence.split()
        intents.update(intent[intent != ""].tolist())
    assert intents == dict.fromkeys(INTENTS, 4)


def test_the_data_is_audio(splits):
    for split in splits.values():
        assert len(set(split.names)) == len(split)
        for i in range(0, len(split), 7):
            samples = split.read(i)
            assert samples.dtype == torch.float32 and len(samples) == split.lengths[i]
            assert 0.01 < samples.abs().max() <= 0.951 and 0.2 < len(samples) / 16000 < 4
    levels = np.array([splits["train"].read(i).square().mean() for i in range(40)])
    assert 10 * np.log10(levels.max() / levels.min()) > 8


def test_phones_cover_each_item_and_silence_is_where_it_says(splits):
    quieter = []
    for split in splits.values():
        for i, phones in enumerate(split.intervals["phone"]):
            assert phones.start[0] == 0 and phones.end[-1] == pytest.approx(split.lengths[i] / 16000)
            assert np.array_equal(phones.start[1:], phones.end[:-1]) and (phones.end > phones.start).all()
            assert phones.label[0] == phones.label[-1] == SILENCE and "" not in phones.label
            assert not set("ˈˌ") & set("".join(phones.label))
            bounds = np.rint(np.stack([phones.start, phones.end]) * 16000).astype(int).T
            power = np.array([split.read(i)[a:b].square().mean() for a, b in bounds])
            silent = phones.label == SILENCE
            quieter.append(power[silent].max() < power[~silent].max() / 3)
    # a few variants of voice ring after the last phone
    assert np.mean(quieter) > 0.95


def test_a_pair_of_words_has_the_same_phones_in_another_order(splits):
    split = splits["train"]
    said = {
        (voice, word): [p for p in phones.label if p != SILENCE]
        for voice, word, phones in zip(
            split.column("voice"), split.column("word"), split.intervals["phone"], strict=True
        )
    }
    for voice in set(split.column("voice")):
        keep, peak = said[voice, "keep"], said[voice, "peak"]
        assert keep == peak[::-1] and keep != peak and len(keep) == 3
    assert len(set(WORDS)) == 30


def test_a_closure_belongs_to_its_stop():
    [utterance] = espeak.speak([Line("top", "en-us+m1", 170, 50, 50)])
    starts, labels = spoken._phones(utterance)
    at = labels.index("p")
    assert starts[at] < utterance.starts[utterance.phones.index("p")] - 0.01 * espeak.RATE
    closure = abs(utterance.samples[starts[at] : starts[at] + espeak.RATE // 100].astype(int)).max()
    assert closure < 0.02 * abs(utterance.samples.astype(int)).max()


def test_another_rate_and_a_cut(own_cache):
    whole = Spoken(BySeconds(), sample_rate=8000, **SMALL).split("valid")
    data = Spoken(BySeconds(), sample_rate=8000, max_seconds=0.25, **SMALL)
    cut = data.split("valid")
    assert data.batch.rate == 8000 and cut.cut == 2000
    start, stop = cut.window(4, 99)
    assert stop - start == 2000 and torch.equal(cut.read(4, 99), whole.read(4)[start:stop])
    assert torch.equal(cut.read(4), whole.read(4))
    assert cut.intervals["phone"][4].end[-1] == pytest.approx(whole.lengths[4] / 8000)


def test_without_the_extra_there_is_one_line_with_the_mend(monkeypatch):
    def absent(name):
        raise PackageNotFoundError(name)

    monkeypatch.setattr(espeak, "version", absent)
    data = Spoken(BySeconds(), **SMALL)
    with pytest.raises(UserError, match=r"pip install 'sslzoo\[spoken\]'") as caught:
        data.split("train")
    assert caught.value.code == 1 and "\n" not in str(caught.value)


def test_what_the_library_refuses_is_said_in_one_line():
    with pytest.raises(UserError, match="eSpeak NG failed: .*no voice 'tlh-kx'") as caught:
        list(espeak.speak([Line("hello", "en-us", 170, 50, 50), Line("hello", "tlh-kx", 170, 50, 50)]))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    "wrong",
    [{"words": 0}, {"words": 31}, {"takes": 0}, {"sentences": -1}, {"sample_rate": 0}, {"max_seconds": 0.01}],
)
def test_wrong_values_are_refused(wrong):
    with pytest.raises(ConfigError, match="data\\."):
        Spoken(BySeconds(), **wrong)
