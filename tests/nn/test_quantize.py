"""The Gumbel quantiser against transformers', and on cases whose answer is known."""

import pytest
import torch
import torch.nn.functional as F

from sslzoo.errors import ConfigError
from sslzoo.nn.quantize import GumbelQuantizer, perplexity


def test_is_transformers(monkeypatch):
    """The same noise gives the same codes, use and gradients; without noise, the likeliest codes."""
    transformers = pytest.importorskip("transformers")
    from transformers.models.wav2vec2.modeling_wav2vec2 import Wav2Vec2GumbelVectorQuantizer

    config = transformers.Wav2Vec2Config(
        conv_dim=(9,), conv_stride=(1,), conv_kernel=(1,), codevector_dim=8, num_codevectors_per_group=6
    )
    torch.manual_seed(0)
    ours, theirs = GumbelQuantizer(9, 8, groups=2, entries=6), Wav2Vec2GumbelVectorQuantizer(config)
    with torch.no_grad():
        theirs.weight_proj.weight.copy_(ours.logits.weight), theirs.weight_proj.bias.copy_(ours.logits.bias)
        theirs.codevectors.copy_(ours.codes.reshape(1, 12, 4))
    x, noise = torch.randn(2, 7, 9), torch.rand(14, 2, 6)

    def gumbel_softmax(logits, tau, hard):
        soft = ((logits - torch.log(-torch.log(noise.view_as(logits)))) / tau).softmax(-1)
        return F.one_hot(soft.argmax(-1), 6) - soft.detach() + soft

    monkeypatch.setattr(F, "gumbel_softmax", gumbel_softmax)
    theirs.temperature = 1.3
    codes, share, chosen = ours(x.flatten(0, 1), noise, 1.3)
    expected, expected_perplexity = theirs.train()(x)
    torch.testing.assert_close(codes.view_as(expected), expected)
    torch.testing.assert_close(perplexity(share), expected_perplexity, atol=1e-4, rtol=0)
    assert chosen.shape == (14, 2)

    pull = torch.randn(2, 7, 8)
    ((codes.view_as(pull) * pull).sum() + perplexity(share)).backward()
    ((expected * pull).sum() + expected_perplexity).backward()
    torch.testing.assert_close(ours.logits.weight.grad, theirs.weight_proj.weight.grad, atol=1e-4, rtol=1e-4)
    torch.testing.assert_close(ours.codes.grad, theirs.codevectors.grad.view_as(ours.codes))

    with torch.no_grad():
        torch.testing.assert_close(ours(x.flatten(0, 1), None, 1.3)[0].view_as(pull), theirs.eval()(x)[0])


def test_a_code_is_a_row_of_each_book():
    torch.manual_seed(0)
    quantizer = GumbelQuantizer(4, 6, groups=3, entries=5)
    for noise in (None, torch.rand(20, 3, 5)):
        codes, share, chosen = quantizer(torch.randn(20, 4), noise, 0.7)
        for row in range(20):
            expected = torch.cat([quantizer.codes[g, chosen[row, g]] for g in range(3)])
            torch.testing.assert_close(codes[row], expected)
        assert share.shape == (3, 5)
        torch.testing.assert_close(share.sum(1), torch.ones(3))
    assert len(set(map(tuple, chosen.tolist()))) > 5


def test_noise_draws_from_the_softmax():
    """Gumbel's trick: codes are chosen as often as the softmax of the logits says, at any temperature."""
    quantizer = GumbelQuantizer(1, 2, groups=1, entries=4)
    with torch.no_grad():
        quantizer.logits.weight.zero_()
        quantizer.logits.bias.copy_(torch.tensor([0.1, 0.2, 0.3, 0.4]).log())
        noise = torch.rand(40000, 1, 4, generator=torch.Generator().manual_seed(0)).clamp(min=1e-7)
        chosen = quantizer(torch.zeros(40000, 1), noise, 0.5)[2]
    assert (chosen.flatten().bincount(minlength=4) / 40000).tolist() == pytest.approx([0.1, 0.2, 0.3, 0.4], abs=0.01)


def test_perplexity_counts_the_codes_in_use():
    uniform, one = torch.full((2, 8), 1 / 8), F.one_hot(torch.tensor([3, 5]), 8).float()
    assert float(perplexity(uniform)) == pytest.approx(16, abs=1e-3)
    assert float(perplexity(one)) == pytest.approx(2, abs=1e-3)
    half = torch.cat([torch.full((2, 4), 1 / 4), torch.zeros(2, 4)], 1)
    assert float(perplexity(half)) == pytest.approx(8, abs=1e-3)


def test_refuses_a_dim_that_the_books_cannot_share():
    with pytest.raises(ConfigError, match="code_dim=7 is not divisible by groups=2"):
        GumbelQuantizer(4, 7, groups=2)
