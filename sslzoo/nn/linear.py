"""Linear layers that use the faster of torch's two CPU libraries for matrix products.

torch multiplies float32 matrices with MKL, which uses AVX-512 on Intel processors only. On AMD processors with AVX-512
(Zen 4 and 5), oneDNN is twice as fast: 245 instead of 105 GFLOPS on one core of an EPYC 9005. Results differ by
rounding. Everywhere else, and in half precision, this is `torch.nn.Linear`.
"""

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

LEAST = 2**22  # minimum multiplications of a product for which oneDNN pays off


def onednn_is_faster() -> bool:
    """Whether oneDNN's float32 products are faster than MKL's on this processor."""
    if not torch.backends.mkldnn.is_available() or not hasattr(torch.ops.mkldnn, "_linear_pointwise"):
        return False
    cpuinfo = Path("/proc/cpuinfo")  # Python has no API for the vendor; the file exists on Linux only
    amd = cpuinfo.exists() and "AuthenticAMD" in cpuinfo.read_text(encoding="utf-8", errors="replace")
    return amd and torch.backends.cpu.get_cpu_capability() == "AVX512"


ONEDNN_IS_FASTER = onednn_is_faster()  # evaluated at import: `torch.compile` cannot trace it


def uses_onednn(a: Tensor, b: Tensor) -> bool:
    """Whether to use `product` for a [..., M, K] and b [N, K] instead of torch's matmul."""
    return (
        ONEDNN_IS_FASTER
        and a.device.type == "cpu"
        and a.dtype == b.dtype == torch.float32
        and type(a) in (Tensor, nn.Parameter)  # not a subclass, such as DTensor
        and type(b) in (Tensor, nn.Parameter)
        and a.numel() * len(b) >= LEAST
        and not torch.is_autocast_enabled("cpu")
    )


def product(a: Tensor, b: Tensor) -> Tensor:
    """a [M, K] @ b [K, N] by oneDNN, float32, not differentiable."""
    return _opaque_product(a, b) if torch.compiler.is_compiling() else _product(a, b)


def _product(a: Tensor, b: Tensor) -> Tensor:
    if not b.t().is_contiguous():
        b = b.contiguous()  # oneDNN's fast kernels need these strides
    return torch.ops.mkldnn._linear_pointwise(a, b.t(), None, "none", [], "")


# a custom op, opaque to torch.compile, which supports oneDNN's own op for inference only
_opaque_product = torch.library.custom_op("sslzoo::product", _product, mutates_args=())
_opaque_product.register_fake(lambda a, b: a.new_empty(len(a), b.shape[1]))


class _Linear(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        if torch.compiler.is_compiling():
            return product(x, weight.t()) if bias is None else product(x, weight.t()) + bias
        return torch.ops.mkldnn._linear_pointwise(x, weight.contiguous(), bias, "none", [], "")

    @staticmethod
    def backward(ctx, grad: Tensor):
        x, weight = ctx.saved_tensors
        multiply = torch.mm if torch.is_grad_enabled() else product  # grad mode is on for double backward
        return (
            multiply(grad, weight) if ctx.needs_input_grad[0] else None,
            multiply(grad.t(), x) if ctx.needs_input_grad[1] else None,
            grad.sum(0) if ctx.needs_input_grad[2] else None,
        )


def linear(x: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """x [..., K], weight [N, K], bias [N] -> x W^T + b [..., N]: `torch.nn.functional.linear`."""
    if not uses_onednn(x, weight):
        return F.linear(x, weight, bias)
    return _Linear.apply(x.reshape(-1, x.shape[-1]), weight, bias).view(*x.shape[:-1], len(weight))


class Linear(nn.Linear):
    """`torch.nn.Linear` computed by `linear`."""

    def forward(self, input: Tensor) -> Tensor:
        return linear(input, self.weight, self.bias)
