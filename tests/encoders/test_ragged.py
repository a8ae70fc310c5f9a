"""Rows of a padded batch that are taken one at a time are what they are in the batch."""

import pytest
import torch

from sslzoo.encoders import ragged
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.encoders.speech import Waveform
from sslzoo.encoders.transformer import ConvPosition, Transformer

CPU = torch.device("cpu")


def encoder(norm: str) -> SequenceEncoder:
    torch.manual_seed(0)
    frontend = Waveform(16, layers=[[8, 10, 5], [8, 3, 2], [8, 2, 2]], norm="group" if norm == "post" else "layer")
    return SequenceEncoder(frontend, Transformer(16, 2, 2, norm=norm, init_std=0.3, position=ConvPosition(16, 8, 4)))


@pytest.mark.parametrize("norm", ["pre", "post"])
@pytest.mark.parametrize("training", [True, False])
def test_rows_apart_are_those_of_the_batch(norm, training, monkeypatch):
    net, lengths = encoder(norm).train(training), torch.tensor([900, 20, 411, 800])
    waves = torch.randn(4, 900)
    found = {}
    for long in (1, 10**9):
        monkeypatch.setattr(ragged, "LONG", long)
        assert (ragged.rows_apart(lengths, 900, CPU, 20) is None) == (long > 1)
        net.zero_grad()
        encoded = net(waves, lengths)
        encoded.pooled.square().sum().backward()
        found[long] = encoded, [p.grad.clone() for p in net.parameters()]
    (apart, grads), (whole, expected) = found.values()
    assert torch.equal(apart.lengths, whole.lengths) and len(apart.hidden) == len(whole.hidden)
    for a, b in zip(apart.hidden, whole.hidden, strict=True):
        assert a.shape == b.shape
        for row, n in enumerate(whole.lengths.tolist()):
            torch.testing.assert_close(a[row, :n], b[row, :n], atol=1e-5, rtol=0)
    torch.testing.assert_close(apart.pooled, whole.pooled, atol=1e-5, rtol=0)
    for a, b in zip(grads, expected, strict=True):
        torch.testing.assert_close(a, b, atol=1e-5 * max(1.0, float(b.abs().max())), rtol=1e-4)


def test_which_batches_are_taken_apart():
    rows, size = torch.tensor([300, 200]), 300
    assert ragged.rows_apart(rows, size, CPU) == [300, 200]
    assert ragged.rows_apart(rows, size, CPU, grain=320) is None, "short rows"
    assert ragged.rows_apart(torch.tensor([300, 300]), size, CPU) is None, "nothing is padded"
    assert ragged.rows_apart(torch.tensor([300, 0]), size, CPU) is None, "an empty row"
    assert ragged.rows_apart(rows, size, torch.device("meta")) is None, "not on a CPU"
