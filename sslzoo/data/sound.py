"""Decodes and resamples audio files, or segments of them, to mono float32. A file is a path or an item of a shard."""

import math
import os
import re
from pathlib import Path

import numpy as np
import soundfile
import soxr

from sslzoo.data import codings
from sslzoo.data.index import Check
from sslzoo.data.remote import Member
from sslzoo.errors import UserError

# libsndfile reads a truncated WAV, AIFF or AU file as a short one and reports it only in extra_info
_DECLARED = re.compile(r"(?:data|SSND|Data Size)\s*: (\d+) \(should be (\d+)\)")
# soxr's filter at default quality extends less than 128 samples of the lower rate to each side. Measured for ratios
# 1:12 to 2:1: with a margin of 128 a segment equals the whole file's within 3e-7, with 64 it differs by 1e-4
_MARGIN = 256
_MP3_FRAMES, _LAST_PAGE = 10, 30  # frames of 1152 samples; seconds
_STREAMED = 0x7FFFF000  # sizes from here on are placeholders for an unknown size


class _SoundFile(soundfile.SoundFile):
    def __init__(self, path: Path | Member):
        super().__init__(path if isinstance(path, Member) else os.fsencode(path))  # file names may be any bytes

    def seekable(self) -> bool:
        """False also for DWVW, which libsndfile reports as seekable but reads only from the start."""
        return super().seekable() and not self.subtype.startswith("DWVW")


def resampled(frames, rates, sample_rate: int) -> np.ndarray:
    """Number of samples after resampling `frames` from `rates`, rounded to nearest as in soxr."""
    if np.all(np.asarray(rates) == sample_rate):
        return np.asarray(frames, np.int64)  # not copied: of a large set they stay in the index, which is mapped
    return (2 * np.asarray(frames, np.int64) * sample_rate + rates) // (2 * np.asarray(rates, np.int64))


def decode_at(path: Path | Member, rate: int, sample_rate: int, start: int, stop: int) -> np.ndarray:
    """float32 [N]: samples `start` to `stop`, counted at `sample_rate`, of a file at `rate` after resampling.

    Decodes only the segment and `_MARGIN` around it, starting where samples of both rates coincide, so that the phase
    is that of the whole file resampled.
    """
    if rate == sample_rate:
        return decode(path, start, stop)
    common = math.gcd(rate, sample_rate)
    ours, theirs = sample_rate // common, rate // common  # this many samples of each last equally long
    margin = -(-_MARGIN * sample_rate // min(rate, sample_rate))
    before = max(start - margin, 0) // ours
    samples = decode(path, before * theirs, -(-(stop + margin) * theirs // ours))
    start, stop = start - before * ours, stop - before * ours
    return soxr.resample(samples, rate, sample_rate)[start:stop]


def decode(path: Path | Member, start: int = 0, stop: int | None = None) -> np.ndarray:
    """float32 [N], the mean over channels of samples `start` to `stop`, or to the end of the file."""
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
    """The sample to seek to so that sample `start` decodes as in a full read."""
    if not file.seekable():
        return 0
    if file.format in ("MP3", "MPEG"):  # a frame uses bits of at most nine earlier frames (bit reservoir)
        return max(start - _MP3_FRAMES * 1152, 0)
    if file.subtype == "VORBIS":  # libsndfile 1.2 seeks wrongly within the last page, which may last seconds
        return max(min(start, file.frames - _LAST_PAGE * file.samplerate), 0)
    return start


def inspect(path: Path | Member, check: Check = "whole") -> tuple[int, int]:
    """(frames, rate) of an audio file, decoded fully or from its header. Raises UserError if it is damaged."""
    try:
        if not (len(path.getbuffer()) if isinstance(path, Member) else path.stat().st_size):
            raise UserError(f"{path} is empty (0 bytes)")
        with _SoundFile(path) as file:
            frames, finite = 0, True
            if check != "whole":
                frames = file.frames
            # file.blocks() would pad a truncated file
            while check == "whole" and len(block := file.read(1 << 18, dtype="float32")):
                frames += len(block)
                finite = finite and bool(np.isfinite(block).all())
            expected, rate, info = file.frames, file.samplerate, file.extra_info
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from error
    except soundfile.SoundFileError as error:
        raise UserError(f"{path} {_unreadable(path) or f'is not audio, or is cut off: {_why(error)}'}") from error
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


def _unreadable(path: Path | Member) -> str | None:
    return None if isinstance(path, Member) else codings.unreadable(path)


def _why(error: Exception) -> str:
    return str(getattr(error, "error_string", "") or error).rstrip(".") or "unknown error"
