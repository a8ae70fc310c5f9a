"""Counting what a step would wait for on an accelerator: operations whose result the host must have."""

import torch
from torch.utils._python_dispatch import TorchDispatchMode

WAITS = {  # a value is read, or a result's size depends on values
    "aten::_local_scalar_dense", "aten::is_nonzero", "aten::item", "aten::nonzero", "aten::masked_select",
    "aten::bincount", "aten::_unique2", "aten::unique_dim", "aten::unique_consecutive", "aten::repeat_interleave",
    "aten::equal", "aten::histc", "aten::_linalg_eigh",
}  # fmt: skip


_shapes = torch.library.Library("aten", "IMPL", "Meta")  # torch has none of CTC


def _ctc_loss(chances, targets, sizes, target_sizes, blank=0, zero_infinity=False):
    steps, rows, _ = chances.shape
    return chances.new_empty(rows), chances.new_empty(rows, steps, 2 * targets.shape[-1] + 1)


_shapes.impl("_ctc_loss.Tensor", _ctc_loss)
_shapes.impl("_ctc_loss_backward.Tensor", lambda gradient, chances, *_, **__: torch.empty_like(chances))


class CountWaits(TorchDispatchMode):
    """Names of the operations, with the place in sslzoo that asked for them."""

    def __init__(self):
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        name = func._schema.name
        masks = args[1] if name in ("aten::index", "aten::index_put", "aten::index_put_") else ()
        by_mask = any(isinstance(x, torch.Tensor) and x.dtype in (torch.bool, torch.uint8) for x in masks)
        if name in WAITS or by_mask:
            self.found.append(f"{name} at {_caller()}")
        return func(*args, **(kwargs or {}))


def _caller() -> str:
    import traceback

    ours = [f for f in traceback.extract_stack() if "/sslzoo/" in f.filename]
    return f"{ours[-1].filename.rpartition('/sslzoo/')[2]}:{ours[-1].lineno}" if ours else "torch"
