"""What a run keeps of its objective's look at the task."""

from collections.abc import Callable

import torch
from torch import Tensor

from sslzoo.data.base import Batch, continuation

SOUNDS, SECONDS = 4, 4.0  # items that can be listened to, at most, and how much of each


def sounds(batch: Batch, sample_rate: int) -> dict:
    """The first items of a batch of waveforms, to be listened to: `sounds`, a list of int16 [N], and `sample_rate`."""
    kept = []
    for wave, length in zip(batch.inputs[:SOUNDS].detach().float().cpu(), batch.lengths.tolist(), strict=False):
        wave = wave[: min(length, int(SECONDS * sample_rate))]
        wave = wave / max(1.0, float(wave.abs().max()) / 0.7 if len(wave) else 1.0)  # a standardised one has no scale
        kept.append((wave * 32767).round().to(torch.int16))
    return {"sounds": kept, "sample_rate": sample_rate}


def portable(shown: dict, describe: Callable[[Tensor], str]) -> dict:
    """What `Objective.visualize` returned, in host memory, each tensor without the storage that it is a part of. Ids
    of text get what they say, which the report cannot know: `words` {id: text}, and of `text` int64 [T], of which the
    first `given` were given, `texts`: [what was given, what was added].

    describe: of ids, their text; see `Data.describe`.
    """
    kept = {k: x.detach().cpu().clone() if isinstance(x, Tensor) else x for k, x in shown.items()}
    if "ids" in kept:
        used = torch.cat([kept["ids"].flatten(), kept["prediction"].flatten()]).unique()
        kept["words"] = {int(i): describe(i) for i in used}
    if "text" in kept:
        given, more = kept["text"][: kept["given"]], kept["text"][kept["given"] :]
        kept["texts"] = continuation(describe, given, more)
    return kept
