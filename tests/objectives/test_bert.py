"""BERT's loss against a slow one. tests/data/test_masking.py has its corruption, tests/encoders its model."""

import math

import pytest
import torch
from conftest import tiny
from texts import batch

from sslzoo.build import build
from sslzoo.data.base import Batch


@torch.no_grad()
def test_the_loss_is_the_papers():
    """The mean over chosen pieces of -log p, each text by itself, each softmax over the vocabulary."""
    job, given = build(tiny("bert")), batch()
    encoder, objective = job.encoder.eval(), job.objective.eval()
    objective.bias.copy_(torch.randn(60, generator=torch.Generator().manual_seed(1)))
    ids, chosen = objective.corrupt(given.inputs, given.lengths, given.row_seeds)
    table = encoder.frontend.token_embedding.weight.double()
    total, right, count = 0.0, 0, 0
    for row, length in enumerate(given.lengths.tolist()):
        hidden = encoder(ids[row : row + 1, :length], torch.tensor([length])).last[0].double()
        for place in chosen[row].nonzero().flatten().tolist():
            x = objective.dense.weight.double() @ hidden[place] + objective.dense.bias.double()
            x = torch.tensor([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x.tolist()], dtype=torch.float64)
            x = (x - x.mean()) / (x.var(unbiased=False) + 1e-12).sqrt()
            scores = (table @ (x * objective.norm.weight + objective.norm.bias) + objective.bias).tolist()
            answer = int(given.inputs[row, place])
            total -= scores[answer] - math.log(sum(map(math.exp, scores)))
            right += scores[answer] == max(scores)
            count += 1
    loss = objective(encoder, given, 0)
    assert loss.count == count == 6 and chosen.any(1).all()
    assert float(loss.value) == pytest.approx(total / count, abs=1e-5)
    assert float(loss.logs()["accuracy"]) == pytest.approx(right / count)


def test_the_output_embedding_is_the_inputs():
    job = build(tiny("bert"))
    assert not any("pieces" in name or p.shape == (60, 16) for name, p in job.objective.named_parameters())
    loss = job.objective(job.encoder, batch(), 0)
    loss.value.backward()
    gradient = job.encoder.frontend.token_embedding.weight.grad
    assert (gradient.abs().sum(1) > 0).all(), "pieces that were nowhere in the input are pushed away too"


def test_what_was_kept_is_asked_for_as_well():
    """Pieces that stay as they are belong to the loss: else what is seen would never be the answer."""
    job, given = build(tiny("bert")), batch()
    many = Batch(
        *(x.repeat(40, *[1] * (x.ndim - 1)) for x in (given.inputs, given.lengths)),
        torch.arange(120),
        torch.arange(120),
    )
    ids, chosen = job.objective.corrupt(many.inputs, many.lengths, many.row_seeds)
    kept = chosen & (ids == many.inputs)
    assert kept.any()
    assert job.objective(job.encoder, many, 0).count == int(chosen.sum())
