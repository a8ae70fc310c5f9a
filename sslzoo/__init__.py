"""sslzoo: pretrain encoders for speech, images and text without labels, and measure what they learned.

    import sslzoo

    enc = sslzoo.load("my_run")        # a finished run; adapted="digit-full" for its encoder after `sslzoo adapt`
    out = enc(waves)                   # arrays, tensors, lists, files, texts: out.hidden, out.lengths, out.pooled
    vectors = enc.features(waves, layer=4, what="items")    # [B, D]

`load` returns an encoder for arrays, tensors, files and texts (`sslzoo.features.pretrained.PretrainedEncoder`),
`load_encoder` the plain torch module, for your own training loop. Your own objective, encoder, front end, data set,
split or task extends `Objective`, `Encoder`, `Frontend`, `Data`, `Split` or `TaskObjective`. Users' mistakes raise
`UserError`; a config that cannot be built raises `ConfigError`. Everything else is imported from its module.

torch is imported only when needed.
"""

from importlib import import_module
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sslzoo.errors import ConfigError, InputError, InputTypeError, UserError
from sslzoo.interop.grammar import is_source

if TYPE_CHECKING:
    from sslzoo.data.base import Batch, Data, Split
    from sslzoo.encoders.base import Encoded, Encoder, Frontend
    from sslzoo.features.pretrained import Output, PretrainedEncoder
    from sslzoo.objectives.base import Loss, Objective
    from sslzoo.run import Run
    from sslzoo.tasks.base import TaskObjective

__version__ = "0.1.0"

_LATE = {  # public name -> the module to import on first access
    "Batch": "data.base",
    "Data": "data.base",
    "Split": "data.base",
    "Encoded": "encoders.base",
    "Encoder": "encoders.base",
    "Frontend": "encoders.base",
    "Output": "features.pretrained",
    "PretrainedEncoder": "features.pretrained",
    "Loss": "objectives.base",
    "Objective": "objectives.base",
    "Run": "run",
    "TaskObjective": "tasks.base",
}

__all__ = [
    "Batch",
    "ConfigError",
    "Data",
    "Encoded",
    "Encoder",
    "Frontend",
    "InputError",
    "InputTypeError",
    "Loss",
    "Objective",
    "Output",
    "PretrainedEncoder",
    "Run",
    "Split",
    "TaskObjective",
    "UserError",
    "__version__",
    "load",
    "load_encoder",
]


def load(
    run: str | PathLike[str],
    root: str | PathLike[str] = "runs",
    device: str = "auto",
    adapted: str | None = None,
) -> "PretrainedEncoder":
    """A finished run's encoder, frozen, for arrays, tensors, lists, files and texts.

    run: its folder, its name under `root`, or the start of its name; or SOURCE:WHAT for an encoder of another library
    ("hf:FOLDER", see docs/weights.md), which is imported into `root`. device: "auto" for a GPU if available, else the
    CPU; or torch's name of a device ("cpu", "cuda:1"). adapted: load the encoder after `sslzoo adapt`, by the name of
    its folder in the run's `adapted/`, such as "digit-full"; `enc.predict(inputs)` then returns the task's predictions
    (`sslzoo.adapt.predict.AdaptedEncoder`).

        enc = sslzoo.load("speech", root="runs", device="cpu")
        out = enc([first_wave, second_wave])           # out.hidden, out.lengths, out.pooled
        frames = enc.features("speech.flac", layer=2)  # a list of one [T, D]
        mixed = enc.weighted_sum(waves, "word")        # by the layer weights of the probe on the task `word`

    Raises UserError if there is no such run or it is not finished. For the encoder's inputs see
    `sslzoo.features.pretrained.PretrainedEncoder`.
    """
    found = _found(run, root)
    if adapted is None:
        from sslzoo import build

        encoder, data = build.load_encoder(found)
    else:
        source, found = found, _adapted(found, adapted)
        from sslzoo.adapt.job import load_adapted
        from sslzoo.adapt.predict import AdaptedEncoder

        encoder, objective, data = load_adapted(source, adapted)
        return AdaptedEncoder(encoder, objective, data, found, device)
    from sslzoo.features.pretrained import PretrainedEncoder

    return PretrainedEncoder(encoder, data, found, device)


def load_encoder(run: str | PathLike[str], adapted: str | None = None, root: str | PathLike[str] = "runs") -> "Encoder":
    """A finished run's encoder as a torch module in eval mode: `encoder(inputs, lengths)` returns an `Encoded`. Its
    inputs are those of a `Batch`: padded, at the encoder's own size, rate and vocabulary. See `load` for other inputs.

    adapted: load the encoder after `sslzoo adapt`, by the name of its folder, such as "digit-full".
    """
    found = _found(run, root)
    if adapted is None:
        from sslzoo import build

        return build.load_encoder(found)[0]
    _adapted(found, adapted)
    from sslzoo.adapt.job import load_adapted

    return load_adapted(found, adapted)[0]


def _found(run: Any, root: Any) -> "Run":
    """A finished run, found without importing torch, which takes seconds."""
    from sslzoo.run import Run

    for name, value in (("run", run), ("root", root)):
        if not isinstance(value, str | PathLike):
            raise InputTypeError(f"{name} must be a name or a path, got {type(value).__name__}")
    if is_source(str(run)):
        from sslzoo.interop.importing import import_run

        return import_run(str(run), Path(root))[0]
    found = Run.find(str(run), Path(root))
    found.check_finished()
    return found


def _adapted(run: "Run", name: Any) -> "Run":
    """The run of an adaptation, found without importing torch."""
    if not isinstance(name, str):
        raise InputTypeError(f"adapted must be the name of a folder such as 'digit-full', got {type(name).__name__}")
    from sslzoo.adapt.find import adapted_run

    return adapted_run(run, name)


def __getattr__(name: str) -> Any:
    if name in _LATE:
        return getattr(import_module(f"sslzoo.{_LATE[name]}"), name)
    raise AttributeError(f"module 'sslzoo' has no attribute '{name}'")


def __dir__() -> list[str]:
    return __all__
