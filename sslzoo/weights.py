"""Saving and loading tensors as safetensors files with SHA-256 signatures."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from sslzoo.run import check_signed, write_signed


def save(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Write tensors, from any device. Tied tensors are written once per name."""
    from safetensors.torch import save_file

    found: dict[str, Tensor] = {}
    stored: set[int] = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        place = tensor.untyped_storage().data_ptr()
        found[name] = tensor.clone() if place in stored else tensor
        stored.add(place)
    write_signed(path, lambda beside: save_file(found, beside))


def load(path: Path, mend: str) -> dict[str, Tensor]:
    """The tensors of `save`, on the CPU. Raises UserError, with the advice `mend`, if the file is damaged or
    unsigned."""
    from safetensors.torch import load_file

    check_signed(path, mend)
    return load_file(path)


def signature(path: Path) -> str:
    """The SHA-256 in the `.sha256` file beside a file."""
    return Path(f"{path}.sha256").read_text(encoding="utf-8").split()[0]
