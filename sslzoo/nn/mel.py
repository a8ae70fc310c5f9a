"""Log-mel frames and cepstra of a waveform. The only module that imports torchaudio."""

import torch
from torch import Tensor, nn
from torchaudio.compliance import kaldi
from torchaudio.functional import melscale_fbanks

from sslzoo.errors import ConfigError
from sslzoo.nn.masked import host, valid_mask

PREEMPHASIS = 0.97
LOWEST = 20.0  # Hz, lower edge of the first filter
FLOOR = torch.finfo(torch.float32).eps  # of the power, as in Kaldi: below the rounding of 16-bit samples
CEPSTRA, CEPSTRAL_MELS, LIFTER = 13, 23, 22.0  # Kaldi's defaults


class LogMel(nn.Module):
    """Kaldi's log-mel filterbank (`compute-fbank-feats` without dither), for a padded batch.

    Each frame is mean-normalized, pre-emphasized and windowed (Povey); its power spectrum is summed by `n_mels`
    triangular filters between 20 Hz and half the sample rate. Frame t covers samples t*hop to t*hop + win only, so N
    samples give 1 + (N - win) // hop frames, and padding changes no valid frame. Fewer than `win` samples (or none)
    are zero-padded to one frame.

    hop, win: hop and length of a frame, in samples.
    """

    def __init__(self, sample_rate: int = 16000, n_mels: int = 80, win_ms: float = 25.0, hop_ms: float = 10.0):
        super().__init__()
        self.win, self.hop = round(sample_rate * win_ms / 1000), round(sample_rate * hop_ms / 1000)
        if self.hop < 1 or self.win < self.hop:
            raise ConfigError(
                f"log-mel frames of win_ms={win_ms:g} every hop_ms={hop_ms:g} at {sample_rate} Hz cannot be "
                f"made — the hop must be a sample or more, and no longer than the window"
            )
        self.fft = 1 << (self.win - 1).bit_length()
        if n_mels < 4 or sample_rate <= 2 * LOWEST:
            raise ConfigError(f"log-mel frames need n_mels >= 4 and a rate above 40 Hz, got {n_mels} and {sample_rate}")
        with torch.device("cpu"):  # the values are checked below, also if the encoder is made on the meta device
            banks, _ = kaldi.get_mel_banks(n_mels, self.fft, sample_rate, LOWEST, 0.0, 100.0, -500.0, 1.0)
        if empty := int((banks.sum(1) == 0).sum()):
            raise ConfigError(
                f"n_mels={n_mels} is too many for {self.fft // 2} frequencies at {sample_rate} Hz: {empty} "
                f"filters would be empty — set fewer mels or a longer win_ms"
            )
        self.register_buffer("banks", nn.functional.pad(banks, (0, 1)).T.contiguous(), persistent=False)
        window = torch.hann_window(self.win, periodic=False).pow(0.85)
        self.register_buffer("window", window, persistent=False)

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """float [B, N] and lengths [B] in samples -> float32 [B, T, n_mels] and [B] in frames; T as for N samples."""
        lengths = host(lengths)
        valid = valid_mask(lengths, wave.shape[1], wave.device)
        wave = wave.float().where(valid, 0.0)  # utterances shorter than the window include padding
        wave = nn.functional.pad(wave, (0, max(self.win - wave.shape[1], 0)))
        frames = wave.unfold(1, self.win, self.hop)
        frames = frames - frames.mean(2, keepdim=True)
        before = torch.cat([frames[..., :1], frames[..., :-1]], 2)
        frames = (frames - PREEMPHASIS * before) * self.window
        power = torch.fft.rfft(frames, self.fft).abs().square()
        with torch.autocast(wave.device.type, enabled=False):
            mels = (power @ self.banks).clamp(min=FLOOR).log()
        return mels, (lengths.clamp(min=self.win) - self.win) // self.hop + 1


def slaney_banks(frequencies: int, n_mels: int, sample_rate: int) -> Tensor:
    """Triangular filters [frequencies, n_mels] of equal area, between 0 and half the sample rate, linear in frequency
    below 1 kHz and logarithmic above (Slaney's Auditory Toolbox, librosa's default)."""
    with torch.device("cpu"):
        return melscale_fbanks(frequencies, 0.0, sample_rate / 2, n_mels, sample_rate, "slaney", "slaney")


class MFCC(nn.Module):
    """Kaldi's 13 cepstra of 23 mels (`compute-mfcc-feats` without dither, c0 included), with first and second
    differences: the 39 features that HuBERT's first labels are clustered from (Hsu et al. 2021, IV-A).
    Frames as in `LogMel`; padding changes no valid frame."""

    dim = 3 * CEPSTRA

    def __init__(self, sample_rate: int = 16000, hop_ms: float = 10.0):
        super().__init__()
        self.mel = LogMel(sample_rate, CEPSTRAL_MELS, hop_ms=hop_ms)
        self.hop, self.win = self.mel.hop, self.mel.win
        order = torch.arange(CEPSTRA, dtype=torch.float64)
        angle = torch.pi / CEPSTRAL_MELS * (torch.arange(CEPSTRAL_MELS) + 0.5)[:, None] * order
        cosines = angle.cos() * (2 / CEPSTRAL_MELS) ** 0.5
        cosines[:, 0] = (1 / CEPSTRAL_MELS) ** 0.5
        cosines *= 1 + LIFTER / 2 * torch.sin(torch.pi * order / LIFTER)
        self.register_buffer("cosines", cosines.float(), persistent=False)

    def forward(self, wave: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        """float [B, N] and lengths [B] in samples -> float32 [B, T, 39] and [B] in frames."""
        mels, lengths = self.mel(wave, lengths)
        with torch.autocast(wave.device.type, enabled=False):
            cepstra = mels @ self.cosines
        first = differences(cepstra, lengths)
        return torch.cat([cepstra, first, differences(first, lengths)], 2), lengths


def differences(x: Tensor, lengths: Tensor) -> Tensor:
    """Deltas [B, T, C] over two frames to each side; the first and last valid frame of a row are repeated beyond the
    ends (as in HTK and Kaldi)."""
    place = torch.arange(x.shape[1], device=x.device)
    last = lengths.to(x.device, non_blocking=True)[:, None] - 1

    def at(shift: int) -> Tensor:
        taken = (place + shift).clamp(min=0).minimum(last)
        return x.gather(1, taken[..., None].expand_as(x))

    return (at(1) - at(-1) + 2 * (at(2) - at(-2))) / 10
