"""An audio file of any rate and channel count as mono float32 at one rate: all of it, or a stretch."""

import math
import os
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

from sslzoo.data import codings
from sslzoo.data.index import Check
from sslzoo.errors import UserError

# libsndfile reads a cut WAV, AIFF or AU file as a short one, and says so only here
_DECLARED = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")
# soxr's filter at its default quality reaches less than 128 samples of the lower rate to either side: found by trying
# from 1:12 to 2:1, where at 128 a stretch is the whole's within 3e-7 and at 64 it differs by 1e-4
_MARGIN = 256
_MP3_FRAMES, _LAST_PAGE = 10, 30  # frames of 1152 samples; seconds
_STREAMED = 0x7FFFF000  # a size from here on was written by a program that did not know it


class _SoundFile(soundfile.SoundFile):
    def __init__(self, path: Path):
        super().__init__(os.fsencode(path))  # a name may be of any bytes

    def seekable(self) -> bool:
        """Whether it can be read from any place: libsndfile says so of DWVW, too, which it only reads from the start."""
        return super().seekable() and not self.subtype.startswith("DWVW")


def resampled(frames, rates, sample_rate: int) -> np.ndarray:
    """Samples that `frames` at `rates` become, rounded to the nearest as soxr does it."""
    return (2 * np.asarray(frames, np.int64) * sample_rate + rates) // (2 * np.asarray(rates, np.int64))


def decode_at(path: Path, rate: int, sample_rate: int, start: int, stop: int) -> np.ndarray:
    """float32 [N], samples `start` to `stop` at `sample_rate` of a file at `rate`, as of the whole file resampled.

    Only the stretch and `_MARGIN` around it are decoded, beginning where a sample of either rate falls on one of
    the other; so that, resampled, it has the whole's phase.
    """
    if rate == sample_rate:
        return decode(path, start, stop)
    common = math.gcd(rate, sample_rate)
    ours, theirs = sample_rate // common, rate // common  # so many samples of each take the same time
    margin = -(-_MARGIN * sample_rate // min(rate, sample_rate))
    before = max(start - margin, 0) // ours
    samples = decode(path, before * theirs, -(-(stop + margin) * theirs // ours))
    start, stop = start - before * ours, stop - before * ours
    return soxr.resample(samples, rate, sample_rate)[start:stop]


def decode(path: Path, start: int = 0, stop: int | None = None) -> np.ndarray:
    """float32 [N], the mean of a file's channels from sample `start` to `stop`, or to its end if that is nearer."""
    try:
        with _SoundFile(path) as file:
            start, stop, _ = slice(start, stop).indices(file.frames)
            place = _seekable(file, start)
            if place:
                file.seek(place)
            samples = file.read(max(stop - place, 0), dtype="float32", always_2d=True)
    except (soundfile.SoundFileError, OSError) as error:
        raise UserError(f"{path} cannot be read any more: {_why(error)}") from error
    return samples[start - place :].mean(axis=1)


def _seekable(file: soundfile.SoundFile, start: int) -> int:
    """From where to read a file, so that sample `start` is what it is when all of it is read."""
    if not file.seekable():
        return 0
    if file.format in ("MP3", "MPEG"):  # a frame borrows bits of those before it, nine at the most
        return max(start - _MP3_FRAMES * 1152, 0)
    if file.subtype == "VORBIS":  # libsndfile 1.2 misses a place in the last page, which may last seconds
        return max(min(start, file.frames - _LAST_PAGE * file.samplerate), 0)
    return start


def inspect(path: Path, check: Check = "whole") -> tuple[int, int]:
    """(frames, rate) of an audio file, read from end to end, or its header. Raises UserError if it is not whole."""
    try:
        if not path.stat().st_size:
            raise UserError(f"{path} is empty (0 bytes)")
        with _SoundFile(path) as file:
            frames, finite = 0, True
            if check != "whole":
                frames = file.frames
            # file.blocks() would fill up what a cut file lacks
            while check == "whole" and len(block := file.read(1 << 18, dtype="float32")):
                frames += len(block)
                finite = finite and bool(np.isfinite(block).all())
            expected, rate, info = file.frames, file.samplerate, file.extra_info
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except soundfile.SoundFileError as error:
        raise UserError(
            f"{path} {codings.unreadable(path) or f'is not audio, or is cut off: {_why(error)}'}"
        ) from error
    for said, there in _DECLARED.findall(info):
        if check != "none" and int(there) < int(said) < _STREAMED:
            raise UserError(f"{path} is cut off: {there} of {said} bytes of sound are there")
    if not frames:
        raise UserError(f"{path} has no samples")
    if frames < 0.95 * expected:  # the header of a variable-rate MP3 is an estimate
        raise UserError(f"{path} is cut off: {frames} of {expected} samples are there")
    if not finite:
        raise UserError(f"{path} has samples that are not finite")
    return frames, rate


def _why(error: Exception) -> str:
    return str(getattr(error, "error_string", "") or error).rstrip(".") or "unknown error"
