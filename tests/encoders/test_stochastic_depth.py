"""Encoders whose residual branches are dropped in training: as a slow loop over rows drops them,
and as contracts ask."""

import copy

import pytest
import torch
import torch.distributed as dist
import yaml
from conftest import compose, tiny
from test_contracts import batch_of, gradients, of_rows, ready, still, stopped_is_never_stopped
from torch import nn
from two_ranks import on_two_ranks

from sslzoo import rng
from sslzoo.build import build, check, write_config
from sslzoo.config import fingerprint
from sslzoo.encoders.convnext import ConvNeXt
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
from sslzoo.nn.drop_path import draw_row_seeds, linear_rates, rows_of
from sslzoo.nn.teacher import Teacher
from sslzoo.run import Run
from sslzoo.train import blocks

SEEDS = torch.tensor([rng.derive_seed(3, row) for row in range(8)])


def trunk(**more) -> Transformer:
    torch.manual_seed(0)
    return Transformer(**{"dim": 16, "depth": 4, "heads": 2, "init_std": 0.3, "drop_path": 0.7, **more}).train()


def slow_rows(net: Transformer, x: torch.Tensor, lengths: list[int], p: float) -> list[torch.Tensor]:
    """Each row by itself in float64: a branch is added, larger, or not at all."""
    net, found, dropped = copy.deepcopy(net).double(), [], 0
    with rows_of(SEEDS[: len(x)]):
        seeds = draw_row_seeds(len(x))
    for row, length in enumerate(lengths):
        y = x[row : row + 1, :length].double()
        y = y if net.pre else net.norm(y)
        for number, block in enumerate(net.blocks):
            rate = p * number / (net.depth - 1)
            draws = rng.uniform(seeds[row : row + 1], "drop path", net.depth, 2)[0, number].tolist()
            for draw, norm, branch in zip(
                draws,
                (block.attention_norm, block.mlp_norm),
                (lambda z, block=block: block.attention(z, None, net.causal)[0], block.mlp),
                strict=True,
            ):
                kept = draw >= rate
                dropped += not kept
                if net.pre:
                    y = y + branch(norm(y)) / (1 - rate) if kept else y
                else:
                    y = norm(y + branch(y) / (1 - rate) if kept else y)
        found.append(net.finish(y)[0])
    assert 0 < dropped < 2 * net.depth * len(x)
    return found


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("lengths", [[9] * 8, [9, 4, 7, 1, 9, 5, 2, 8]], ids=["full", "padded"])
@pytest.mark.parametrize("more", [{}, {"causal": True, "layer_scale": 0.5}], ids=["plain", "causal"])
def test_a_trunk_drops_as_a_slow_loop(norm, lengths, more):
    net, x = trunk(norm=norm, **more), torch.randn(8, 9, 16)
    with rows_of(SEEDS):
        found = net(x, torch.tensor(lengths))[-1]
    if more:  # whose branches `mlp` scales already
        for block in net.blocks:
            block.attention.out.weight.data *= 0.5
            block.attention.out.bias.data *= 0.5
    for row, expected in enumerate(slow_rows(net, x, lengths, 0.7)):
        torch.testing.assert_close(found[row, : lengths[row]].double(), expected, atol=1e-5, rtol=1e-5)


def test_a_packed_rows_item_is_dropped_by_itself():
    """A row of two items is each of them alone, with its own draws."""
    net, x = trunk(depth=3), torch.randn(2, 9, 16)
    items = torch.tensor([[1, 1, 1, 1, 2, 2, 2, 2, 2], [1, 1, 2, 2, 2, 2, 2, 2, 2]])
    with rows_of(SEEDS[:2]):
        packed = net(x, torch.tensor([9, 9]), documents=items)[-1]
    with rows_of(SEEDS[:2]):
        seeds = draw_row_seeds(2)
    for row, split in enumerate((4, 2)):
        for item, part in enumerate((slice(0, split), slice(split, 9)), start=1):
            alone = rng.fold_in(seeds[row : row + 1], torch.tensor([item]))
            scales = rng.uniform(alone, "drop path", 3, 2) >= linear_rates(0.7, 3)[:, None]
            y = x[row : row + 1, part]
            for number, block in enumerate(net.blocks):
                scale = scales[:, number, :, None] / (1 - 0.35 * number)
                y = block(y, None, False, None, None, scale)[0]
            torch.testing.assert_close(packed[row, part], net.finish(y)[0], atol=1e-5, rtol=1e-5)


def test_nothing_is_dropped_in_eval_mode_nor_by_a_teacher():
    net, x, lengths = trunk(), torch.randn(8, 9, 16), torch.full((8,), 9)
    whole = trunk(drop_path=0.0)(x, lengths)[-1]
    teacher = Teacher(net, nn.Identity(), 0.9, 1.0).train()
    with rows_of(SEEDS):
        assert not torch.allclose(net(x, lengths)[-1], whole)
        torch.testing.assert_close(teacher.encoder(x, lengths)[-1], whole)
        torch.testing.assert_close(net.eval()(x, lengths)[-1], whole)


def test_a_dropped_branch_has_a_gradient_of_zero():
    """Data-parallel ranks wait for the gradient of every weight."""
    net = trunk(depth=2, drop_path=0.999)
    with rows_of(SEEDS[:2]):
        net(torch.randn(2, 5, 16), torch.tensor([5, 5]))[-1].square().sum().backward()
    assert all(p.grad is not None for p in net.parameters())
    assert not any(p.grad.any() for p in net.blocks[1].parameters())
    assert all(p.grad.any() for name, p in net.blocks[0].named_parameters() if "key.bias" not in name)


@pytest.mark.parametrize("how", ["recomputed", "compiled"])
def test_blocks_that_are_recomputed_or_compiled_drop_the_same(how):
    found = []
    for changed in (False, True):
        net, x = trunk(norm="post"), torch.randn(8, 9, 16, generator=torch.Generator().manual_seed(1))
        if changed and how == "recomputed":
            blocks.recompute(net)
        elif changed:
            blocks.compile_blocks(net, ragged=True, backend="eager")
        with rows_of(SEEDS):
            net(x, torch.tensor([9, 4, 7, 1, 9, 5, 2, 8]))[-1][:, 0].square().sum().backward()
        found.append([p.grad for p in net.parameters()])
    scale = max(float(g.abs().max()) for g in found[0])
    assert all(torch.allclose(a, b, atol=1e-6 * scale) for a, b in zip(*found, strict=True))


@torch.no_grad()
def test_convnext_drops_too():
    torch.manual_seed(0)
    net = ConvNeXt([1, 1, 2], [4, 6, 8], stem=2, layer_scale=1.0, drop_path=0.9).train()
    images = torch.rand(8, 3, 16, 16)
    with rows_of(SEEDS):
        found = net(images, torch.ones(8).long()).pooled
    with rows_of(SEEDS):
        draws = rng.uniform(draw_row_seeds(8), "drop path", 4, 1)[..., 0]
    for row in range(8):
        y = net.stem((images[row : row + 1] - net.mean) / net.std)
        for number, block in enumerate(net.blocks):
            before = y if block.downsample is None else block.downsample(y)
            kept = draws[row, number] >= 0.3 * number
            y = before + (block(y) - before) / (1 - 0.3 * number) if kept else before
        torch.testing.assert_close(found[row], net.norm(y.mean((2, 3)))[0], atol=1e-5, rtol=1e-5)
    net.eval()
    assert torch.equal(net(images, torch.ones(8).long()).pooled, net(images, torch.ones(8).long()).pooled)


DROPPING = "+encoder.trunk.drop_path=0.6"


# views in several calls, copies next to each other, a trunk of the objective's own, some of the rows
@pytest.mark.parametrize(
    ("objective", "more"),
    [
        ("dino", [DROPPING]),
        ("data2vec2_image", [DROPPING]),
        ("ijepa", [DROPPING, "objective.predictor.depth=2", "+objective.predictor.drop_path=0.6"]),
        ("audio2vec", [DROPPING]),
        ("rotation", ["encoder=tiny_image", DROPPING]),
        ("bert", [DROPPING]),
    ],
)
def test_two_ranks_drop_what_one_drops(objective, more, tmp_path):
    rows = of_rows(objective, 5 if objective == "audio2vec" else 9)
    config = tiny(objective, *more, *rows)

    def grads(rank=0, world=1):
        job = still(ready(config))
        logs, found = gradients(job, batch_of(job, 0, rank, world))
        return logs["loss"], found

    def work(rank):
        loss, found = grads(rank, 2)
        for grad in found.values():
            dist.all_reduce(grad)
            grad /= 2
        return {"loss": loss, "grads": found}

    first, second = on_two_ranks(work, tmp_path)
    loss, expected = grads()
    assert first["loss"] == second["loss"] == pytest.approx(loss, rel=2e-6, abs=1e-5)
    scale = max(float(g.abs().max()) for g in expected.values())
    for name, grad in expected.items():
        assert torch.allclose(first["grads"][name], grad, atol=5e-5 * scale), name
    job = still(ready(tiny(objective, *(word for word in more if "drop_path" not in word), *rows)))
    assert gradients(job, batch_of(job, 0))[0]["loss"] != pytest.approx(loss, rel=3e-6), "nothing was dropped"


def test_a_run_that_drops_is_stopped_and_continued(tmp_path):
    config = tiny("dino", DROPPING, "trainer.max_steps=6", "trainer.save_every=2", "trainer.log_every=1")
    stopped_is_never_stopped(config, (3,), tmp_path)


def test_a_run_from_before_the_setting_goes_on(tmp_path):
    run, config = Run(tmp_path / "run"), compose("objective=mae", "data=mnist", "data.path=here", "encoder=vit_small")
    assert config["encoder"]["trunk"]["drop_path"] == 0.0
    run.folder.mkdir()
    before = copy.deepcopy(config)
    del before["encoder"]["trunk"]["drop_path"]
    run.config.write_text(yaml.safe_dump(before))
    write_config(run, config)
    config["encoder"]["trunk"]["drop_path"] = 0.1
    with pytest.raises(ConfigError, match=r"encoder.trunk.drop_path: 0.0 -> 0.1"):
        write_config(run, config)
    for later in ({"drop_path": None}, {"drop_path": 0.0}):
        assert fingerprint({"method": {"size": 1, **later}}) == fingerprint({"method": {"size": 1}})
    assert fingerprint({"method": {"drop_path": 0.1}}) != fingerprint({"method": {}})


def test_what_cannot_be_is_said():
    with pytest.raises(ConfigError, match="depth=1 has no other: set drop_path=0"):
        build(tiny("mae", DROPPING, "encoder.trunk.depth=1"))
    with pytest.raises(ConfigError, match="drop_path must be from 0 to less than 1, got 1.0"):
        check(tiny("mae", "+encoder.trunk.drop_path=1.0")["encoder"], "encoder")
