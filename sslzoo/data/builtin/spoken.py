"""Words and sentences synthesized by eSpeak NG, with exact labels."""
# ruff: noqa: SIM905 (a list of words is easier to read as words)

from dataclasses import dataclass

import numpy as np
import soxr
import torch
from torch import Tensor

from sslzoo.data.audio import check_audio
from sslzoo.data.base import SPLITS, Data, Intervals, Split
from sslzoo.data.builtin import cached_arrays, espeak
from sslzoo.data.builtin.espeak import Line, Utterance
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.errors import ConfigError
from sslzoo.progress import track

SEED = 1995  # the year of eSpeak's ancestor

# pairs with the same phones in another order, which a mean over time cannot distinguish
WORDS = (
    "keep peak team meet time might feel leaf fine knife ten net tap pat kiss sick back cab cheap peach "
    "safe face late tale note tone gum mug top pot"
).split()
ACCENTS = "en-us en en-gb-scotland en-gb-x-rp en-gb-x-gbclan en-gb-x-gbcwmd en-029 en-us-nyc".split()
# eSpeak's variants that differ enough to count as speakers; accents rotate over them
VARIANTS = {
    "train": (
        "m1 f1 Andy Annie Gene Jacky Marco linda Alex Andrea m2 f3 Michael antonio boris steph "
        "david anika Reed aunty edward m4 klatt3 Henrique m8 Alicia john norbert paul grandma travis max"
    ).split(),
    "valid": "m3 f2 Lee Nguyen michel shelby robert gustave".split(),
    "test": "m7 f5 Mike adam pablo belinda kaukovalta sandro".split(),
}
ROOMS = ("kitchen", "bedroom", "hall")
THINGS = ("light", "fan", "radio", "heater")
ASKED = {
    "on": ("turn on the {room} {thing}", "turn the {thing} on in the {room}"),
    "off": ("turn off the {room} {thing}", "turn the {thing} off in the {room}"),
    "ask": ("is the {room} {thing} on", "is the {thing} on in the {room}"),
}
INTENTS = [f"{action} {thing}" for action in ASKED for thing in THINGS]
SILENCE = "sil"
_COLOUR, _LOWEST = 4.0, 60.0  # dB; Hz, below which a microphone's response is flat
_QUICK = 256  # samples: lengths are multiples of it, for a fast FFT


class Spoken(Data):
    """Words and sentences in 48 voices with eight accents of English, with noise and random level.

    Each voice says each of `WORDS` `takes` times, and `sentences` sentences, cycling through the intents. A voice is
    in one split only. Labels: voice; word ("" for a sentence) and intent ("" for a word), which a mean over time
    predicts poorly; its action, object, location and slots ("" for a word); transcript. Time-aligned label: phone, in
    IPA, covering the whole item.

    words: how many of `WORDS` to use. max_seconds: training crops longer items to this length.
    """

    modality = "speech"

    def __init__(
        self,
        batch: ByCount | BySeconds,
        sample_rate: int = 16000,
        max_seconds: float | None = None,
        words: int = len(WORDS),
        takes: int = 2,
        sentences: int = len(INTENTS),
    ):
        check_audio(sample_rate, max_seconds, 0.1)
        if not 1 <= words <= len(WORDS) or takes < 1 or sentences < 0:
            raise ConfigError(
                f"data.words is 1 to {len(WORDS)}, data.takes 1 or more, data.sentences 0 or more; "
                f"got {words}, {takes}, {sentences}"
            )
        batch.rate = sample_rate
        self.batch, self.sample_rate, self.max_seconds = batch, sample_rate, max_seconds
        self.size = (words, takes, sentences)
        self._splits: dict[str, Split] = {}

    def split(self, name: str) -> Split:
        if not self._splits:
            ingredients = (espeak.installed(), self.sample_rate, *self.size)
            arrays = cached_arrays(
                "spoken", [__file__, espeak.__file__], ingredients, lambda: make(self.sample_rate, *self.size)
            )
            cut = None if self.max_seconds is None else round(self.max_seconds * self.sample_rate)
            self._splits = {part: _Items(part, arrays, self.sample_rate, cut) for part in SPLITS}
        return self._splits[name]


class _Items(Split):
    """One split of the arrays that `make` returns."""

    def __init__(self, name: str, arrays: dict[str, np.ndarray], sample_rate: int, cut: int | None):
        rows = np.flatnonzero(arrays["split"] == name)
        ends = np.cumsum(arrays["length"])
        self.samples, self.cut = arrays["samples"], cut
        self.lengths, self.starts = arrays["length"][rows], (ends - arrays["length"])[rows]
        self.columns = {key: arrays[key][rows] for key in ("word", "intent", "voice", "transcript")}
        self.columns |= slots(self.columns["intent"], self.columns["transcript"])
        utterances = zip(self.columns["voice"], self.columns["transcript"], strict=True)
        self.names = [f"spoken {name} {i}: {voice}, {text}" for i, (voice, text) in enumerate(utterances)]
        cuts = np.cumsum(arrays["phones"])[:-1]
        start, end, phone = (np.split(arrays[f"phone_{key}"], cuts) for key in ("start", "end", "label"))
        self.intervals = {"phone": [Intervals(start[i] / sample_rate, end[i] / sample_rate, phone[i]) for i in rows]}

    def read(self, index: int, seed: int | None = None) -> Tensor:
        start, stop = (int(self.starts[index]) + at for at in self.window(index, seed))
        return torch.from_numpy(self.samples[start:stop].astype(np.float32) / 32768)


def slots(intents: np.ndarray, transcripts: np.ndarray) -> dict[str, np.ndarray]:
    """Columns action, object and location: of a sentence, its intent's words and its room; slots: the transcript with
    the last two marked, as in "turn on the [location kitchen] [object light]". Of a word, ""."""
    found: dict[str, list[str]] = {"action": [], "object": [], "location": [], "slots": []}
    for intent, text in zip(intents.tolist(), transcripts.tolist(), strict=True):
        action, _, thing = intent.partition(" ")
        room = next((room for room in ROOMS if intent and room in text.split()), "")
        kinds = {thing: "object", room: "location"}
        marked = (
            " ".join(f"[{kinds[word]} {word}]" if word in kinds else word for word in text.split()) if intent else ""
        )
        for name, value in zip(found, (action, thing, room, marked), strict=True):
            found[name].append(value)
    return {name: np.array(values) for name, values in found.items()}


@dataclass(frozen=True)
class _Item:
    """One item before synthesis. seed: of all random draws of its recording."""

    split: str
    word: str
    intent: str
    line: Line
    seed: tuple[int, int, int]


def make(sample_rate: int, words: int, takes: int, sentences: int) -> dict[str, np.ndarray]:
    """The set as arrays: samples int16, items concatenated; per item its split, length, label columns and number of
    phones; per phone its start and end, in samples of the item, and its label."""
    items = list(_items(words, takes, sentences))
    utterances = espeak.speak([item.line for item in items])
    table = {key: [] for key in ("samples", "starts", "ends", "labels")}
    for item, utterance in track(zip(items, utterances, strict=True), "speaking", len(items)):
        samples, starts, labels = recorded(utterance, sample_rate, np.random.default_rng(item.seed))
        table["samples"].append(samples)
        table["starts"].append(starts)
        table["ends"].append(np.append(starts[1:], len(samples)))
        table["labels"] += labels
    return {
        "samples": np.concatenate(table["samples"]),
        "length": np.array([len(x) for x in table["samples"]], np.int64),
        "split": np.array([item.split for item in items]),
        "word": np.array([item.word for item in items]),
        "intent": np.array([item.intent for item in items]),
        "voice": np.array([item.line.voice for item in items]),
        "transcript": np.array([item.line.text for item in items]),
        "phones": np.array([len(x) for x in table["starts"]], np.int64),
        "phone_start": np.concatenate(table["starts"]),
        "phone_end": np.concatenate(table["ends"]),
        "phone_label": np.array(table["labels"]),
    }


def _items(words: int, takes: int, sentences: int):
    voices = [(split, variant) for split in SPLITS for variant in VARIANTS[split]]
    for number, (split, variant) in enumerate(voices):
        voice = f"{ACCENTS[number % len(ACCENTS)]}+{variant}"
        utterances = [(word, "", word) for _ in range(takes) for word in WORDS[:words]]
        rng = np.random.default_rng([SEED, number])
        for turn in range(sentences):
            # voices start with different intents, so that few sentences per voice are balanced
            intent = INTENTS[(turn + number) % len(INTENTS)]
            action, thing = intent.split()
            utterances.append(("", intent, str(rng.choice(ASKED[action])).format(thing=thing, room=rng.choice(ROOMS))))
        for place, (word, intent, text) in enumerate(utterances):
            speed, pitch, span = (int(rng.integers(*limits)) for limits in ((150, 221), (35, 66), (30, 71)))
            yield _Item(split, word, intent, Line(text, voice, speed, pitch, span), (SEED, number, place))


def recorded(
    utterance: Utterance, sample_rate: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray, list[str]]:
    """Simulate a recording of an utterance: samples int16 [N], and the starts (in samples) and labels of its phones.

    Random: silence before and after, a smooth microphone response that is not flat, level, and noise between white and
    pink, 10 to 25 dB below the speech.
    """
    starts, labels = _phones(utterance)
    before, after = (rng.uniform(0.03, 0.12, 2) * sample_rate).astype(int)
    starts = before + np.round(starts * (sample_rate / espeak.RATE)).astype(np.int64)
    speech = soxr.resample(utterance.samples.astype(np.float32) / 32768, espeak.RATE, sample_rate)
    speech = np.pad(speech, (before, after + -(before + len(speech) + after) % _QUICK))
    size = len(speech)
    # at least the first bin's, to avoid dividing by 0
    frequency = np.maximum(np.fft.rfftfreq(size), 1 / size)
    place = np.log(np.maximum(frequency * sample_rate / _LOWEST, 1)) / np.log(sample_rate / 2 / _LOWEST)
    decibels = sum(rng.normal(0, _COLOUR) * np.cos(np.pi * waves * place) for waves in range(1, 5))
    speech = np.fft.irfft(np.fft.rfft(speech) * 10 ** (decibels / 20), size)
    noise = np.fft.irfft(np.fft.rfft(rng.standard_normal(size)) * frequency ** -rng.uniform(0, 0.5), size)
    mixed = speech / speech.std() + noise / noise.std() * 10 ** (-rng.uniform(10, 25) / 20)
    mixed *= min(10 ** (-rng.uniform(16, 32) / 20), 0.95 / abs(mixed).max())
    return np.round(mixed * 32767).astype(np.int16), np.append(0, starts), [SILENCE, *labels]


def _phones(utterance: Utterance) -> tuple[np.ndarray, list[str]]:
    """The start of each phone in the utterance's samples, and its label; pauses are `SILENCE`.

    eSpeak reports the burst of a stop; its silent closure is assigned here to the stop, not to the vowel before.
    """
    sound = abs(utterance.samples.astype(np.int32))
    loud = np.flatnonzero(sound > 0.01 * sound.max())
    starts, labels = utterance.starts.copy(), [phone or SILENCE for phone in utterance.phones]
    for i in range(1, len(starts)):
        before = np.searchsorted(loud, starts[i])
        if before and utterance.phones[i]:
            starts[i] = max(starts[i - 1], min(starts[i], loud[before - 1] + 1))
    # drop phones shorter than a millisecond; the last is a pause, which padding extends
    length = np.diff(starts, append=np.iinfo(np.int64).max)
    kept = [i for i in range(len(labels)) if length[i] > espeak.RATE // 1000]
    kept = [i for at, i in enumerate(kept) if at == 0 or labels[i] != SILENCE or labels[kept[at - 1]] != SILENCE]
    return starts[kept], [labels[i] for i in kept]
