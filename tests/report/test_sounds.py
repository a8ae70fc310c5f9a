import base64
import io
import re
import wave

import numpy as np
import pytest
import torch

from sslzoo.report import sounds

TONE = 0.5 * np.sin(np.arange(8000) / 5).astype(np.float32)


def played(html: str) -> list[tuple[int, np.ndarray]]:
    """(samples a second, samples) of each player."""
    found = []
    for data in re.findall(r'src="data:audio/wav;base64,([^"]+)"', html):
        with wave.open(io.BytesIO(base64.b64decode(data))) as file:
            assert (file.getnchannels(), file.getsampwidth()) == (1, 2)
            found.append((file.getframerate(), np.frombuffer(file.readframes(file.getnframes()), "<i2")))
    return found


def test_a_waveform_can_be_played_as_it_is():
    html = sounds.html({"waveform": torch.from_numpy(TONE), "sample_rate": 16000})
    [(rate, samples)] = played(html)
    assert rate == 16000 and html.count("<audio controls") == 1 and "item 1, 0.5 s" in html
    np.testing.assert_allclose(samples / 32767, TONE, atol=1e-4)


def test_several_items_are_each_played():
    kept = [torch.from_numpy((TONE * 32767 * k / 4).astype(np.int16)) for k in range(1, 4)]
    found = played(sounds.html({"sounds": kept, "waveform": torch.zeros(9), "sample_rate": 8000}))
    assert [samples.max() / 32767 for _, samples in found] == pytest.approx([0.125, 0.25, 0.375], abs=0.01)


def test_long_and_many_sounds_are_capped():
    long = [torch.zeros(100 * 16000) for _ in range(9)]
    found = played(sounds.html({"sounds": long, "sample_rate": 16000}))
    assert len(found) <= sounds.ITEMS and all(len(samples) <= sounds.SECONDS * rate for rate, samples in found)
    assert sum(2 * len(samples) for _, samples in found) <= sounds.MOST_BYTES


def test_a_loud_waveform_is_softened_and_what_is_not_finite_is_silent():
    [(_, samples)] = played(
        sounds.html({"waveform": torch.tensor([7.0, float("nan"), -3.5, float("inf")]), "sample_rate": 100})
    )
    assert samples[1] == 0 and 0 < np.abs(samples).max() <= 32767


@pytest.mark.parametrize(
    "shown",
    [{}, {"waveform": torch.zeros(9)}, {"waveform": [1], "sample_rate": 9}, {"waveform": torch.zeros(9), "sample_rate": "x"},
     {"sounds": [None, 3], "sample_rate": 16000}, {"waveform": torch.zeros(0), "sample_rate": 16000}],
)  # fmt: skip
def test_what_holds_no_sound_has_no_player(shown):
    assert sounds.html(shown) == ""
