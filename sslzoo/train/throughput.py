"""What a run makes of its device: seconds for which it waited for data, and floating-point operations a second."""

import time

import torch
from lightning.pytorch.profilers import Profiler
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import flop_registry, sdpa_backward_flop_count, sdpa_flop_count

from sslzoo.train.callback import StepCallback

# dense 10^12 operations a second by the maker's data sheets, by the start of the device's name:
# (half precision, float32, float32 with tf32)
PEAKS = {
    "NVIDIA B200": (2250, 75, 1100),
    "NVIDIA H200": (989, 67, 494),
    "NVIDIA H100 PCIe": (756, 51, 378),
    "NVIDIA H100 NVL": (835, 60, 417),
    "NVIDIA H100": (989, 67, 494),
    "NVIDIA GH200": (989, 67, 494),
    "NVIDIA A100": (312, 19.5, 156),
    "NVIDIA L40S": (362, 91.6, 183),
    "NVIDIA L4": (121, 30.3, 60),
    "NVIDIA A10": (125, 31.2, 62.5),
    "Tesla V100": (125, 15.7, 15.7),
    "Tesla T4": (65, 8.1, 8.1),
}


def _linear(x, weight, *_, out_val, **__) -> int:
    return 2 * out_val.numel() * x.shape[-1]


def _attention(query, key, value, *_, out_val, **__) -> int:
    return sdpa_flop_count(query.shape, key.shape, value.shape)


def _attention_backward(grad, query, key, value, *_, out_val, **__) -> int:
    return sdpa_backward_flop_count(grad.shape, query.shape, key.shape, value.shape)


CPU = {  # operators of processors, which PyTorch's registry of formulas lacks
    "mkldnn::_linear_pointwise": _linear,
    "aten::_scaled_dot_product_flash_attention_for_cpu": _attention,
    "aten::_scaled_dot_product_flash_attention_for_cpu_backward": _attention_backward,
}


def peak(device: str, arithmetic: str, tf32: bool) -> float | None:
    """Operations a second that a device is made for; None if it is not in `PEAKS`. device: as
    `torch.cuda.get_device_name` says it. arithmetic: Lightning's name of the precision."""
    for start, (half, single, rounded) in PEAKS.items():
        if device == start or device.startswith((f"{start} ", f"{start}-")):
            return 1e12 * (half if arithmetic != "32-true" else rounded if tf32 else single)
    return None


class WaitingForData(Profiler):
    """Seconds for which the training loop stood in its loader's `next`, between Lightning's own marks. The first batch
    is read before training begins, and before its seconds are counted."""

    def __init__(self):
        super().__init__()
        self.seconds = self.begun = 0.0

    def start(self, action_name: str) -> None:
        if action_name.endswith(".train_dataloader_next"):
            self.begun = time.monotonic()

    def stop(self, action_name: str) -> None:
        if action_name.endswith(".train_dataloader_next"):
            self.seconds += time.monotonic() - self.begun


class CountFlops(TorchDispatchMode):
    """A context in which floating-point operations are counted by PyTorch's own formulas (`torch.utils.flop_counter`):
    those of matrix products, convolutions and attention, forward and backward. Its `FlopCounterMode` also sets hooks
    that tell modules apart, which fail where a module is called without gradients."""

    def __init__(self):
        super().__init__()
        self.total = 0

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        found = func(*args, **kwargs)
        packet = func._overloadpacket
        if (formula := flop_registry.get(packet, CPU.get(packet._qualified_op_name))) is not None:
            self.total += formula(*args, **kwargs, out_val=found)
        return found


class Throughput(StepCallback):
    """Counts the operations of the forward and the backward of the first update, on the first rank (`CountFlops`): an
    update has them in proportion to the elements of its inputs, with padding. What `activation_checkpointing` computes
    again counts too, and cuDNN's recurrent layers do not. counts: False with compiled blocks,
    which a mode cannot look into.

    Over the seconds since training began, without waiting for the device: `flops_per_second` of one device, and `mfu`,
    its share of the device's peak (Chowdhery et al. 2022, 2204.02311, appendix B). None where they are not known.
    """

    def __init__(self, arithmetic: str, tf32: bool, counts: bool):
        self.arithmetic, self.tf32, self.counts = arithmetic, tf32, counts
        self.waiting: WaitingForData | None = None  # of a run that is continued after its last step
        self.counter: CountFlops | None = None  # within the first update
        self.flops: int | None = None  # of the first update
        self.ended: float | None = None
        self.first = self.elements = 0  # of the inputs of the first update, and of all

    def on_fit_start(self, trainer, module) -> None:
        self.waiting, self.begun = trainer.profiler, time.monotonic()
        device = torch.cuda.get_device_name(module.device) if module.device.type == "cuda" else "cpu"
        self.peak = peak(device, self.arithmetic, self.tf32)
        self.counts = self.counts and trainer.is_global_zero

    def before_step(self, trainer, module) -> None:
        if self.counts and self.flops is None:
            self.counter = CountFlops()
            self.counter.__enter__()

    def on_before_optimizer_step(self, trainer, module, optimizer) -> None:
        self.stop_counting()

    def stop_counting(self) -> None:
        if self.counter is not None:
            counter, self.counter = self.counter, None
            counter.__exit__(None, None, None)
            self.flops = counter.total

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        self.elements += batch.inputs.numel()
        super().on_train_batch_end(trainer, module, outputs, batch, batch_idx)

    def after_step(self, trainer, module) -> None:
        self.first = self.first or self.elements

    def on_train_end(self, trainer, module) -> None:
        self.ended = time.monotonic()

    def on_exception(self, trainer, module, exception) -> None:
        self.stop_counting()

    @property
    def data_seconds(self) -> float:
        """Seconds of this process that were spent waiting for data."""
        return 0.0 if self.waiting is None else self.waiting.seconds

    @property
    def flops_per_second(self) -> float | None:
        if not self.flops or not self.first:
            return None
        seconds = (self.ended or time.monotonic()) - self.begun
        return self.flops * self.elements / self.first / max(seconds, 1e-6)

    @property
    def mfu(self) -> float | None:
        speed = self.flops_per_second
        return None if speed is None or self.peak is None else speed / self.peak

    def said(self) -> dict[str, float]:
        """What is known of it, for files."""
        found = {"data_seconds": self.data_seconds, "flops_per_second": self.flops_per_second, "mfu": self.mfu}
        return {name: value for name, value in found.items() if value is not None}

    def text(self) -> str:
        """The same in words, each beginning with two spaces."""
        text = f"  {self.data_seconds:.1f} s waited for data"
        if (speed := self.flops_per_second) is not None:
            size, unit = next(((10**n, unit) for n, unit in ((12, "T"), (9, "G")) if speed >= 10**n), (1, ""))
            text += f"  {speed / size:.3g} {unit}FLOP/s"
        return text + (f"  MFU {self.mfu:.0%}" if self.mfu is not None else "")
