"""Showing predictions of latent targets: which of the masked tokens of an item has the target nearest to each."""

import torch
from torch import Tensor

from sslzoo.objectives.base import MOST_ROWS


def ranks(predicted: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
    """From M predictions and targets [M, D] of an item: (how many other targets are at least as near to a prediction as
    its own, int64 [M]; the nearest target's index, int64 [M])."""
    distance = torch.cdist(predicted.float(), targets.float())
    return (distance <= distance.diagonal()[:, None]).sum(1) - 1, distance.argmin(1)


def retrieved(encoder, batch, data, features: Tensor, mask: Tensor, predicted: Tensor, targets: Tensor) -> dict:
    """The result of `visualize`. features [B, T, C]; mask bool [B, T] on the host; predicted, targets [M, D], of the
    masked tokens row by row. Of speech: the ranks in the first utterance. Of images and text: the patch or piece whose
    target is nearest stands for the prediction."""
    counts: list[int] = mask.sum(1).tolist()
    each = [ranks(p, t) for p, t in zip(predicted.split(counts), targets.split(counts), strict=True)]
    if data.modality == "speech":
        length = int(encoder.features(batch.inputs[:1], batch.lengths[:1])[1])
        wave = {"waveform": batch.inputs[0, : batch.lengths[0]], "sample_rate": data.sample_rate}
        shown = {"kind": "masked_frames", "mask": mask[0, :length], "rank": each[0][0]}
        return {**shown, "candidates": max(counts[0], 1), **wave}
    found = features.clone()
    for row, (_, nearest) in enumerate(each):
        here = mask[row].to(features.device)
        found[row, here] = features[row, here][nearest]
    if data.modality == "text":
        ids = {"ids": batch.inputs, "lengths": batch.lengths, "mask": mask, "prediction": found}
        return {"kind": "masked_tokens", **{name: x[: MOST_ROWS // 2] for name, x in ids.items()}}
    images = [encoder.frontend.images(x[:8].float()) for x in (features, found)]
    shown = {"kind": "masked_patches", "images": images[0], "prediction": images[1]}
    return shown | {"mask": mask[:8], "mean": encoder.frontend.mean}
