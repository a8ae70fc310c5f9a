import pytest
import torch
from closeness import assert_sum_close
from torchaudio.compliance import kaldi
from torchaudio.functional import compute_deltas

from sslzoo.errors import ConfigError
from sslzoo.nn.mel import MFCC, LogMel, differences


@pytest.mark.parametrize("rate, mels", [(16000, 80), (8000, 40), (22050, 23)])
def test_frames_are_kaldis(rate, mels):
    wave = 0.1 * torch.randn(1, 7003, generator=torch.Generator().manual_seed(0))
    found, lengths = LogMel(rate, mels)(wave, torch.tensor([7003]))
    said = kaldi.fbank(wave, num_mel_bins=mels, sample_frequency=rate, dither=0.0)
    assert found.shape == (1, *said.shape) and lengths.tolist() == [len(said)]
    torch.testing.assert_close(found[0], said, rtol=1e-5, atol=1e-5)


def test_padding_changes_nothing_whatever_it_holds():
    mel = LogMel()
    waves = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (3000, 1999, 400, 399, 7, 1)]
    padded = torch.full((len(waves), 4000), 9.0)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = wave
    together, lengths = mel(padded, torch.tensor([len(w) for w in waves]))
    assert lengths.tolist() == [17, 10, 1, 1, 1, 1]
    for row, wave, length in zip(together, waves, lengths, strict=True):
        alone, count = mel(wave[None], torch.tensor([len(wave)]))
        assert count == length and alone.shape[1] == length
        torch.testing.assert_close(alone[0], row[:length], rtol=0, atol=1e-5)


def test_silence_and_an_empty_utterance_are_finite():
    found, lengths = LogMel()(torch.zeros(2, 500), torch.tensor([500, 0]))
    assert found.isfinite().all() and lengths.tolist() == [1, 1]


def test_half_precision_around_it_changes_nothing():
    mel, wave, lengths = LogMel(), torch.randn(1, 1000), torch.tensor([1000])
    with torch.autocast("cpu", torch.bfloat16):
        found, _ = mel(wave, lengths)
    assert found.dtype == torch.float32 and torch.equal(found, mel(wave, lengths)[0])


@pytest.mark.parametrize(
    "wrong, says",
    [
        ({"n_mels": 300}, "n_mels=300 is too many"),
        ({"n_mels": 2}, "n_mels >= 4"),
        ({"hop_ms": 40.0}, "no longer than the window"),
        ({"hop_ms": 0.0}, "a sample or more"),
        ({"sample_rate": 30, "win_ms": 500.0, "hop_ms": 100.0}, "above 40 Hz"),
    ],
)
def test_what_makes_no_filterbank_is_refused(wrong, says):
    with pytest.raises(ConfigError, match=says):
        LogMel(**wrong)


def wave_of(samples, seed=0):
    return 0.1 * torch.randn(1, samples, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("rate", [16000, 8000, 22050])
def test_cepstra_are_kaldis_and_their_differences_torchaudios(rate):
    wave = wave_of(9003)
    found, lengths = MFCC(rate)(wave, torch.tensor([9003]))
    cepstra = kaldi.mfcc(wave, sample_frequency=rate, dither=0.0)
    first = compute_deltas(cepstra.T).T
    said = torch.cat([cepstra, first, compute_deltas(first.T).T], 1)
    assert found.shape == (1, *said.shape) and lengths.tolist() == [len(said)]
    torch.testing.assert_close(found[0], said, rtol=1e-4, atol=1e-4)


def test_differences_at_an_end_are_of_valid_frames_alone():
    x = torch.randn(2, 9, 3, generator=torch.Generator().manual_seed(0))
    found = differences(x, torch.tensor([9, 4]))
    torch.testing.assert_close(found[0], compute_deltas(x[0].T).T)
    torch.testing.assert_close(found[1, :4], compute_deltas(x[1, :4].T).T)


def test_padding_changes_no_cepstrum():
    waves = [wave_of(n, n)[0] for n in (5000, 3100, 720, 560, 400, 399, 1)]
    padded = torch.full((len(waves), 6000), 9.0)
    for row, wave in zip(padded, waves, strict=True):
        row[: len(wave)] = wave
    together, lengths = MFCC()(padded, torch.tensor([len(w) for w in waves]))
    assert lengths.tolist() == [29, 17, 3, 2, 1, 1, 1] and together.isfinite().all()
    for row, wave, length in zip(together, waves, lengths, strict=True):
        alone, count = MFCC()(wave[None], torch.tensor([len(wave)]))
        assert count == length
        assert_sum_close(alone[0], row[:length])
