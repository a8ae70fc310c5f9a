"""Fused linear layer and cross-entropy that never materializes all logits."""

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from sslzoo.nn.linear import product, uses_onednn

ROWS = 4096  # rows of the weight per oneDNN product, so that the result is still in cache when copied


class LinearCrossEntropy(nn.Module):
    """sum_i -log softmax(W h_i + b)[target_i], with gradients computed in forward, in chunks of tokens.

    After Wijmans et al. 2024 (2411.09009): the logits of a chunk are converted in place to their gradient,
    softmax - one_hot, and accumulated into those of hidden, weight and bias, so memory is that of one chunk.
    max_logits: maximum logits in memory at a time. ignore_index: the target of tokens to ignore.

    Under autocast, products are in half precision and the softmax in float32, as in torch.
    """

    def __init__(self, max_logits: int = 2**24, ignore_index: int = -100):
        super().__init__()
        self.max_logits, self.ignore_index = max_logits, ignore_index

    def forward(self, hidden: Tensor, weight: Tensor, target: Tensor, bias: Tensor | None = None) -> Tensor:
        """hidden [N, D], weight [V, D], target int64 [N], bias [V] -> the sum of the losses, float32 (float64 for
        float64 inputs)."""
        kind = hidden.device.type
        half = torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
        dtype = torch.get_autocast_dtype(kind) if half else hidden.dtype
        grad = torch.is_grad_enabled()  # grad mode is off inside Function.forward
        return _LinearCrossEntropy.apply(hidden, weight, bias, target, dtype, self.ignore_index, self.max_logits, grad)


class _LinearCrossEntropy(torch.autograd.Function):
    @staticmethod
    def forward(ctx, hidden, weight, bias, target, dtype, ignore_index, max_logits, grad):
        needs = [grad and need for need in ctx.needs_input_grad[:3]]
        wide = torch.promote_types(dtype, torch.float32)
        valid = target != ignore_index
        total = hidden.new_zeros((), dtype=wide)
        grads = [
            torch.zeros_like(x, dtype=wide) if need else None
            for x, need in zip((hidden, weight, bias), needs, strict=True)
        ]
        with torch.autocast(hidden.device.type, enabled=False):
            table = weight.to(dtype)
            most = max(1, max_logits // len(weight))
            step = -(-len(target) // max(1, -(-len(target) // most)))  # chunks of equal size
            # one buffer for all chunks: on a CPU, page faults of new ones cost more than the softmax
            buffer = hidden.new_empty(step, len(weight), dtype=wide)
            for start in range(0, len(target), max(1, step)):
                total += _chunk(slice(start, start + step), hidden, table, bias, target, valid, grads, buffer)
        ctx.save_for_backward(*(g if g is None else g.to(x.dtype) for g, x in zip(grads, (hidden, weight, bias))))
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx, grad: Tensor):
        # in place: torch refuses a second backward through the same graph
        return *(None if g is None else g.mul_(grad) for g in ctx.saved_tensors), None, None, None, None, None


def _chunk(part, hidden, table, bias, target, valid, grads, buffer) -> Tensor:
    """The sum of the losses of tokens `part`; accumulates `grads` in place. buffer: memory for the logits."""
    h, valid = hidden[part].to(table.dtype), valid[part]
    logits = buffer[: len(h)]
    onednn = uses_onednn(h, table)
    if onednn:
        for out, rows in zip(logits.split(ROWS, 1), table.split(ROWS), strict=True):
            out.copy_(product(h, rows.t()))
    elif logits.dtype == table.dtype:
        torch.mm(h, table.t(), out=logits)
    else:
        logits.copy_(h @ table.t())
    if bias is not None:
        logits += bias
    answer = target[part].where(valid, 0)[:, None]
    highest, right = logits.amax(1, keepdim=True), logits.gather(1, answer)
    sums = logits.sub_(highest).exp_().sum(1, keepdim=True)
    loss = ((sums.log() + highest - right)[:, 0] * valid).sum()
    if all(g is None for g in grads):
        return loss
    probs = logits.mul_(valid[:, None] / sums)
    probs.scatter_add_(1, answer, -valid[:, None].to(probs.dtype))
    for_hidden, for_weight, for_bias = grads
    if for_bias is not None:
        for_bias += probs.sum(0)
    probs = probs.to(table.dtype)
    if for_hidden is not None:
        for_hidden[part] = (product(probs, table) if onednn else probs @ table).to(for_hidden.dtype)
    if for_weight is not None:
        if onednn:
            for out, some in zip(for_weight.split(ROWS), probs.split(ROWS, 1), strict=True):
                out += product(some.t(), h)
        elif h.dtype == for_weight.dtype:
            for_weight.addmm_(probs.t(), h)
        else:
            for_weight += probs.t() @ h
    return loss
