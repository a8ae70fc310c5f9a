"""What autocast does on a GPU, done on the CPU: its lists of casts in the place of the CPU's own.

The lists are read from torch's header, and held to what torch registers for CUDA. Kernels go into the dispatcher, so
that what an operation calls inside is cast as well: `affine_grid` is a batched product.
"""

import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from torch import Tensor
from torch.library import Library, fallthrough_kernel
from torch.utils._pytree import tree_leaves, tree_map

HEADER = Path(torch.__file__).parent / "include" / "ATen" / "autocast_mode.h"
NO_AUTOCAST = torch._C.DispatchKeySet(torch._C.DispatchKey.AutocastCPU)
# registered for CUDA beside the lists: for kernels that a CPU has not, and a refusal
OTHERS = {"_cudnn_rnn", "cudnn_convolution", "cudnn_convolution_transpose", "binary_cross_entropy"}


def lists() -> dict[str, str]:
    """The policy of each operation that CUDA's autocast casts: {"bmm": "LOWER_PRECISION_FP", …}."""
    found = {}
    for policy, body in re.findall(r"#define AT_FORALL_(\w+)\(_\)((?:.*\\\n)*.*\n)", HEADER.read_text()):
        if policy == "DIFFERENT_REDISPATCH_SIGNATURE":
            found |= dict.fromkeys(re.findall(r'"([\w.]+)"', body), policy)
        else:
            found |= {".".join(filter(None, names)): policy for names in re.findall(r"_\((\w+)(?:, (\w+))?\)", body)}
    return found


def registered(key: str) -> set[str]:
    """torch's own operations that have a kernel for a dispatch key."""
    names = torch._C._dispatch_get_registrations_for_dispatch_key(key)
    return {name.removeprefix("aten::") for name in names if name.startswith("aten::")}


def overload(name: str) -> torch._ops.OpOverload:
    operation, _, kind = name.partition(".")
    return getattr(getattr(torch.ops.aten, operation), kind or "default")


def eligible(x) -> bool:
    return isinstance(x, Tensor) and x.is_floating_point() and x.dtype != torch.float64


def cast(x, dtype: torch.dtype):
    return tree_map(lambda leaf: leaf.to(dtype) if eligible(leaf) else leaf, x)


def half() -> torch.dtype:
    return torch.get_autocast_dtype("cpu")


def casting(name: str, policy: str):
    """The kernel of an operation: its arguments cast, and then itself without autocast."""
    operation = overload(name)

    def lower(*args, **kwargs):
        return operation(*cast(args, half()), **cast(kwargs, half()))

    def full(*args, **kwargs):
        return operation(*cast(args, torch.float32), **cast(kwargs, torch.float32))

    def widest(*args, **kwargs):
        dtypes = {x.dtype for x in tree_leaves((args, kwargs)) if eligible(x)}
        dtype = torch.float32 if torch.float32 in dtypes else half()
        return operation(*cast(args, dtype), **cast(kwargs, dtype))

    def full_output(*args, **kwargs):
        place = [argument.name for argument in operation._schema.arguments].index("dtype")
        if eligible(args[0]) and kwargs.get("dtype") is None and (len(args) <= place or args[place] is None):
            args, kwargs = args[:place], {**kwargs, "dtype": torch.float32}
        return operation(*args, **kwargs)

    def with_output(*args, **kwargs):
        other = {"norm.Scalar": "norm.ScalarOpt_dtype", "norm.ScalarOpt_dim": "norm.ScalarOpt_dim_dtype"}[name]
        dtype = torch.float32 if eligible(args[0]) else args[0].dtype
        missing = [False] * (4 - len(args)) if name == "norm.ScalarOpt_dim" else []
        return overload(other)(*args, *missing, dtype=dtype)

    kernel = {
        "LOWER_PRECISION_FP": lower,
        "FP32": full,
        "PROMOTE": widest,
        "FP32_SET_OPT_DTYPE": full_output,
        "DIFFERENT_REDISPATCH_SIGNATURE": with_output,
    }[policy]

    def guarded(*args, **kwargs):
        with torch._C._ExcludeDispatchKeyGuard(NO_AUTOCAST):
            return kernel(*args, **kwargs)

    return guarded


@contextmanager
def cuda_casts() -> Iterator[None]:
    """Within it, `torch.autocast("cpu", dtype)` casts as `torch.autocast("cuda", dtype)` does."""
    library, casts = Library("aten", "IMPL", "AutocastCPU"), lists()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # that kernels are replaced
        for name in registered("AutocastCPU") - casts.keys():
            library.impl(name, fallthrough_kernel)
        for name, policy in casts.items():
            if "imname" not in name and "names" not in name:  # of named tensors
                library.impl(name, casting(name, policy))
    try:
        yield
    finally:
        library._destroy()
