"""Mixed precision by one rule: only encoders and heads compute in half precision.

Autocast is off around a step. It is on inside the stages of every encoder, including an objective's copies, and inside
the `forward` of every network that is a child of the objective: these are the regions. Their outputs are cast to
float32. So an objective's own computations (logits of normalised vectors, targets, masks, losses, health) are in
float32, as are those of a child with `full_precision = True`: views and quantisers.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields, is_dataclass, replace
from functools import partial
from typing import Any

import torch
from lightning.pytorch.plugins import MixedPrecision
from torch import Tensor, nn

from sslzoo.encoders.base import Encoder
from sslzoo.errors import UserError

STAGES = ("features", "normalize", "project", "embed", "contextualize", "pooled", "forward")
HALF = {"bf16-mixed": torch.bfloat16, "16-mixed": torch.float16}
MOST_SKIPPED = 40  # in a row: the scale has fallen from 2^16 to 2^-24, so overflow is not the cause


def allow_tf32(allow: bool) -> None:
    """Whether a GPU may compute float32 matmuls and convolutions in TF32; torch's default is convolutions only."""
    torch.backends.cuda.matmul.allow_tf32 = allow
    torch.backends.cudnn.allow_tf32 = allow


def to_float32(x: Any) -> Any:
    """Cast half-precision tensors in `x` to float32, inside tuples, lists, dicts and dataclasses too."""
    if isinstance(x, Tensor):
        return x.float() if x.dtype in HALF.values() else x
    if isinstance(x, tuple) and hasattr(x, "_fields"):
        return type(x)(*map(to_float32, x))
    if isinstance(x, list | tuple):
        return type(x)(map(to_float32, x))
    if isinstance(x, dict):
        return {name: to_float32(value) for name, value in x.items()}
    if is_dataclass(x) and not isinstance(x, type):
        return replace(x, **{f.name: to_float32(getattr(x, f.name)) for f in fields(x) if f.init})
    return x


class Region:
    """A method of a module, called under autocast to `dtype` (None: autocast off). It replaces the method on the
    instance.

    It stores the module and the method's name, not a bound method, so that a deep copy of the module, such as a
    teacher, gets its own region. It is neither a module nor a tensor, so it is not in a state dict.
    """

    def __init__(self, module: nn.Module, name: str, dtype: torch.dtype | None, device_type: str):
        self.module, self.name, self.dtype, self.device_type = module, name, dtype, device_type

    def call(self, *args, **kwargs) -> Any:
        """The method itself."""
        return getattr(type(self.module), self.name)(self.module, *args, **kwargs)

    def __call__(self, *args, **kwargs) -> Any:
        if self.dtype is None:
            with torch.autocast(self.device_type, enabled=False):
                return self.call(*to_float32(args), **to_float32(kwargs))
        if torch.is_autocast_enabled(self.device_type) and torch.get_autocast_dtype(self.device_type) == self.dtype:
            return self.call(*args, **kwargs)  # inside another region, whose result is cast
        # no cache of cast weights: entries made under no_grad would be reused where gradients are needed
        with torch.autocast(self.device_type, self.dtype, cache_enabled=False):
            found = self.call(*args, **kwargs)
        return to_float32(found)


def apply(encoder: nn.Module, objective: nn.Module, dtype: torch.dtype, device_type: str) -> None:
    """Make the stages of `encoder`, and of all encoders and networks in `objective`, compute in `dtype`. Idempotent;
    the last call's dtype holds."""
    for module in [*encoder.modules(), *objective.modules()]:
        if isinstance(module, Encoder):
            for name in filter(partial(hasattr, module), STAGES):
                setattr(module, name, Region(module, name, dtype, device_type))
        elif getattr(module, "full_precision", False):
            setattr(module, "forward", Region(module, "forward", None, device_type))  # noqa: B010 (as above)
    for module in networks(objective):
        setattr(module, "forward", Region(module, "forward", dtype, device_type))  # noqa: B010


def networks(module: nn.Module) -> Iterator[nn.Module]:
    """The children with a `forward`, or their children for containers such as a ModuleList; without encoders and
    modules with full_precision."""
    for child in module.children():
        if isinstance(child, Encoder) or getattr(child, "full_precision", False):
            continue
        if type(child).forward is nn.Module.forward:  # a container: it has no forward
            yield from networks(child)
        else:
            yield child


class HalfPrecision(MixedPrecision):
    """Lightning's mixed precision ("bf16-mixed", or "16-mixed" with a scaled loss) by the rule above.

    skipped: whether the last optimiser step was skipped because an unscaled gradient was not finite. This is how the
    scaler of "16-mixed" finds its scale, not an error: checks of gradients are off if `is_scaled`, and updates
    that follow the weights (a teacher) are skipped too. Every rank skips the same steps, because gradients are
    averaged before the check.
    """

    skipped: bool = False
    in_a_row: int = 0  # steps skipped

    @property
    def is_scaled(self) -> bool:
        return self.scaler is not None

    @property
    def dtype(self) -> torch.dtype:
        return HALF[self.precision]

    @contextmanager
    def forward_context(self) -> Iterator[None]:
        """Around a step: nothing, as regions turn on autocast themselves."""
        yield

    def convert_module(self, module: nn.Module) -> nn.Module:
        apply(module.encoder, module.objective, self.dtype, self.device)
        return module

    def optimizer_step(self, optimizer, model, closure, **kwargs) -> Any:
        if not self.is_scaled:
            return super().optimizer_step(optimizer, model=model, closure=closure, **kwargs)
        # a fused optimiser would unscale and skip on the device, after clipping and without a sign of it
        optimizer._step_supports_amp_scaling = False
        stepped: list[bool] = []
        hook = optimizer.register_step_post_hook(lambda *_: stepped.append(True))
        try:
            found = super().optimizer_step(optimizer, model=model, closure=closure, **kwargs)
        finally:
            hook.remove()
        self.skipped = not stepped
        self.in_a_row = self.in_a_row + 1 if self.skipped else 0
        if self.in_a_row > MOST_SKIPPED:
            raise UserError(
                f"the gradient was not finite at {self.in_a_row} steps in a row, however small the loss was scaled: "
                "try trainer.precision=bf16 or 32, or a lower optim.lr"
            )
        return found
