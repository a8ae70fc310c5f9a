"""Seconds waited for data and operations a second: counted as they are, without touching what is trained."""

import json
from types import SimpleNamespace

import pytest
import torch
from conftest import OBJECTIVES, tiny
from test_contracts import batch_of
from test_ddp import TWO
from tiny_sets import TinySplit

from sslzoo.build import build, write_config
from sslzoo.pretrain import Pretrain
from sslzoo.run import Run
from sslzoo.train import launch, throughput
from sslzoo.train.throughput import CountFlops, Throughput, peak

# convolutions, a recurrent trunk, layer drop, causal attention, a teacher, a refresh of targets
SOME = {"rotation", "apc", "wav2vec2", "gpt", "data2vec_text", "deepcluster"}
EVERY = [pytest.param(name, marks=[] if name in SOME else pytest.mark.slow) for name in OBJECTIVES]


def start(folder, objective: str, *more: str) -> dict:
    """A short run; its summary."""
    config = tiny(objective, "trainer.max_steps=3", "trainer.log_every=1", *more)
    config = {k: v for k, v in config.items() if k not in ("name", "root")}
    run, job = Run(folder), build(config)
    write_config(run, config)
    launch.pretrain(job, run)
    return json.loads(run.summary.read_text())


@pytest.mark.parametrize("objective", EVERY)
def test_counting_changes_no_bit_of_a_run(objective, tmp_path, monkeypatch):
    counted = start(tmp_path / "counted", objective)
    assert counted["flops_per_second"] > 0 and "mfu" not in counted
    monkeypatch.setattr(Throughput, "before_step", lambda *_: None)
    assert "flops_per_second" not in start(tmp_path / "plain", objective)
    for name in ("encoder.safetensors", "objective.safetensors", "metrics.csv"):
        if (tmp_path / "plain" / name).exists():
            assert (tmp_path / "counted" / name).read_bytes() == (tmp_path / "plain" / name).read_bytes(), name


def test_the_seconds_in_the_loaders_next_are_counted_and_no_others(tmp_path, monkeypatch):
    """By a clock that reading an item sets forward by 1 s, and a training step by 1000. The first batch is read before
    training begins."""
    clock = SimpleNamespace(now=0.0)
    item, step = TinySplit.item, Pretrain.training_step

    def slow(self, *args):
        clock.now += 1
        return item(self, *args)

    def step_of_1000(self, *args):
        clock.now += 1000
        return step(self, *args)

    monkeypatch.setattr(throughput, "time", SimpleNamespace(monotonic=lambda: clock.now))
    monkeypatch.setattr(TinySplit, "item", slow)
    monkeypatch.setattr(Pretrain, "training_step", step_of_1000)
    said = start(tmp_path / "run", "rotation", "data.batch.size=8")
    assert said["data_seconds"] == 2 * 8


def test_operations_of_the_first_update_stand_for_all(monkeypatch):
    """Two parts of 3 and 5 rows through a linear layer, then an update of 16 rows: 2 x rows x 4 x 6 forward, as many
    for the gradient of the weight, and none for the input's. What the optimiser does is not counted."""
    clock = SimpleNamespace(now=10.0)
    monkeypatch.setattr(throughput, "time", SimpleNamespace(monotonic=lambda: clock.now))
    layer, module = torch.nn.Linear(4, 6), SimpleNamespace(part=0, device=torch.device("cpu"))
    trainer = SimpleNamespace(profiler=throughput.WaitingForData(), is_global_zero=True)
    counting = Throughput("32-true", False, True)
    counting.on_fit_start(trainer, module)
    for parts in ([3, 5], [16]):
        for number, rows in enumerate(parts):
            batch, module.part = SimpleNamespace(inputs=torch.randn(rows, 4)), number
            counting.on_train_batch_start(trainer, module, batch, 0)
            layer(batch.inputs).sum().backward()
            module.part = number + 1
            if module.part == len(parts):
                counting.on_before_optimizer_step(trainer, module, None)
                layer.weight.grad @ layer.weight.T
                module.part = 0
            counting.on_train_batch_end(trainer, module, None, batch, 0)
    assert counting.flops == 2 * 2 * 8 * 4 * 6
    clock.now += 12.0
    assert counting.flops_per_second == pytest.approx(counting.flops * (8 + 16) / 8 / 12)
    counting.peak = 4 * counting.flops_per_second
    assert counting.mfu == pytest.approx(0.25) and counting.text().endswith("MFU 25%")


def test_two_ranks_count_on_the_first_alone(tmp_path, monkeypatch):
    before_step = Throughput.before_step

    def noted(self, trainer, module):
        before_step(self, trainer, module)
        if self.counter is not None:
            (tmp_path / f"rank{trainer.global_rank}").touch()

    monkeypatch.setattr(Throughput, "before_step", noted)
    said = start(tmp_path / "run", "bert", *TWO)
    assert said["flops_per_second"] > 0 and said["ranks"] == 2
    assert [path.name for path in tmp_path.glob("rank*")] == ["rank0"]


def test_a_step_that_fails_leaves_no_counter_behind(tmp_path, monkeypatch):
    def fail(self, *args):
        raise RuntimeError("no")

    monkeypatch.setattr(Pretrain, "training_step", fail)
    with pytest.raises(RuntimeError, match="no"):
        start(tmp_path / "run", "rotation")
    assert torch.utils._python_dispatch._get_current_dispatch_mode() is None


@pytest.mark.parametrize("device, arithmetic, tf32, said", [
    ("NVIDIA H100 80GB HBM3", "bf16-mixed", False, 989e12),
    ("NVIDIA H100 PCIe", "16-mixed", False, 756e12),
    ("NVIDIA A100-SXM4-80GB", "32-true", False, 19.5e12),
    ("NVIDIA A100-SXM4-80GB", "32-true", True, 156e12),
    ("NVIDIA L40S", "bf16-mixed", False, 362e12),
    ("NVIDIA L4", "bf16-mixed", False, 121e12),
    ("NVIDIA A1000", "bf16-mixed", False, None),
    ("cpu", "32-true", False, None),
])  # fmt: skip
def test_peaks_by_the_devices_name(device, arithmetic, tf32, said):
    assert peak(device, arithmetic, tf32) == said


def test_every_kernel_is_counted():
    """Processors have kernels of their own for float32 and for half precision: the operations are the same."""
    config = {k: v for k, v in tiny("mae", "encoder=vit_small").items() if k not in ("name", "root")}
    job, counted = build(config), []
    batch = batch_of(job, 0)
    for half in (False, True):
        with CountFlops() as counting:
            with torch.autocast("cpu", torch.bfloat16, enabled=half):
                loss = job.objective(job.encoder, batch, 0)
            loss.value.backward()
        counted.append(counting.total)
    assert counted[0] == counted[1] > 6 * sum(p.numel() for p in job.encoder.trunk.parameters()) * len(batch)
