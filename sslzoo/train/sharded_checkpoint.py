"""Checkpoints of sharded runs (trainer=fsdp): folders that torch.distributed.checkpoint writes while training goes on.

step=00000100.ckpt/
    shard-00001-model-00001-of-00001.safetensors, …    of each rank its part of every sharded tensor, and where it
                                                       belongs
    rest.pt                                            what all ranks have: buffers, counters, the state of callbacks
    <file>.sha256                                      of each

Any number of ranks, sharded or not, reads from it what it needs. torch's own layout keeps its index as a pickle; this
one is its other, of safetensors, whose headers say the places of the parts.
"""

import copy
import os
import shutil
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
import torch.distributed.checkpoint as dcp
from torch import Tensor
from torch.distributed.checkpoint.hf_storage import HuggingFaceStorageReader, HuggingFaceStorageWriter
from torch.distributed.checkpoint.metadata import TensorStorageMetadata
from torch.distributed.tensor import DTensor

from sslzoo.disk import UNFINISHED, move_into_place
from sslzoo.errors import UserError, one_line_error
from sslzoo.run import check_signed, sign, write_signed

REST = "rest.pt"
MEND = "delete the folder to go on without"


class _Writer(HuggingFaceStorageWriter):
    """Writes a folder beside `path`; each rank signs its file, and the first moves the folder into its place when all
    are there. rest: what the first rank writes."""

    def __init__(self, path: Path, rest: dict):
        self.final, self.beside = path, path.with_name(f".{path.name}{UNFINISHED}")
        self.rest = rest
        super().__init__(str(self.beside), save_distributed=True)

    def write_data(self, plan, planner):
        done = super().write_data(plan, planner)
        for name in {result.storage_data.relative_path for result in done.wait()}:
            sign(self.beside / name)
        return done

    def finish(self, metadata, results) -> None:
        files = sorted({result.storage_data.relative_path for of_rank in results for result in of_rank})
        write_signed(self.beside / REST, lambda path: torch.save({"files": files, **self.rest}, path))
        remove(self.final)  # a damaged one, or of one rank
        move_into_place(self.beside, self.final)


class Writing:
    """A checkpoint that is being written. Its tensors were copied: training may go on."""

    def __init__(self, checkpoint: dict, path: Path, group: dist.ProcessGroup):
        self.path, (sharded, rest) = path, _parted(checkpoint)
        # "thread": a process of its own would load torch once more on every rank
        self.done = cast(Future, dcp.async_save(sharded, storage_writer=_Writer(path, rest), process_group=group))

    def wait(self) -> None:
        """Until it is in its place. To be called by every rank. Raises UserError if it cannot be written."""
        try:
            self.done.result()
        except dcp.CheckpointException as error:
            rank, (cause, _) = min(error.failures.items())
            shutil.rmtree(self.path.with_name(f".{self.path.name}{UNFINISHED}"), ignore_errors=True)
            raise UserError(
                f"cannot write {self.path} (rank {rank}): {one_line_error(cast(Exception, cause))} — the checkpoints before are still there"
            ) from error


def _parted(checkpoint: dict) -> tuple[dict[str, Tensor], dict]:
    """(the sharded tensors, as model/NAME and optimizer/NUMBER/PARAMETER/NAME; a copy of the rest)."""
    sharded: dict[str, Tensor] = {}

    def part(state: dict, place: str) -> dict:
        sharded.update({f"{place}/{name}": x for name, x in state.items() if isinstance(x, DTensor)})
        return {name: x for name, x in state.items() if not isinstance(x, DTensor)}

    optimizers = []
    for number, optimizer in enumerate(checkpoint.get("optimizer_states", [])):
        states = {key: part(state, f"optimizer/{number}/{key}") for key, state in optimizer["state"].items()}
        optimizers.append({**optimizer, "state": states})
    rest = {**checkpoint, "state_dict": part(checkpoint["state_dict"], "model"), "optimizer_states": optimizers}
    return sharded, copy.deepcopy(rest)


def check(path: Path) -> dict:
    """The rest of a checkpoint, after a look at all its files. Raises UserError if one is damaged or missing."""
    check_signed(path / REST, MEND)
    try:
        rest = torch.load(path / REST, map_location="cpu", weights_only=True)
        files = rest.pop("files")
    except Exception as error:
        raise UserError(f"{path} is no checkpoint of sslzoo: it does not hold plain tensors and numbers") from error
    for name in files:
        check_signed(path / Path(name).name, MEND)
    return rest


def load(path: Path, like: Callable[[str, TensorStorageMetadata], Tensor]) -> dict:
    """A checkpoint as one rank's, its sharded tensors read into those that `like` makes for their places (model/NAME,
    optimizer/NUMBER/PARAMETER/NAME) and shapes; of a sharded one only this rank's part is read."""
    found, reader = check(path), HuggingFaceStorageReader(str(path))
    about = cast(dict[str, TensorStorageMetadata], reader.read_metadata().state_dict_metadata)
    tensors = {place: like(place, known) for place, known in about.items()}
    dcp.load(cast(dict[str, Any], tensors), storage_reader=reader, no_dist=True)
    for place, x in tensors.items():
        kind, name = place.split("/", 1)
        if kind == "model":
            found["state_dict"][name] = x
        else:
            number, parameter, name = name.split("/")
            found["optimizer_states"][int(number)]["state"][int(parameter)][name] = x
    return found


def whole(_: str, about: TensorStorageMetadata) -> Tensor:
    """A whole tensor to read into."""
    return torch.empty(about.size, dtype=about.properties.dtype)


def remove(path: Path) -> None:
    """Remove a checkpoint, file or folder; of a folder, at once."""
    if path.is_dir():
        beside = path.with_name(f".{path.name}.old{UNFINISHED}")
        os.replace(path, beside)
        shutil.rmtree(beside)
    for file in (path, Path(f"{path}.sha256")):
        file.unlink(missing_ok=True)
