"""Reads a folder that transformers wrote (config.json, safetensors) without transformers: runs no code of it, and opens
no pickle."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor

from sslzoo.errors import UserError
from sslzoo.interop.families import family_of
from sslzoo.interop.family import Family
from sslzoo.interop.tokenizers import FILES
from sslzoo.run import sha256

WEIGHTS, INDEX, POOLING = "model.safetensors", "model.safetensors.index.json", "1_Pooling/config.json"
PREPROCESSOR = "preprocessor_config.json"
PICKLES = ("pytorch_model*.bin", "*.pt", "*.pth", "*.ckpt", "*.h5", "*.msgpack")
CONVERT = "AutoModel.from_pretrained(FOLDER).save_pretrained(OUT, safe_serialization=True)"
ASSUMED = (
    "there is no preprocessor_config.json beside it: how inputs are normalised is taken from the library's defaults"
)


@dataclass(frozen=True)
class Folder:
    """A folder's path and its config.json, with preprocessor_config.json, if there is one, as "preprocessor"."""

    path: Path
    config: dict[str, Any]
    mend = "does config.json belong to these weights? Save both together with transformers' save_pretrained"

    @property
    def family(self) -> Family:
        return family_of(self.config, str(self.path / "config.json"))

    @property
    def assumed(self) -> str:
        """What was assumed because no file says it, for the summary; "" if nothing."""
        return "" if self.family.modality == "text" or "preprocessor" in self.config else ASSUMED

    @staticmethod
    def open(path: Path) -> "Folder":
        """Raises UserError, with advice, if the folder cannot be read."""
        if not path.is_dir():
            raise UserError(f"there is no folder {path}: hf:FOLDER is one that transformers' save_pretrained wrote")
        config = _json(path / "config.json", "transformers' save_pretrained writes one beside the weights")
        if (path / PREPROCESSOR).exists():
            config["preprocessor"] = _json(path / PREPROCESSOR, "")
        found = Folder(path, config)
        found.files()
        return found

    def files(self) -> list[Path]:
        """The files of the weights. Raises UserError if there are none, or only pickles."""
        if (self.path / WEIGHTS).exists():
            return [self.path / WEIGHTS]
        if (self.path / INDEX).exists():
            names = sorted(set(_json(self.path / INDEX, "").get("weight_map", {}).values()))
            paths = [self.path / Path(name).name for name in names]
            if lost := [path.name for path in paths if not path.exists()]:
                raise UserError(f"{self.path} lacks {lost[0]}, which {INDEX} names")
            if paths:
                return paths
        pickles = sorted(p.name for pattern in PICKLES for p in self.path.glob(pattern))
        if pickles:
            raise UserError(
                f"{self.path} has its weights in {pickles[0]} alone, and a pickle may run any code: convert it where you "
                f"trust it, with transformers: {CONVERT}"
            )
        raise UserError(f"{self.path} has no weights ({WEIGHTS}): write them there with transformers' save_pretrained")

    def tensors(self) -> dict[str, Tensor]:
        from safetensors import SafetensorError
        from safetensors.torch import load_file

        found: dict[str, Tensor] = {}
        for path in self.files():
            try:
                found |= load_file(path)
            except (SafetensorError, OSError) as error:
                raise UserError(f"{path} is damaged or no safetensors file: {error}") from error
        return found

    def pooling(self) -> str | None:
        """The pooling that sentence-transformers configures in the folder, "mean" or "first"; None without."""
        path = self.path / POOLING
        said = _json(path, "") if path.exists() else {}
        if said.get("pooling_mode_mean_tokens") or said.get("pooling_mode") == "mean":
            return "mean"
        return "first" if said.get("pooling_mode_cls_token") or said.get("pooling_mode") == "cls" else None

    def digest(self) -> str:
        """A hash of everything that an import reads."""
        small = [self.path / name for name in ("config.json", PREPROCESSOR, POOLING, *FILES)]
        there = [path for path in (*self.files(), *small) if path.exists()]
        return hashlib.sha256("\n".join(f"{p.name} {sha256(p)}" for p in there).encode()).hexdigest()


def _json(path: Path, mend: str) -> dict[str, Any]:
    if not path.exists():
        raise UserError(f"{path.parent} has no {path.name}: {mend}")
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise UserError(f"{path} is not JSON: {error}") from error
    if not isinstance(found, dict):
        raise UserError(f"{path} holds no object")
    return found
