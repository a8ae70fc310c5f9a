"""Batch norm over two ranks: the exact one against float64, CUDA's kernels against the exact one."""

import pytest
import torch
from torch import nn
from two_ranks import on_ranks, on_two_ranks

from sslzoo.nn import batchnorm
from sslzoo.nn.batchnorm import BatchNorm1d, BatchNorm2d, exact, fused

COUNTS = (5, 2)  # rows of each rank
SHAPES = [(6,), (6, 3), (6, 4, 3)]


def data(*shape: int) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(len(shape)), dtype=torch.float64)


def measured(normalize, x, rank: int, device: str = "cpu", dtype=torch.float32, affine: bool = True, last=False):
    """What a rank finds of its rows, and of two steps' running statistics, in float64."""
    form = torch.channels_last if last else torch.contiguous_format
    rows = x.split(COUNTS)[rank].to(device, dtype).contiguous(memory_format=form).requires_grad_()
    pull = data(sum(COUNTS) + 1, *x.shape[1:])[1:].split(COUNTS)[rank].to(device, dtype)
    scale = torch.float64 if dtype == torch.float64 else torch.float32
    weight, bias = ((data(6) + i).to(device, scale).requires_grad_() for i in (2, 1)) if affine else (None, None)
    mean, var = torch.zeros(6, dtype=scale, device=device), torch.ones(6, dtype=scale, device=device)
    for _ in range(2):
        y = normalize(rows, weight, bias, mean, var, 1e-5, 0.2)
    (y.sin() * pull).sum().backward()
    found = {"y": y.detach(), "x": rows.grad, "mean": mean, "var": var}
    if affine:
        found |= {"weight": weight.grad, "bias": bias.grad}
    assert found["y"].dtype == found["x"].dtype == dtype
    return {name: value.double().cpu() for name, value in found.items()}


def of_the_whole(x: torch.Tensor, affine: bool = True) -> dict:
    """What torch's own finds of all rows in one process, in float64."""
    norm = (nn.BatchNorm2d if x.ndim == 4 else nn.BatchNorm1d)(6, momentum=0.2, affine=affine, dtype=torch.float64)
    rows = x.clone().requires_grad_()
    if affine:
        with torch.no_grad():
            norm.weight.copy_(data(6) + 2), norm.bias.copy_(data(6) + 1)
    for _ in range(2):
        y = norm(rows)
    (y.sin() * data(sum(COUNTS) + 1, *x.shape[1:])[1:]).sum().backward()
    found = {"y": y.detach(), "x": rows.grad, "mean": norm.running_mean, "var": norm.running_var}
    return found | ({"weight": norm.weight.grad, "bias": norm.bias.grad} if affine else {})


def hold(found: list[dict], whole: dict, close: float) -> None:
    """Both ranks' results to those of one process, to a share of the largest number."""
    joined = {name: torch.cat([one[name] for one in found]) for name in ("y", "x")}
    joined |= {name: sum(one[name] for one in found) for name in whole if name in ("weight", "bias")}
    for name, value in whole.items():
        for one in [joined[name]] if name in joined else [one[name] for one in found]:
            apart = float((one - value).abs().max())
            assert apart <= close * float(value.abs().max()), f"{name}: {apart}"


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("shape", SHAPES, ids=["rows", "frames", "pixels"])
def test_exact_against_float64(shape, affine, tmp_path):
    x = (data(sum(COUNTS), *shape) * 2 + 5).bfloat16().double()  # as far from zero as features after a ReLU
    whole = of_the_whole(x, affine)
    for dtype, close in ((torch.float32, 2e-5), (torch.float64, 1e-13), (torch.bfloat16, 3e-2)):
        folder = tmp_path / str(dtype)
        found = on_two_ranks(lambda rank, dtype=dtype: measured(exact, x, rank, dtype=dtype, affine=affine), folder)
        hold(found, whole, close)


def reshaped(x: torch.Tensor, *vectors):
    return [v if v is None else v.view([1, -1] + [1] * (x.ndim - 2)) for v in vectors]


class Kernels:
    """CUDA's kernels as torch's source has them (aten/src/ATen/native/cuda/Normalization.cuh), on any device."""

    @staticmethod
    def batch_norm_stats(x, eps):
        over = [0, *range(2, x.ndim)]
        return x.mean(over), torch.rsqrt(x.var(over, unbiased=False) + eps)

    @staticmethod
    def batch_norm_gather_stats_with_counts(x, means, invstds, running_mean, running_var, momentum, eps, counts):
        assert means.is_contiguous() and invstds.is_contiguous() and counts.shape == (len(means),)
        mean, m2, n = torch.zeros_like(means[0]), torch.zeros_like(means[0]), 0.0
        for mean_n, invstd, count in zip(means, invstds, counts.tolist(), strict=True):
            m2 = m2 + (1 / invstd**2 - eps) * count + (mean_n - mean) ** 2 * n * count / (n + count)
            mean, n = (n * mean + count * mean_n) / (n + count), n + count
        running_mean.mul_(1 - momentum).add_(momentum * mean)
        running_var.mul_(1 - momentum).add_(momentum * m2 / (n - 1))
        return mean, torch.rsqrt(m2 / n + eps)

    @staticmethod
    def batch_norm_elemt(x, weight, bias, mean, invstd, eps):
        weight, bias, mean, invstd = reshaped(x, weight, bias, mean, invstd)
        y = (x - mean) * invstd
        return y if weight is None else y * weight + bias

    @staticmethod
    def batch_norm_backward_reduce(grad, x, mean, invstd, weight, *needs):
        over, [mean] = [0, *range(2, x.ndim)], reshaped(x, mean)
        sum_dy, sum_dy_xmu = grad.sum(over), (grad * (x - mean)).sum(over)
        return sum_dy, sum_dy_xmu, sum_dy_xmu * invstd if needs[1] else None, sum_dy if needs[2] else None

    @staticmethod
    def batch_norm_backward_elemt(grad, x, mean, invstd, weight, sum_dy, sum_dy_xmu, counts):
        assert counts.dtype == torch.int32
        mean, invstd, weight, sum_dy, sum_dy_xmu = reshaped(x, mean, invstd, weight, sum_dy, sum_dy_xmu)
        found = (grad - sum_dy / counts.sum() - (x - mean) * invstd**2 * sum_dy_xmu / counts.sum()) * invstd
        return found if weight is None else found * weight


@pytest.mark.parametrize("affine", [True, False], ids=["affine", "plain"])
@pytest.mark.parametrize("shape", SHAPES, ids=["rows", "frames", "pixels"])
def test_what_is_made_of_the_kernels(shape, affine, tmp_path, monkeypatch):
    """All but the kernels themselves, which no CPU has."""
    for name in (name for name in vars(Kernels) if name.startswith("batch_norm")):
        monkeypatch.setattr(torch, name, getattr(Kernels, name))
    x = data(sum(COUNTS), *shape) * 2 + 5
    found = on_two_ranks(
        lambda rank: measured(fused, x, rank, dtype=torch.float64, affine=affine, last=len(shape) == 3), tmp_path
    )
    hold(found, of_the_whole(x, affine), 1e-12)


def test_the_device_chooses(tmp_path, monkeypatch):
    """And whichever it is counts the batches; with one rank, or in eval mode, torch's own does the work."""
    monkeypatch.setattr(batchnorm, "exact", lambda x, *how: x + 1)
    for norm, x in ((BatchNorm1d(6), torch.zeros(3, 6)), (BatchNorm2d(6), torch.zeros(3, 6, 2, 2))):

        def work(rank, norm=norm, x=x):
            return {"train": norm(x), "tracked": norm.num_batches_tracked.clone(), "eval": norm.eval()(x)}

        for found in on_two_ranks(work, tmp_path / str(x.ndim)):
            assert (found["train"] == 1).all() and (found["eval"] == 0).all() and found["tracked"] == 1
        assert (norm(x) == 0).all()


def on_cuda(rank: int) -> dict:
    """Every difference between the two ways, as a share of the largest number."""
    found = {}
    for shape in SHAPES:
        x = data(sum(COUNTS), *shape) * 2 + 5
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            for last in (False, True) if len(shape) == 3 else (False,):
                a, b = (measured(way, x, rank, "cuda", dtype, last=last) for way in (exact, fused))
                for name in a:
                    case = f"{name} {dtype} {shape} {last}"
                    found[case] = ((a[name] - b[name]).abs().max() / a[name].abs().max()).cpu()
    return found


@pytest.mark.gpu
def test_cuda_kernels_against_the_exact_one(tmp_path):
    """Two ranks on one device, over gloo."""
    for found in on_ranks(on_cuda, tmp_path, 2, "spawn"):
        for case, apart in found.items():
            assert float(apart) < (2e-5 if "float32" in case else 2e-2), case
