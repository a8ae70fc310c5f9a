"""Audio players: a few short inputs of a speech run, embedded in the page as WAV."""

import base64
import io
import wave
from collections.abc import Iterator
from html import escape

import numpy as np

ITEMS, SECONDS = 4, 6.0  # number of items and length of each, at most
MOST_BYTES = 600_000  # of all samples of one run


def clips(shown: dict) -> Iterator[tuple[np.ndarray, int]]:
    """Yield (samples [N], sample rate) of visualization.pt's `sounds`, or else of its `waveform`."""
    rate = shown.get("sample_rate")
    if not isinstance(rate, int) or rate < 1:
        return
    held = shown.get("sounds")
    held = held if isinstance(held, list) else [shown.get("waveform")]
    for waveform in held[:ITEMS]:
        if hasattr(waveform, "detach"):
            yield waveform.detach().cpu().numpy().reshape(-1), rate


def wav(samples: np.ndarray, rate: int) -> bytes:
    """A 16-bit mono WAV file; scaled down if above full scale, as standardised waveforms are; non-finite samples are
    0."""
    x = np.nan_to_num(np.asarray(samples, np.float32) if samples.dtype.kind == "f" else samples / 32768.0)
    x = x[: int(SECONDS * rate)]
    peak = float(np.abs(x).max(initial=0.0))
    if peak > 1:
        x = x / peak * 0.7
    file = io.BytesIO()
    with wave.open(file, "wb") as out:
        out.setnchannels(1)
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((x * 32767).round().astype("<i2").tobytes())
    return file.getvalue()


def html(shown: dict) -> str:
    """A player per item, up to `MOST_BYTES`; "" if the run has no sounds."""
    players, held = [], 0
    for number, (samples, rate) in enumerate(clips(shown), 1):
        data = wav(samples, rate)
        held += len(data)
        if len(samples) < 2 or held > MOST_BYTES:
            break
        uri = "data:audio/wav;base64," + base64.b64encode(data).decode()
        label = f"item {number}, {min(len(samples) / rate, SECONDS):.1f} s"
        players.append(
            f'<figure><audio controls preload="none" src="{uri}" aria-label="{escape(label)}"></audio>'
            f"<figcaption>{label}</figcaption></figure>"
        )
    key = "What the run was shown, as it heard it."
    return (
        f'<h3>To listen to</h3><div class="sounds">{"".join(players)}</div><p class="key">{key}</p>' if players else ""
    )
