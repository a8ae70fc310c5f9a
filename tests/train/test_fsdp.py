"""Two ranks with sharded parameters (trainer=fsdp) have one rank's losses, gradients and weights. See
`test_sharded_checkpoint` for whole runs."""

import pytest
import torch
from conftest import OBJECTIVES, modality_of, tiny
from test_contracts import assert_equal, batch_of, of_rows, ready, still
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.tensor import DTensor
from two_ranks import on_two_ranks

from sslzoo import distributed
from sslzoo.errors import ConfigError
from sslzoo.pretrain import Pretrain
from sslzoo.train import sharding
from sslzoo.train.settings import Settings
from sslzoo.train.validate import evaluating

# a trunk with layer drop, an encoder of blocks with a queue, heads that are reset, a teacher
SOME = {"wav2vec2", "moco", "deepcluster", "data2vec_text"}
EVERY = [pytest.param(name, marks=[] if name in SOME else pytest.mark.slow) for name in OBJECTIVES]


def two_steps(config: dict, rank: int = 0, world: int = 1) -> dict:
    """Losses, gradients and the weights after two steps, and a loss on all rows in eval mode."""
    job = still(ready(config))
    kind = sharding.ShardedPretrain if world > 1 else Pretrain
    module = kind(job.encoder, job.objective, job.optim, 0, 10)
    if world > 1:
        module.shard(init_device_mesh("cpu", (world,)))
        assert all(isinstance(p, DTensor) for p in module.parameters())
    optimizer, found = job.optim.build(module), {"losses": [], "norms": [], "grads": {}}
    for step in range(2):
        Pretrain.global_step = property(lambda self, step=step: step)
        if step == 0:
            with torch.no_grad(), evaluating(module), module.gathered(), distributed.alone():
                for _ in range(rank):  # ranks may do different work
                    module.objective(module.encoder, batch_of(job, 5), 0)
        optimizer.zero_grad()
        module.training_step(batch_of(job, step, rank, world), 0).backward()
        module.on_before_optimizer_step(optimizer)
        if step == 0:
            found["grads"] = {
                n: distributed.whole(p.grad).clone() for n, p in module.named_parameters() if p.grad is not None
            }
        optimizer.step()
        module.part, module.steps = 0, module.steps + 1
        logs = module.look()
        found["losses"].append(logs["loss"])
        found["norms"].append(logs["gradient_norm"])
        module.objective.after_step(module.encoder, step, 10)
    found["state"] = {
        f"{name}.{key}": x.clone()
        for name, part in zip(("encoder", "objective"), module.parts_to_save(), strict=True)
        for key, x in part.state_dict().items()
    }
    return found


@pytest.mark.parametrize("objective", EVERY)
def test_two_sharded_ranks_are_one_rank(objective, tmp_path, monkeypatch):
    monkeypatch.setattr(Pretrain, "global_step", 0)
    size = of_rows(objective, 5 if modality_of(objective) == "speech" else 9)
    config = tiny(objective, *size, "optim=sgd", "optim.lr=0.01")
    first, second = on_two_ranks(lambda rank: two_steps(config, rank, 2), tmp_path)
    one = two_steps(config)
    assert_equal(first, second)
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-4, abs=1e-5)
    assert first["norms"] == pytest.approx(one["norms"], rel=1e-3)
    scale = max(float(g.abs().max()) for g in one["grads"].values())
    for name, grad in one["grads"].items():
        assert torch.allclose(first["grads"][name], grad, atol=5e-5 * scale), name
    for name, x in one["state"].items():
        found = first["state"][name]
        if name.endswith("queue"):  # whose rows are in the order of ranks
            found, x = (torch.take_along_dim(rows, rows[..., :1].argsort(-2), -2) for rows in (found, x))
        assert torch.allclose(found.float(), x.float(), atol=1e-4, rtol=1e-3), name


@pytest.mark.parametrize("optim", ["lars", "muon"])
def test_sharded_ranks_step_as_one_with_such_an_optimiser(optim, tmp_path, monkeypatch):
    """Muon orthogonalises whole matrices, and LARS takes norms of whole weights."""
    monkeypatch.setattr(Pretrain, "global_step", 0)
    config = tiny("mae", *of_rows("mae", 9), f"optim={optim}", "optim.lr=0.01")
    first, second = on_two_ranks(lambda rank: two_steps(config, rank, 2), tmp_path)
    one = two_steps(config)
    assert_equal(first, second)
    for name, x in one["state"].items():
        assert torch.allclose(first["state"][name].float(), x.float(), atol=3e-4), name


def test_sharded_ranks_drop_the_branches_that_one_drops(tmp_path, monkeypatch):
    monkeypatch.setattr(Pretrain, "global_step", 0)
    config = tiny("bert", *of_rows("bert", 9), "+encoder.trunk.drop_path=0.6", "optim=sgd", "optim.lr=0.01")
    first, second = on_two_ranks(lambda rank: two_steps(config, rank, 2), tmp_path)
    one = two_steps(config)
    assert_equal(first, second)
    assert first["losses"] == pytest.approx(one["losses"], rel=1e-4, abs=1e-5)
    for name, x in one["state"].items():
        assert torch.allclose(first["state"][name].float(), x.float(), atol=1e-4, rtol=1e-3), name


def test_what_sharding_cannot_do_is_said():
    with pytest.raises(ConfigError, match="trainer=fsdp computes in bf16 or 32 bits: set trainer.precision=bf16"):
        Settings(strategy="fsdp", devices=2, precision="fp16", accelerator="cpu")
