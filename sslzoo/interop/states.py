"""State dicts of other libraries: a file, or a folder with the arguments beside it, as our export writes one."""

import hashlib
import json
import pickle
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from sslzoo.errors import UserError
from sslzoo.interop.family import Family
from sslzoo.interop.folder import WEIGHTS
from sslzoo.run import sha256

INSIDE = ("model", "state_dict", "model_state_dict")  # where checkpoints have them
CONVERT = "torch.save({'model': torch.load(FILE, weights_only=False)['model']}, OUT)"


@dataclass(frozen=True)
class StateDict:
    """path: of the file. family, config: what it is of. assumed: what was taken for granted, "" for nothing."""

    path: Path
    family: Family
    config: dict[str, Any]
    state: Mapping[str, Tensor]
    assumed: str = ""
    mend = "is it of another architecture, or has it arguments of its own? `sslzoo export` writes them beside it"

    def tensors(self) -> dict[str, Tensor]:
        return dict(self.state)

    def pooling(self) -> str | None:
        return None

    def digest(self) -> str:
        """Stands for the file and the arguments."""
        text = f"{sha256(self.path)} {json.dumps(self.config, sort_keys=True)}"
        return hashlib.sha256(text.encode()).hexdigest()


def find(name: str, prefix: str) -> tuple[Path, dict[str, Any]]:
    """(a file of weights, the config.json beside it, {} if there is none) of a file or a folder."""
    path = Path(name).expanduser()
    if path.is_dir():
        if not (path / WEIGHTS).exists():
            raise UserError(f"{path} has no weights ({WEIGHTS}): {prefix}:FILE names a state dict")
        beside = path / "config.json"
        said = json.loads(beside.read_text(encoding="utf-8")) if beside.exists() else {}
        return path / WEIGHTS, said if isinstance(said, dict) else {}
    if not path.is_file():
        raise UserError(f"there is no file {path}: {prefix}:FILE names a state dict (.pt, .pth or .safetensors)")
    return path, {}


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a state dict, or of the one that a checkpoint has. Runs no code of the file: a pickle of more than
    tensors is refused, with the way to convert it."""
    if path.suffix == ".safetensors":
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        try:
            return load_file(path)
        except (SafetensorError, OSError) as error:
            raise UserError(f"{path} is damaged or no safetensors file: {error}") from error
    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise UserError(
            f"{path} holds more than tensors, and a pickle may run any code: convert it where you trust it: {CONVERT}"
        ) from error
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise UserError(f"{path} is damaged or no file of torch.save: {' '.join(str(error).split())[:200]}") from error
    for name in INSIDE:
        if isinstance(found, dict) and isinstance(found.get(name), dict):
            found = found[name]
    tensors = {k: v for k, v in found.items() if isinstance(v, Tensor)} if isinstance(found, dict) else {}
    if not tensors:
        raise UserError(f"{path} holds no state dict")
    return tensors


def count(state: Mapping[str, Tensor], start: str) -> int:
    """How many numbered parts have names that begin with `start`."""
    return len({name[len(start) :].split(".")[0] for name in state if name.startswith(start)})


def wanted(state: Mapping[str, Tensor], name: str, what: str) -> Tensor:
    """A tensor that every model of a kind has. Raises UserError where there is none."""
    if name not in state:
        raise UserError(f"this is no state dict of {what}: it has no {name}")
    return state[name]
