"""data2vec: its loss and gradient against a slow loop in float64 on speech, images and text, and its teacher."""

import copy
from types import SimpleNamespace

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of, gradients, still

from sslzoo.build import build
from sslzoo.data.base import MASK, maskable
from sslzoo.errors import ConfigError, UserError
from sslzoo.objectives.bert import replaced
from sslzoo.run import Run
from sslzoo.train.guards import CollapseGuard, symptoms


def moved(job):
    """With a teacher that is not the student."""
    with torch.no_grad():
        for number, p in enumerate(job.objective.teacher.encoder.trunk.parameters()):
            p.add_(0.05 * torch.randn(p.shape, generator=torch.Generator().manual_seed(number)))
    return still(job)


def slow_loss(job, batch):
    """Row by row without padding, token by token, in float64: (the loss, the encoder that has its gradients)."""
    objective = job.objective
    encoder, head = (copy.deepcopy(m).double() for m in (job.encoder, objective.head))
    teacher = copy.deepcopy(objective.teacher.encoder).double().eval()
    token = None if objective.mask_token is None else objective.mask_token.detach().double().requires_grad_()
    inputs = batch.inputs if objective.views is None else objective.views(batch.inputs, batch.row_seeds, "view")
    features, lengths = job.encoder.features(inputs, batch.lengths)
    mask = objective.choose(batch, lengths, features.shape[1])
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row, n in enumerate(lengths.tolist()):
        x = features[row : row + 1, :n]
        x = x.double() if x.is_floating_point() else x
        size = torch.tensor([n])
        whole = teacher.contextualize(*teacher.project(x, size)).hidden[-objective.layers :]
        target = torch.zeros(n, encoder.dim, dtype=torch.float64)
        for hidden in whole:
            h = hidden[0, objective.prefix :].detach()
            axis = 0 if objective.norm == "instance" else 1
            variance = h.var(axis, unbiased=False, keepdim=True)
            target += (h - h.mean(axis, keepdim=True)) / (variance + 1e-5).sqrt() / len(whole)
        if token is None:
            seen = replaced(batch.ids, mask, batch.row_seeds, objective.vocab_size)[row : row + 1, :n]
            tokens, more = encoder.project(seen, size)
        else:
            tokens, more = encoder.project(x, size)
            tokens = list(tokens[0])
            for place in range(n):
                if mask[row, place]:
                    absolute = getattr(encoder.frontend, "position_embedding", torch.zeros(n + 1, encoder.dim))
                    at = place + objective.prefix
                    tokens[at] = token + (absolute[at] if objective.prefix else 0)
            tokens = torch.stack(tokens)[None]
        last = encoder.contextualize(tokens, more).last[0, objective.prefix :]
        for place in range(n):
            if mask[row, place]:
                difference, each = (head(last[place]) - target[place]).abs(), 0.0
                for d in difference:
                    if objective.beta is None:
                        each = each + d**2
                    else:
                        each = each + (d**2 / 2 / objective.beta if d < objective.beta else d - objective.beta / 2)
                total, count = total + each / encoder.dim, count + 1
    (total / count).backward()
    return total / count, count, encoder, head


@pytest.mark.parametrize("overrides", [["data2vec"], ["data2vec_image"], ["data2vec_text", "objective.beta=0.5"]])
def test_loss_and_gradient_are_the_slow_loop(overrides):
    job = moved(build(tiny(*overrides)))
    batch = batch_of(job, 0)
    value, count, encoder, head = slow_loss(job, batch)
    loss = job.objective(job.encoder, batch, 0)
    loss.value.backward()
    assert loss.count == count > 5 and float(loss.value) == pytest.approx(float(value), rel=1e-5)
    pairs = [*zip(job.encoder.parameters(), encoder.parameters(), strict=True)]
    for fast, exact in [*pairs, *zip(job.objective.head.parameters(), head.parameters(), strict=True)]:
        if exact.grad is not None:
            torch.testing.assert_close(fast.grad.double(), exact.grad, atol=1e-6, rtol=2e-3)


def test_a_teachers_target_is_not_normalised_over_padding():
    job = moved(build(tiny("data2vec")))
    batch = batch_of(job, 0)
    features, lengths = job.encoder.features(batch.inputs, batch.lengths)
    row = int(lengths.argmin())
    assert lengths[row] < features.shape[1]
    target = job.objective.teach(features, lengths)[row, : lengths[row]]
    alone = job.objective.teach(features[row : row + 1, : lengths[row]], lengths[row : row + 1])[0]
    torch.testing.assert_close(target, alone, atol=2e-5, rtol=1e-4)
    assert float(target.mean(0).abs().max()) < 1e-5


def test_the_teacher_has_no_dropout_and_never_trains():
    job = build(tiny("data2vec", "+encoder.trunk.dropout=0.5", "+encoder.trunk.layer_drop=0.5"))
    job.encoder.train(), job.objective.train()
    batch = batch_of(job, 0)
    features, lengths = job.encoder.features(batch.inputs, batch.lengths)
    assert torch.equal(job.objective.teach(features, lengths), job.objective.teach(features, lengths))
    _, grads = gradients(job, batch)
    assert not any("teacher" in name for name in grads)


def test_the_teachers_momentum_rises_in_a_line_and_stays():
    teacher = build(tiny("data2vec", "objective.ramp=0.5")).objective.teacher
    found = [teacher.momentum_at(step, 100) for step in (0, 25, 50, 99)]
    assert found == pytest.approx([0.999, 0.99945, 0.9999, 0.9999])


def test_a_run_whose_targets_are_the_same_everywhere_is_stopped(tmp_path):
    """Whatever trainer.on_collapse says, in one line; a healthy one goes on."""

    trainer = SimpleNamespace(global_step=100, is_global_zero=True)
    module = SimpleNamespace(logged={"target_std": 0.02, "loss": 0.1})
    said = []
    guard = CollapseGuard(Run(tmp_path), 1, 100, False, said.append)
    with pytest.raises(UserError, match=r"^stopped at step 99: the teacher's targets are the same everywhere .*0\.020"):
        for _ in range(3):
            guard.after_step(trainer, module)
    assert len(said) == 1 and not symptoms({"target_std": 0.4}, True)
    job = build(tiny("data2vec"))
    teacher = job.objective.teacher.encoder
    teacher.trunk.position = None
    torch.nn.init.zeros_(teacher.frontend.linear.weight)
    logs = job.objective(job.encoder, batch_of(job, 0), 0).logs()
    assert float(logs["target_std"]) < 0.1 < float(build_logs()["target_std"])


def build_logs() -> dict:
    job = build(tiny("data2vec"))
    return job.objective(job.encoder, batch_of(job, 0), 0).logs()


def test_pieces_of_text_are_masked_and_specials_are_not():
    job = build(tiny("data2vec_text"))
    batch = batch_of(job, 0)
    mask = job.objective.choose(batch, batch.lengths, batch.inputs.shape[1])
    assert mask.any(1).all() and not (mask & ~maskable(batch.ids)).any()
    seen = replaced(batch.ids, mask, batch.row_seeds, 60)
    assert (seen[mask] == MASK).any() and torch.equal(seen[~mask], batch.ids[~mask])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data2vec", "objective.layers=3"], "layers between 1 and the encoder's 2"),
        (["data2vec", "data=tiny_image", "encoder=tiny_image"], "set objective=data2vec_image"),
        (["data2vec_image", "data=tiny_text", "encoder=tiny_text", "objective.views=null"], "BlockMask masks image"),
        (["data2vec", "objective.ramp=2.0"], "share of the steps"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        job = build(tiny(*overrides))
        job.objective(job.encoder, batch_of(job, 0), 0)
