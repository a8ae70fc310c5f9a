"""Fully sharded training (trainer=fsdp): parameters, gradients and the optimiser's state are split over the ranks, and
gathered a block at a time (Zhao et al. 2023, 2304.11277; PyTorch's FSDP2, `torch.distributed.fsdp.fully_shard`).

A training step is one forward of the root module, so that what lies outside of blocks (front ends, heads, quantisers,
a teacher's) is whole throughout it, however an objective calls an encoder's stages. Outside of a step, `gathered` makes
everything whole.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist
from lightning.pytorch.strategies import ModelParallelStrategy
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor

from sslzoo import distributed
from sslzoo.pretrain import Pretrain
from sslzoo.train.additions import check_states
from sslzoo.train.sharded_checkpoint import Writing, load, whole


def blocks_of(module: nn.Module) -> Iterator[nn.Module]:
    """The blocks of all trunks in a module, of teachers and decoders too; of a recurrent trunk, which holds its weights
    in lists of its own, none."""
    for part in module.modules():
        if isinstance(blocks := getattr(part, "blocks", None), nn.ModuleList | nn.Sequential):
            yield from (block for block in blocks if not isinstance(block, nn.RNNBase))


class ShardedPretrain(Pretrain):
    """A `Pretrain` whose parameters are sharded before the optimiser is built."""

    twins: nn.ModuleDict | None = None  # its parts without storage, to be filled and saved

    def configure_model(self) -> None:
        if self.twins is None:
            assert self.device_mesh is not None  # the strategy made it
            self.shard(self.device_mesh["data_parallel"])

    def shard(self, mesh: DeviceMesh) -> None:
        """Shard each block, then the rest as the root, over a mesh of one dimension."""
        twins = copy.deepcopy(nn.ModuleDict({"encoder": self.encoder, "objective": self.objective})).to("meta")
        object.__setattr__(self, "twins", twins)  # not as a part of this module
        for parameter in self.parameters():
            parameter.data = parameter.data.contiguous()  # convolutions may be channels-last, which FSDP2 does not take
        blocks = list(dict.fromkeys(blocks_of(self)))
        for block in blocks:
            fully_shard(block, mesh=mesh)
            if hasattr(block, "without_effect"):
                register_fsdp_forward_method(block, "without_effect")
        fully_shard(self, mesh=mesh)
        # by itself FSDP2 prefetches in the order of all forwards since the last step, which differs between ranks where
        # they validate on different numbers of batches: then they would wait for each other for ever
        units = [cast(FSDPModule, unit) for unit in [self, *blocks]]
        units[0].set_modules_to_backward_prefetch([units[0]])
        for before, unit in pairwise(units):
            unit.set_modules_to_backward_prefetch([before])
        for name in ("training_step", "begin"):
            register_fsdp_forward_method(self, name)

    def begin(self) -> None:
        """A forward of the root that computes nothing: it makes the blocks its own."""

    @contextmanager
    def gathered(self) -> Iterator[None]:
        """As `Pretrain.gathered`. Assignments to parameters are lost."""
        self.begin()
        units = [part for part in self.modules() if isinstance(part, FSDPModule)]
        for unit in units:
            unit.unshard()
            unit.set_reshard_after_forward(False, recurse=False)
        try:
            yield
        finally:
            for unit in units:
                unit.set_reshard_after_forward(unit is not self, recurse=False)
                unit.reshard()

    def parts_to_save(self) -> tuple[nn.Module, nn.Module]:
        assert self.twins is not None
        self.twins.load_state_dict(
            {name: distributed.whole(x).cpu() for name, x in self.state_dict().items()}, assign=True
        )
        return self.twins["encoder"], self.twins["objective"]


class FullyShardedStrategy(ModelParallelStrategy):
    """Lightning's strategy for FSDP2, with checkpoints that each rank writes its part of while training goes on (see
    `sharded_checkpoint`), and that any number of ranks reads, sharded or not; those of one rank are read too."""

    lightning_restore_optimizer = True

    def __init__(self, ranks: int, timeout: float = 1800.0):
        super().__init__(data_parallel_size=ranks, tensor_parallel_size=1, timeout=timedelta(seconds=timeout))
        self._writing: Writing | None = None
        self._writers: dist.ProcessGroup | None = None

    def lightning_module_state_dict(self) -> dict[str, Any]:
        module = self.lightning_module
        assert module is not None
        return module.state_dict()

    def optimizer_state(self, optimizer) -> dict[str, Any]:
        return optimizer.state_dict()

    def save_checkpoint(self, checkpoint, filepath, storage_options=None) -> None:
        check_states(checkpoint.get("callbacks", {}))
        self.settle()
        if self._writers is None:  # of its own, as it talks while the others do; NCCL's would not write from a thread
            self._writers = dist.new_group(backend="gloo", timeout=self._timeout)
        self._writing = Writing(checkpoint, Path(filepath), self._writers)

    def settle(self) -> None:
        """Wait for the checkpoint that is being written. To be called by every rank."""
        writing, self._writing = self._writing, None
        if writing is not None:
            writing.wait()

    def load_checkpoint(self, checkpoint_path, weights_only=None) -> dict[str, Any]:
        path, module = Path(checkpoint_path), self.lightning_module
        if not path.is_dir():
            return self.checkpoint_io.load_checkpoint(path)
        assert module is not None
        own = {f"model/{name}": x for name, x in module.state_dict().items()}
        for number, optimizer in enumerate(self.optimizers):
            parameters = (p for group in optimizer.param_groups for p in group["params"])
            own |= {f"optimizer/{number}/{key}": p.detach() for key, p in enumerate(parameters)}

        def like(place: str, about) -> Tensor:
            found = own.get(place if place.startswith("model/") else place.rpartition("/")[0])
            if isinstance(found, DTensor) and found.shape == about.size:
                return torch.empty_like(found, dtype=about.properties.dtype)
            return whole(place, about)

        return load(path, like)

    def load_model_state_dict(self, checkpoint, strict: bool = True) -> None:
        module = self.lightning_module
        assert module is not None
        own = module.state_dict()
        found = {
            name: distributed.shard_like(x, own[name]) if name in own else x
            for name, x in checkpoint["state_dict"].items()
        }
        module.load_state_dict(found, strict=strict)

    def load_optimizer_state_dict(self, checkpoint) -> None:
        for optimizer, saved in zip(self.optimizers, checkpoint["optimizer_states"], strict=True):
            parameters = [p for group in optimizer.param_groups for p in group["params"]]
            states = {
                number: {name: distributed.shard_like(x, parameters[number]) for name, x in state.items()}
                for number, state in saved["state"].items()
            }
            groups = [  # what torch computes it with is not of the run
                {**group, **{key: own[key] for key in ("fused", "foreach") if key in own}}
                for group, own in zip(saved["param_groups"], optimizer.param_groups, strict=True)
            ]
            optimizer.load_state_dict({"state": states, "param_groups": groups})
