"""eSpeak NG through ctypes: text to samples and time-aligned phones, deterministically.

The library keeps state between utterances and seeds its noise with the clock. So the seed is set before every
utterance, and each list of utterances is spoken in a new process: the output is a function of the list.
"""

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np

from sslzoo.errors import UserError

RATE = 22050  # Hz, of every voice
# speak_lib.h: modes, options, parameters, events
_SYNCHRONOUS, _UTF8 = 2, 1
_PHONEME_EVENTS, _IPA, _NO_EXIT = 1, 2, 0x8000
_SPEED, _PITCH, _RANGE = 1, 3, 4
_END_OF_LIST, _PHONEME = 0, 7


@dataclass(frozen=True)
class Line:
    """An utterance to synthesize. voice: a language, "+" and a variant. speed: words a minute. pitch, range: 0 to 99;
    50 is the voice's default."""

    text: str
    voice: str
    speed: int
    pitch: int
    range: int


@dataclass(frozen=True)
class Utterance:
    """samples: int16 [N] at `RATE`. starts: [P], the first sample of each phone. phones: [P], in IPA without stress;
    "" is a pause; the last one marks the end."""

    samples: np.ndarray
    starts: np.ndarray
    phones: list[str]


def installed() -> str:
    """The version of the package with eSpeak NG. Raises UserError if it is not installed."""
    try:
        return version("espeakng-loader")
    except PackageNotFoundError as error:
        raise UserError(
            "data=spoken is spoken by eSpeak NG, which is not installed — pip install 'sslzoo[spoken]'"
        ) from error


def speak(lines: Sequence[Line]) -> Iterator[Utterance]:
    """Synthesize the lines in a subprocess. Raises UserError if the library fails."""
    installed()
    root = str(Path(__file__).parents[3])
    environment = os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, (root, os.environ.get("PYTHONPATH"))))}
    asked = json.dumps([list(vars(line).values()) for line in lines]).encode()
    # -P: files in the current folder must not shadow modules
    command = [sys.executable, "-P", "-m", __name__]
    answer = subprocess.run(command, input=asked, capture_output=True, env=environment, check=False)
    if answer.returncode:
        errors = answer.stderr.decode(errors="replace").strip().splitlines() or [f"exit code {answer.returncode}"]
        raise UserError(f"eSpeak NG failed: {errors[-1]}")
    yield from _parse(answer.stdout, len(lines))


def _parse(answer: bytes, count: int) -> Iterator[Utterance]:
    place = 0
    for _ in range(count):
        stop = answer.index(b"\n", place)
        size, starts, phones = json.loads(answer[place:stop])
        samples = np.frombuffer(answer, np.int16, size, stop + 1)
        place = stop + 1 + samples.nbytes
        yield Utterance(samples, np.array(starts, np.int64), phones)


class _Id(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("name", ctypes.c_char_p), ("string", ctypes.c_char * 8)]


class _Event(ctypes.Structure):
    _fields_ = [
        ("type", ctypes.c_int),
        ("unique_identifier", ctypes.c_uint),
        ("text_position", ctypes.c_int),
        ("length", ctypes.c_int),
        ("audio_position", ctypes.c_int),
        ("sample", ctypes.c_int),
        ("user_data", ctypes.c_void_p),
        ("id", _Id),
    ]


_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.POINTER(_Event))


def _main() -> None:
    """The subprocess: reads lines as JSON from stdin; writes for each a line of JSON and the samples to stdout."""
    import espeakng_loader

    library = ctypes.CDLL(espeakng_loader.get_library_path())
    data = str(espeakng_loader.get_data_path()).encode()
    options = _PHONEME_EVENTS | _IPA | _NO_EXIT
    if library.espeak_Initialize(_SYNCHRONOUS, 0, data, options) != RATE:
        raise RuntimeError(f"it does not start at {RATE} Hz")
    sound, phones = bytearray(), []

    @_CALLBACK
    def hear(samples, count, events) -> int:
        if samples and count > 0:
            sound.extend(ctypes.string_at(samples, 2 * count))
        i = 0
        while events[i].type != _END_OF_LIST:
            if events[i].type == _PHONEME:
                # raw bytes of the union: a name of 8 bytes has no terminating zero
                name = bytes(events[i].id)[:8].split(b"\0")[0].decode()
                phones.append((events[i].sample, name.strip("ˈˌ")))
            i += 1
        return 0

    library.espeak_SetSynthCallback(hear)
    out = sys.stdout.buffer
    for text, voice, *parameters in json.load(sys.stdin):
        sound.clear()
        phones.clear()
        library.espeak_ng_SetRandSeed(1)
        if library.espeak_SetVoiceByName(voice.encode()):
            raise RuntimeError(f"it has no voice '{voice}'")
        for which, value in zip((_SPEED, _PITCH, _RANGE), parameters, strict=True):
            library.espeak_SetParameter(which, value, 0)
        encoded = text.encode()
        if library.espeak_Synth(encoded, len(encoded) + 1, 0, 1, 0, _UTF8, None, None):
            raise RuntimeError(f"it cannot say '{text}'")
        header = (len(sound) // 2, [start for start, _ in phones], [name for _, name in phones])
        out.write(json.dumps(header).encode() + b"\n" + sound)


if __name__ == "__main__":
    _main()
