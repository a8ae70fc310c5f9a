"""What an encoder's features depend on, as hashes: its weights, its settings, and the code that computes them."""

import hashlib
import re
import sys
from functools import cache
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import sslzoo

_CODE = ("encoders", "nn", "features", "adapt")  # of sslzoo's folders, those that compute features
_MODULE = set(vars(nn.Module()))  # of every module
_PLAIN = (bool, int, float, str, type(None))


def encoder_hash(encoder: nn.Module) -> str:
    """20 hex digits, of an encoder's classes, their plain settings, parameters and buffers."""
    found = hashlib.sha256()
    for name, module in encoder.named_modules():
        kind = type(module)
        found.update(f"{name}:{kind.__module__}.{kind.__qualname__}({_settings(module)})".encode())
    for name, tensor in [*encoder.named_parameters(), *encoder.named_buffers()]:
        found.update(f"{name}{tensor.dtype}{tuple(tensor.shape)}".encode())
        found.update(_bytes(tensor))
    return found.hexdigest()[:20]


def _settings(module: nn.Module) -> str:
    """The attributes of a module that are plain values, containers of them, or functions."""
    said: list[str] = []
    for name, value in sorted(vars(module).items()):
        if name in ("training", "layer_drop_seed") or name in _MODULE:
            continue
        if isinstance(value, _PLAIN):
            said.append(f"{name}={value!r}")
        elif isinstance(value, tuple | list | dict | set | frozenset):
            said.append(f"{name}={sorted(map(repr, value)) if isinstance(value, set | frozenset) else repr(value)}")
        elif callable(value) and hasattr(value, "__qualname__"):
            said.append(f"{name}={value.__qualname__}")
    return re.sub(r" at 0x[0-9a-f]+", "", ", ".join(said))  # an object's address is another in each process


def _bytes(tensor: Tensor) -> bytes:
    flat = tensor.detach().cpu().contiguous().flatten()
    return np.ascontiguousarray(flat.view(torch.uint8).numpy()).tobytes() if flat.numel() else b""


def code_hash(encoder: nn.Module) -> str:
    """20 hex digits, of sslzoo's version and the source of what computes features,
    an encoder's own classes included."""
    theirs = {type(module).__module__ for module in encoder.modules()}
    theirs = {name for name in theirs if name.split(".")[0] not in ("sslzoo", "torch", "transformers", "torchvision")}
    found = hashlib.sha256(f"{sslzoo.__version__} {torch.__version__} {_own()}".encode())
    for name in sorted(theirs):
        file = getattr(sys.modules.get(name), "__file__", None)
        found.update(Path(file).read_bytes() if file and Path(file).suffix == ".py" else name.encode())
    return found.hexdigest()[:20]


@cache
def _own() -> str:
    root, found = Path(sslzoo.__file__).parent, hashlib.sha256()
    for path in sorted(path for name in _CODE for path in (root / name).rglob("*.py")):
        found.update(path.read_bytes())
    return found.hexdigest()
