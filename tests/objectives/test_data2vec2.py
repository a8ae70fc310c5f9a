"""data2vec 2.0: loss and gradient against a slow loop in float64, copies by copies; what the student sees; EAT."""

import copy

import pytest
import torch
import torch.nn.functional as F
from conftest import tiny
from test_contracts import batch_of, gradients
from test_data2vec import moved

from sslzoo import rng
from sslzoo.build import build
from sslzoo.data.base import maskable
from sslzoo.errors import ConfigError


def slow_decoder(decoder, x, columns):
    """x [T, D] in float64 -> [T, D]: convolutions by their definition, place by place."""
    rows, half = len(x) // columns, decoder.layers[0].kernel_size[0] // 2
    for number, layer in enumerate(decoder.layers):
        weight = layer.weight if layer.weight.ndim == 4 else layer.weight[..., None]
        shares = x.split(weight.shape[1], dim=1)  # of groups
        found = []
        for place in range(len(x)):
            total = layer.bias
            for down in range(-half, half + 1):
                for right in range(-half, half + 1) if decoder.grid else [0]:
                    row, column = place // columns + down, place % columns + right
                    if 0 <= row < rows and 0 <= column < columns:
                        w = weight[:, :, down + half, right + half if decoder.grid else 0]
                        each = [
                            part @ share[row * columns + column]
                            for part, share in zip(w.chunk(layer.groups), shares, strict=True)
                        ]
                        total = total + torch.cat(each)
            found.append(F.gelu((total - total.mean()) / (total.var(unbiased=False) + 1e-5).sqrt()))
        x = torch.stack(found) + (x if number else 0)
    return decoder.out(x)


def slow_loss(job, batch):
    objective = job.objective
    encoder, decoder = (copy.deepcopy(m).double() for m in (job.encoder, objective.decoder))
    teacher, prefix = copy.deepcopy(objective.teacher.encoder).double().eval(), objective.prefix
    placing = encoder.trunk.position
    encoder.trunk.position = None
    inputs = batch.inputs if objective.views is None else objective.views(batch.inputs, batch.row_seeds, "view")
    features, lengths = job.encoder.features(inputs, batch.lengths)
    seeds, masks, columns = objective.copies_of(job.encoder, batch, lengths, features.shape[1])
    noise = rng.normal(seeds, "decoder noise", features.shape[1], encoder.dim).double()
    total, count, whole = torch.zeros((), dtype=torch.float64), 0, []
    for row, n in enumerate(lengths.tolist()):
        x, size = features[row : row + 1, :n], torch.tensor([n])
        x = x.double() if x.is_floating_point() else x
        layers = teacher.contextualize(*teacher.project(x, size)).hidden[-objective.layers :]
        target = torch.zeros(n, encoder.dim, dtype=torch.float64)
        for hidden in layers:
            h = hidden[0, prefix:].detach()
            target += (h - h.mean(0)) / (h.var(0, unbiased=False) + 1e-5).sqrt() / len(layers)
        if objective.norm_targets:
            variance = target.var(1, unbiased=False, keepdim=True)
            target = (target - target.mean(1, keepdim=True)) / (variance + 1e-5).sqrt()
        for number in range(objective.copies):
            place = row * objective.copies + number
            mask = masks[place, :n]
            tokens = encoder.project(x, size)[0][0]
            seen = torch.cat([torch.ones(prefix, dtype=torch.bool), ~mask])
            if placing is not None:  # zeros stand for what is masked
                tokens = tokens + placing((tokens * seen[:, None])[None])[0]
            visible = tokens[seen]
            last = encoder.contextualize(visible[None], torch.tensor([len(visible)])).last[0]
            canvas, left = [], list(last[prefix:])
            for t in range(n):
                canvas.append(objective.noise * noise[place, t] if mask[t] else left.pop(0))
            predicted = slow_decoder(decoder, torch.stack(canvas), columns)
            for t in range(n):
                if mask[t]:
                    total, count = total + ((predicted[t] - target[t]) ** 2).mean(), count + 1
            whole.append(((last[prefix - 1] - target.mean(0)) ** 2).mean() if objective.global_weight else 0.0)
    value = total / count + objective.global_weight * sum(whole) / len(whole)
    value.backward()
    encoder.trunk.position = placing
    return value, count, encoder, decoder


@pytest.mark.parametrize("name", ["data2vec2", "data2vec2_image", "data2vec2_text", "eat"])
def test_loss_and_gradient_are_the_slow_loop(name):
    rows = "data.batch.max_items=2" if name in ("data2vec2", "eat") else "data.batch.size=2"
    job = moved(build(tiny(name, rows)))
    batch = batch_of(job, 0)
    value, count, encoder, decoder = slow_loss(job, batch)
    loss = job.objective(job.encoder, batch, 0)
    loss.value.backward()
    assert loss.count == count > 5 and float(loss.value) == pytest.approx(float(value), rel=1e-5)
    pairs = [*zip(job.encoder.parameters(), encoder.parameters(), strict=True)]
    for fast, exact in [*pairs, *zip(job.objective.decoder.parameters(), decoder.parameters(), strict=True)]:
        if exact.grad is not None:
            torch.testing.assert_close(fast.grad.double(), exact.grad, atol=1e-6, rtol=2e-3)


def test_copies_of_an_item_have_masks_of_their_own_of_one_size():
    job = build(tiny("data2vec2_image", "objective.copies=5"))
    batch = batch_of(job, 0)
    _, mask, columns = job.objective.copies_of(job.encoder, batch, torch.full((8,), 16), 16)
    assert columns == 4 and (mask.sum(1) == round(0.8 * 16)).all()
    assert len({tuple(row.tolist()) for row in mask[:5]}) > 1


def test_masked_tokens_never_reach_the_encoder(monkeypatch):
    job = moved(build(tiny("data2vec2")))
    batch, seen = batch_of(job, 0), []
    features, lengths = job.encoder.features(batch.inputs, batch.lengths)
    _, mask, _ = job.objective.copies_of(job.encoder, batch, lengths, features.shape[1])
    whole = job.encoder.contextualize
    monkeypatch.setattr(
        job.encoder, "contextualize", lambda *a, **b: seen.append(whole(*a, **b).last) or whole(*a, **b)
    )
    monkeypatch.setattr(job.encoder, "features", lambda *_: (features, lengths))
    monkeypatch.setattr(job.objective, "copies", 1)
    monkeypatch.setattr(job.objective, "copies_of", lambda *_: (batch.row_seeds, mask[::2], 1))
    job.objective(job.encoder, batch, 0)
    features = torch.where(mask[::2, :, None], features + 7, features)
    job.objective(job.encoder, batch, 0)
    kept = (~mask[::2]).sum(1) - (features.shape[1] - lengths)
    for row, n in enumerate(kept.tolist()):
        assert torch.equal(seen[0][row, :n], seen[1][row, :n])
    assert seen[0].shape[1] == int(kept.max()) < features.shape[1]


def test_the_teacher_passes_once_and_takes_no_gradient(monkeypatch):
    job = build(tiny("data2vec2", "objective.copies=3"))
    calls, teacher = [], job.objective.teacher.encoder
    whole = teacher.contextualize
    monkeypatch.setattr(teacher, "contextualize", lambda x, n: calls.append(len(x)) or whole(x, n))
    batch = batch_of(job, 0)
    _, grads = gradients(job, batch)
    assert calls == [len(batch)] and not any("teacher" in name for name in grads)
    job.objective.train()
    assert not any(module.training for module in teacher.modules())


def test_specials_of_a_text_stay_visible():
    job = build(tiny("data2vec2_text"))
    batch = batch_of(job, 0)
    _, mask, _ = job.objective.copies_of(job.encoder, batch, batch.lengths, batch.inputs.shape[1])
    assert not (mask & ~maskable(batch.ids).repeat_interleave(2, 0)).any() and mask.any(1).all()


def test_a_convolutions_positions_see_zeros_where_tokens_were_dropped():
    trunk = build(tiny("data2vec2")).encoder.trunk.eval()
    tokens = torch.randn(2, 9, 16)
    kept = torch.tensor([[0, 3, 4, 8], [1, 2, 5, 0]])  # of the second row three
    seen = tokens.gather(1, kept[..., None].expand(-1, -1, 16))
    state = trunk.prepare(seen, torch.tensor([4, 3]), positions=kept)
    for row, places in enumerate(([0, 3, 4, 8], [1, 2, 5])):
        gaps = torch.zeros(1, 9, 16)
        gaps[0, places] = tokens[row, places]
        wanted = tokens[row, places] + trunk.position(gaps)[0, places]
        torch.testing.assert_close(state.x[row, : len(places)], wanted, atol=1e-6, rtol=1e-5)


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["data2vec2", "objective.global_weight=1.0"], "class token, which this encoder lacks"),
        (["data2vec2", "objective.decoder_kernel=4"], "odd kernel"),
        (["data2vec2", "objective/mask=wav2vec2"], "SpanMask masks no grid"),
        (["wav2vec2", "encoder=tiny_mel_patches"], "the encoder has a class token; these fit: encoder=.*logmel_small"),
    ],
)
def test_what_does_not_fit_is_refused(overrides, message):
    with pytest.raises(ConfigError, match=message):
        build(tiny(*overrides))
