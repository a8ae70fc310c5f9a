"""An adapted encoder as a run of its own, where it is a plain encoder again: for `sslzoo export`."""

import shutil
from pathlib import Path

from torch import nn

from sslzoo import weights
from sslzoo.adapt.job import load_adapted
from sslzoo.adapt.lora import merge
from sslzoo.adapt.plain_head import plain_head
from sslzoo.errors import UserError
from sslzoo.initial import TOKENIZER, described
from sslzoo.interop.importing import FILE, THEIRS
from sslzoo.nodes import make
from sslzoo.run import Run


def as_run(run: Run, name: str, folder: Path) -> Run:
    """Write `adapted/<name>` of a run to `folder`, as a finished run without an objective: its encoder with LoRA's
    differences added to the weights, and the task's head as a `PlainHead`.

    Raises UserError if the encoder has parts that one of the run's config has not (adapters, a prefix, soft prompts).
    """
    adapted, objective, data = load_adapted(run, name)
    encoder, saved = merge(adapted), described(run)
    plain, found = _parts(make(saved["encoder"])), _parts(encoder)
    more = [part for part, kind in found.items() if plain.get(part) != kind]
    if more or plain.keys() - found.keys():
        part = (more or sorted(plain.keys() - found.keys()))[0]
        raise UserError(
            f"adapted/{name} of {run.folder} cannot be merged into a plain encoder ({part or 'the encoder'} is a "
            f"{found.get(part, 'part that is gone')}): what lora, bitfit, full and head make can be exported"
        )
    folder.mkdir(parents=True)
    for path in (run.config, run.encoder, run.folder / TOKENIZER, run.folder / FILE):
        if path.exists():
            shutil.copyfile(path, folder / path.name)
    if (run.folder / THEIRS).is_dir():
        shutil.copytree(run.folder / THEIRS, folder / THEIRS)
    made = Run(folder)
    weights.save(made.weights, encoder.state_dict())
    plain_head(encoder, objective, data.classes).save(folder)
    made.finish()
    return made


def _parts(encoder: nn.Module) -> dict[str, str]:
    """{name: class of a module, or shape of a parameter or buffer}."""
    modules = {name: type(module).__name__ for name, module in encoder.named_modules()}
    return {**modules, **{name: f"tensor of {list(x.shape)}" for name, x in encoder.state_dict().items()}}
