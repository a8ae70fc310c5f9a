"""Preparing an objective's visualization to be stored."""

from collections.abc import Callable

import torch
from torch import Tensor

from sslzoo.data.base import Batch, continuation

SOUNDS, SECONDS = 4, 4.0  # waveforms to keep, at most, and the length of each


def sounds(batch: Batch, sample_rate: int) -> dict:
    """The first waveforms of a batch, to play in the report: `sounds`, a list of int16 [N], and `sample_rate`."""
    kept = []
    for wave, length in zip(batch.inputs[:SOUNDS].detach().float().cpu(), batch.lengths.tolist(), strict=False):
        wave = wave[: min(length, int(SECONDS * sample_rate))]
        wave = wave / max(1.0, float(wave.abs().max()) / 0.7 if len(wave) else 1.0)  # standardised waves exceed 1
        kept.append((wave * 32767).round().to(torch.int16))
    return {"sounds": kept, "sample_rate": sample_rate}


def portable(shown: dict, describe: Callable[[Tensor], str]) -> dict:
    """The result of `Objective.visualize` with tensors copied to the CPU (clones, so that no larger storage is saved).
    Text ids are decoded, as the report has no tokenizer: `words` {id: text}; and for `text` int64 [T], a prompt of
    `given` ids and its continuation, `texts`: [prompt, continuation].

    describe: decodes ids; see `Data.describe`.
    """
    kept = {k: x.detach().cpu().clone() if isinstance(x, Tensor) else x for k, x in shown.items()}
    if "ids" in kept:
        used = torch.cat([kept["ids"].flatten(), kept["prediction"].flatten()]).unique()
        kept["words"] = {int(i): describe(i) for i in used}
    if "text" in kept:
        given, more = kept["text"][: kept["given"]], kept["text"][kept["given"] :]
        kept["texts"] = continuation(describe, given, more)
    return kept
