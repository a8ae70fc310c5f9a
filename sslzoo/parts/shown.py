"""What several objectives show in the same way; the keys are described in `report.pictures`."""

import torch
from torch import Tensor

MOST = 16  # pairs that are drawn


def view_pairs(title: str, a: Tensor, b: Tensor, captions: list[str], right: Tensor | None = None) -> dict:
    """Views [B, C, S, S] side by side, a caption under each second one, and which of the B are right."""
    shown = {
        "kind": "images",
        "title": title,
        "images": torch.stack([a, b], dim=1).flatten(0, 1)[: 2 * MOST].cpu(),
        "captions": [text for caption in captions for text in ("", caption)][: 2 * MOST],
        "columns": 8,
    }
    return shown if right is None else shown | {"right": right.repeat_interleave(2)[: 2 * MOST].cpu()}


def upright(views: Tensor) -> Tensor:
    """Standardised log-mel frames [B, T, F] as pictures [B, 1, F, T]: loud dark, the lowest band below, padding white."""
    grey = (0.5 - views / 6).clamp(0, 1).masked_fill(~views.any(2, keepdim=True), 1.0)
    return grey.transpose(1, 2).flip(1)[:, None]


def visible(text: str) -> str:
    """A piece of text as one can see it: white space, and a special token, which has no text, by a sign."""
    return text.replace(" ", "␣").replace("\n", "⏎") if text.strip() != text else text or "∅"


def places(mask: Tensor, logits: Tensor, right: Tensor) -> Tensor:
    """For each token of one utterance (mask bool [T]) how many candidates scored above the right one, -1
    where nothing was asked. logits [M, K] and right [M, 1] begin with the utterance's masked tokens."""
    first = int(mask.sum())
    place = torch.full((len(mask),), -1)
    place[mask.cpu()] = (logits[:first] > right[:first]).sum(1).cpu()
    return place


def asked_frames(title: str, frames: Tensor, mask: Tensor, logits: Tensor, right: Tensor) -> dict:
    """An utterance's spectrogram [F, mels], the tokens of it that were asked for (bool [T]), and how well each
    was answered; see `places`."""
    return {
        "kind": "frames",
        "title": title,
        "frames": frames.cpu(),
        "mask": mask.cpu(),
        "place": places(mask, logits, right),
        "candidates": logits.shape[1],
    }
