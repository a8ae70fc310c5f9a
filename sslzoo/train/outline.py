"""The outline of a run, printed before its first step: parameters by part, splits, batch, device."""

import os
from typing import Any

import torch
from torch import nn

from sslzoo.data.base import Data, Split
from sslzoo.data.packing import PackedSplit
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.train.cadence import Cadence
from sslzoo.train.settings import Settings

FLOATS = {"32-true": "32-bit floats", "bf16-mixed": "bf16", "16-mixed": "fp16"}


def parameters(module: nn.Module) -> dict[str, tuple[int, int]]:
    """{child: (trained parameters, fixed parameters)} of a module; its own parameters are under ""."""
    parts = {"": list(module.parameters(recurse=False))}
    parts |= {name: list(child.parameters()) for name, child in module.named_children()}
    seen: set[int] = set()
    found = {}
    for name, mine in parts.items():
        new = [p for p in mine if id(p) not in seen]  # count tied ones once
        seen.update(map(id, new))
        learn, rest = (sum(p.numel() for p in new if p.requires_grad is wanted) for wanted in (True, False))
        if learn or rest:
            found[name] = (learn, rest)
    return found


def amount(split: Split, data: Data) -> dict:
    """The size of a split: items, and hours of speech or tokens of text."""
    found: dict = {"items": len(split)}
    if data.modality == "speech":
        found["hours"] = round(float(split.lengths.sum()) / data.sample_rate / 3600, 4)
    elif data.modality == "text":
        found["tokens"] = int(split.lengths.sum())
        if isinstance(split, PackedSplit):
            found |= {"documents": split.documents, "full": round(split.full, 4)}
    if split.mixture is not None:
        sets: Any = split.names
        found["shares"] = dict(zip(sets.parts, split.mixture.shares.round(4).tolist(), strict=True))
    return found


def outline(job, splits: dict[str, Split], measured: int | None, epoch_steps: int) -> dict:
    """The outline as stored in summary.json. measured: number of validation items that are measured, None for all."""
    found = {name: amount(split, job.data) for name, split in splits.items()}
    if measured is not None and "valid" in found:
        found["valid"]["measured"] = measured
    modules = {"encoder": job.encoder, "objective": job.objective}
    return {
        "parts": {
            f"{owner}.{name}" if name else owner: {"trained": learn, "fixed": rest}
            for owner, module in modules.items()
            for name, (learn, rest) in parameters(module).items()
        },
        "splits": found,
        "epoch_steps": epoch_steps,
    }


def lines(job, about: dict, folder, save_every: Cadence, val_every: Cadence | None) -> list[str]:
    """A run's outline in aligned lines. about: the result of `outline`. folder: the run's."""
    settings: Settings = job.trainer
    epochs = settings.max_steps / about["epoch_steps"]
    validation = f", validation {_often(val_every)}" if val_every else ", no validation"
    rows = [
        ("encoder", f"{type(job.encoder).__name__}, {_counts(about, 'encoder')}"),
        ("objective", f"{type(job.objective).__name__}, {_counts(about, 'objective')}"),
        *((name, _amount(found, job.data.modality)) for name, found in about["splits"].items()),
        ("batch", f"{_batch(job.data.batch, job.data.modality)}{_shared(settings)}"),
        ("steps", f"{settings.max_steps:,}, or {epochs:.3g} epochs of {about['epoch_steps']:,}"),
        ("device", f"{_device(settings)}, {FLOATS.get(settings.arithmetic, settings.arithmetic)}"),
        ("writes", f"{folder}, a checkpoint {_often(save_every)}{validation}"),
    ]
    return [f"  {name:10} {text}" for name, text in rows]


def _counts(about: dict, owner: str) -> str:
    """The parameters of the encoder or the objective, in total and by part."""
    mine = {k: v for k, v in about["parts"].items() if k.split(".")[0] == owner}
    if not mine:
        return "no parameters"
    learn, rest = (sum(part[kind] for part in mine.values()) for kind in ("trained", "fixed"))
    shown = [
        f"{name.partition('.')[2]} {_short(part['trained'] or part['fixed'])}"
        for name, part in mine.items()
        if "." in name
    ]
    fixed = f", {_short(rest)} that do not learn" if rest else ""
    return f"{_short(learn)} parameters{fixed}" + (f" ({', '.join(shown)})" if shown else "")


def _short(number: int) -> str:
    for scale, unit in ((1e9, "G"), (1e6, "M"), (1e4, "k")):
        if number >= scale:
            return f"{number / (1e3 if unit == 'k' else scale):.3g}{unit}"
    return f"{number:,}"


def _amount(found: dict, modality: str) -> str:
    text = f"{found['items']:,} {'images' if modality == 'image' else 'items'}"
    if "hours" in found:
        hours = found["hours"]
        text += f", {hours:,.1f} hours" if hours >= 1 else f", {60 * hours:.1f} minutes"
    if "tokens" in found:
        text += f", {_short(found['tokens'])} tokens"
    if "shares" in found:
        text += ": " + ", ".join(f"{100 * share:.0f} % {name}" for name, share in found["shares"].items())
    if "full" in found:
        text += f": {found['documents']:,} documents in rows that are {100 * found['full']:.1f} % full"
    return text + (f", of which {found['measured']:,} are measured" if found.get("measured") else "")


def _batch(batch, modality: str) -> str:
    if isinstance(batch, BySeconds):  # a BySeconds of tokens has them in `seconds`
        return f"up to {batch.seconds:g} {'s of audio' if batch.unit == 'seconds' else batch.unit} an update"
    if isinstance(batch, ByCount):
        return f"{batch.size} {'images' if modality == 'image' else 'items'} an update"
    return type(batch).__name__


def _shared(settings: Settings) -> str:
    parts = f", in {settings.accumulate} parts" if settings.accumulate > 1 else ""
    return parts + (f", over {settings.ranks} ranks" if settings.ranks > 1 else "")


def _device(settings: Settings) -> str:
    if settings.on_gpu:
        name = torch.cuda.get_device_name()
        return f"{settings.ranks} x {name}" if settings.ranks > 1 else name
    processes = f"{settings.ranks} processes of " if settings.ranks > 1 else ""
    return f"CPU, {processes}{torch.get_num_threads()} of {os.cpu_count()} cores"


def _often(cadence: Cadence) -> str:
    return f"every {cadence.steps:,} steps" if cadence.steps is not None else f"every {cadence.seconds:g} s"
