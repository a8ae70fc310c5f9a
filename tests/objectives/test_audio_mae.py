"""AudioMAE: loss and gradient against a slow loop in float64, on patches and on frames, with rows of unlike lengths."""

import copy

import pytest
import torch
from conftest import tiny
from test_contracts import batch_of

from sslzoo.build import build
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import valid_mask
from sslzoo.nn.positions import grid_sinusoids


def slow_loss(job, batch):
    objective = copy.deepcopy(job.objective).double()
    encoder, decoder = copy.deepcopy(job.encoder).double(), objective.decoder
    features, lengths = job.encoder.features(batch.inputs, batch.lengths)
    columns, prefix = encoder.frontend.columns(features.shape[1]), encoder.prefix
    masks = job.objective.mask(batch.row_seeds, valid_mask(lengths, features.shape[1]), columns)
    placing, encoder.trunk.position = encoder.trunk.position, None
    total, count = torch.zeros((), dtype=torch.float64), 0
    for row, n in enumerate(lengths.tolist()):
        x, mask = features[row : row + 1, :n].double(), masks[row, :n]
        tokens = encoder.project(x, torch.tensor([n]))[0][0]
        seen = torch.cat([torch.ones(prefix, dtype=torch.bool), ~mask])
        if placing is not None:
            tokens = tokens + placing((tokens * seen[:, None])[None])[0]
        visible = tokens[seen]
        last = encoder.contextualize(visible[None], torch.tensor([len(visible)])).last[0]
        left = [objective.decoder_embed(h) for h in last]
        place = grid_sinusoids(n, columns, decoder.dim).double()
        whole = [left.pop(0) for _ in range(prefix)]
        for t in range(n):
            whole.append((objective.mask_token if mask[t] else left.pop(0)) + place[t])
        decoded = decoder(torch.stack(whole)[None], torch.tensor([len(whole)]))[-1][0, prefix:]
        for t in range(n):
            if mask[t]:
                target = (x[0, t] - x[0, t].mean()) / (x[0, t].var() + 1e-6).sqrt()
                total, count = total + ((objective.decoder_pred(decoded[t]) - target) ** 2).mean(), count + 1
    (total / count).backward()
    encoder.trunk.position = placing
    return float(total) / count, count, encoder, objective


@pytest.mark.parametrize("encoder", ["tiny_mel_patches", "tiny_speech"])
def test_loss_and_gradient_are_the_slow_loop(encoder):
    job = build(tiny("audio_mae", f"encoder={encoder}"))
    batch = batch_of(job, 0)
    value, count, slow, objective = slow_loss(job, batch)
    loss = job.objective(job.encoder, batch, 0)
    loss.value.backward()
    assert loss.count == count > 20 and float(loss.value) == pytest.approx(value, rel=1e-5)
    pairs = [*zip(job.encoder.parameters(), slow.parameters(), strict=True)]
    for fast, exact in [*pairs, *zip(job.objective.parameters(), objective.parameters(), strict=True)]:
        torch.testing.assert_close(fast.grad.double(), exact.grad, atol=2e-6, rtol=2e-3)


def test_a_share_of_each_utterance_is_masked_and_never_padding():
    job = build(tiny("audio_mae"))
    batch = batch_of(job, 0)
    _, lengths, mask, rebuilt = job.objective.rebuild(job.encoder, batch)
    assert mask.sum(1).tolist() == [round(0.8 * n) for n in lengths.tolist()] and len(rebuilt) == mask.sum()
    assert not (mask & ~valid_mask(lengths, mask.shape[1])).any()


def test_learned_features_are_refused():
    with pytest.raises(ConfigError, match="features that are learned are no target"):
        build(tiny("audio_mae", "encoder=tiny_wave"))
