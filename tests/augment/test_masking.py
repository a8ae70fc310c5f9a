"""Masks: how much is masked, never padding, and each row by itself."""

import numpy as np
import pytest
import torch

from sslzoo import rng
from sslzoo.augment.masking import SpanMask, TokenMask, ranks_among
from sslzoo.data.base import CLS, MASK, PAD, SEP, SPECIALS, UNK
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import valid_mask


def keys_of(n: int, step: int = 0) -> torch.Tensor:
    return torch.tensor([rng.derive_seed(0, step, row) for row in range(n)])


def runs(mask) -> list[int]:
    """Lengths of the masked stretches of one row."""
    padded = np.diff(np.pad(np.asarray(mask, dtype=int), 1))
    return (np.flatnonzero(padded == -1) - np.flatnonzero(padded == 1)).tolist()


def test_ranks_among():
    scores = torch.tensor([[0.3, 0.1, 0.9, 0.2], [0.5, 0.5, 0.1, 0.0]])
    allowed = torch.tensor([[True, False, True, True], [True, True, False, True]])
    assert ranks_among(scores, allowed).tolist() == [[1, 4, 2, 0], [1, 2, 4, 0]]  # ties by place


def test_spans_mask_as_much_as_the_paper_says():
    """Appendix A: p = 0.065 and M = 10 leave about 49 % masked, in spans of 14.7 frames on average, for the
    15 seconds of a crop."""
    mask = SpanMask()(keys_of(500), torch.full((500,), 749), 749)
    assert float(mask.float().mean()) == pytest.approx(0.49, abs=0.01)
    lengths = [n for row in mask.tolist() for n in runs(row)]
    assert np.mean(lengths) == pytest.approx(14.7, abs=0.3) and np.median(lengths) == 10
    assert min(lengths) == 10


@pytest.mark.parametrize(("prob", "length", "size"), [(0.65, 10, 120), (0.3, 4, 31), (0.9, 10, 50)])
def test_spans_are_distributed_as_transformers(prob, length, size):
    """The shares, spread and edges of `_compute_mask_indices`, which rounds once a call as we once a row."""
    module = pytest.importorskip("transformers.models.wav2vec2.modeling_wav2vec2")
    np.random.seed(0)
    rows = 3000
    theirs = np.concatenate(
        [module._compute_mask_indices((10, size), prob, length, min_masks=1) for _ in range(rows // 10)]
    )
    ours = SpanMask(prob, length)(keys_of(rows), torch.full((rows,), size), size).numpy()
    assert ours.mean() == pytest.approx(theirs.mean(), abs=0.01)
    assert ours.mean(1).std() == pytest.approx(theirs.mean(1).std(), rel=0.1)
    np.testing.assert_allclose(ours.mean(0), theirs.mean(0), atol=0.06)  # edges are masked less, in both
    a, b = (np.bincount([n for row in m for n in runs(row)], minlength=size + 1) / rows for m in (ours, theirs))
    np.testing.assert_allclose(a, b, atol=0.15 * b.max())


def test_spans_are_rounded_up_or_down_at_random():
    """0.65 * 10 / 1 = 6.5: six or seven spans, half of the time each."""
    lone = SpanMask(0.65, 1)  # so that each masked frame is a span
    mask = lone(keys_of(4000), torch.full((4000,), 10), 10)
    counts = mask.sum(1).bincount().tolist()
    assert len(counts) == 8 and sum(counts[:6]) == 0
    assert counts[6] / 4000 == pytest.approx(0.5, abs=0.04)


@pytest.mark.parametrize("mask", [SpanMask(), SpanMask(0.9, 3), SpanMask(1.0, 2)])
def test_spans_stay_within_the_utterance(mask):
    lengths = torch.arange(0, 60)
    masked = mask(keys_of(60), lengths, 80)
    assert not (masked & ~valid_mask(lengths, 80)).any()
    assert not masked[: mask.length].any(), "shorter than a span"
    assert masked[mask.shortest :].any(1).all()
    for row in masked[mask.length :].tolist():
        assert min(runs(row)) >= mask.length


def test_the_shortest_keeps_a_frame():
    """What `shortest` asks for leaves something to hear: one span, one frame beside it."""
    mask = SpanMask(0.65, 10)
    lengths = torch.full((500,), mask.shortest)
    masked = mask(keys_of(500), lengths, 20)
    assert (masked.sum(1) == 10).all()
    starts = masked.int().argmax(1).bincount().tolist()
    assert len(starts) == 2 and min(starts) > 200


def test_a_row_does_not_see_its_neighbours_or_its_padding():
    lengths = torch.tensor([90, 35, 64, 12])
    seeds = keys_of(4)
    spans, pieces = SpanMask(), TokenMask()
    whole, chosen = spans(seeds, lengths, 90), pieces(seeds, valid_mask(lengths, 90))
    for row in range(4):
        n = int(lengths[row])
        for size in (n, n + 7, 200):
            alone = spans(seeds[row : row + 1], lengths[row : row + 1], size)
            assert torch.equal(alone[0, :n], whole[row, :n])
            alone = pieces(seeds[row : row + 1], valid_mask(lengths[row : row + 1], size))
            assert torch.equal(alone[0, :n], chosen[row, :n])


def test_steps_mask_anew():
    lengths = torch.full((8,), 100)
    a, b = (SpanMask()(keys_of(8, step), lengths, 100) for step in (0, 1))
    assert (a != b).any(1).all()
    assert torch.equal(a, SpanMask()(keys_of(8, 0), lengths, 100))
    assert len({tuple(row) for row in a.tolist()}) == 8


@pytest.mark.parametrize("length", [1, 2, 3, 6, 7, 10, 30, 50, 70])
def test_pieces_are_a_share_rounded_and_at_least_one(length):
    chosen = TokenMask(0.15)(keys_of(300), torch.ones(300, length, dtype=torch.bool))
    assert (chosen.sum(1) == max(1, round(0.15 * length))).all()
    share = chosen.float().mean(0)
    assert (share - share.mean()).abs().max() < 0.1, "no place is liked better"


def test_pieces_are_of_the_allowed():
    allowed = torch.rand(50, 30, generator=torch.Generator().manual_seed(0)) < 0.4
    chosen = TokenMask(0.5)(keys_of(50), allowed)
    assert not (chosen & ~allowed).any()
    assert torch.equal(chosen.sum(1), (allowed.sum(1) / 2).round().long())  # to even, as Python's
    assert not TokenMask()(keys_of(2), torch.zeros(2, 5, dtype=torch.bool)).any(), "nothing allowed, nothing chosen"


def test_bert_corrupts_in_its_proportions():
    """Of the chosen: 80 % [MASK], 10 % a random piece, 10 % as they were; specials and padding never."""
    from types import SimpleNamespace

    from sslzoo.objectives.bert import BERT

    objective = BERT(
        SimpleNamespace(dim=4, frontend=SimpleNamespace(embedding_dim=4)), SimpleNamespace(vocab_size=1000), TokenMask()
    )
    g, rows = torch.Generator().manual_seed(0), 8000  # about a million tokens
    ids = torch.randint(SPECIALS, 1000, (rows, 192), generator=g)
    lengths = torch.randint(60, 193, (rows,), generator=g)
    ids[:, 0] = CLS
    ids[torch.arange(rows), lengths // 2] = SEP
    ids[torch.arange(rows), lengths - 1] = SEP
    ids = ids.masked_fill(~valid_mask(lengths, 192), 0)
    corrupted, chosen = objective.corrupt(ids, lengths, keys_of(rows))

    words = ids >= SPECIALS
    assert int(words.sum()) > 950_000
    assert not (chosen & ~words).any()
    assert torch.equal(corrupted[~chosen], ids[~chosen])
    assert chosen.sum(1).tolist() == [max(1, round(0.15 * n)) for n in words.sum(1).tolist()]
    was, now = ids[chosen], corrupted[chosen]
    masked, kept = now == MASK, now == was
    same = 0.1 / 995  # a random piece may be the one that was there
    for share, p in ((masked, 0.8), (kept, 0.1 + same), (~masked & ~kept, 0.1 - same)):
        assert abs(float(share.double().mean()) - p) < 5 * (p * (1 - p) / len(now)) ** 0.5
    random = now[~masked & ~kept]
    assert random.min() == SPECIALS and random.max() == 999
    counts = torch.bincount(random, minlength=1000)[SPECIALS:].double()
    assert (counts - counts.mean()).abs().max() < 6 * counts.mean().sqrt(), "each piece alike"


@pytest.mark.parametrize(
    "make",
    [
        lambda: SpanMask(0),
        lambda: SpanMask(1.5),
        lambda: SpanMask(length=0),
        lambda: SpanMask(min_spans=-1),
        lambda: TokenMask(0),
        lambda: TokenMask(1),
    ],
)
def test_refuses_what_masks_nothing_or_all(make):
    with pytest.raises(ConfigError, match="mask"):
        make()


def test_bert_asks_for_unknown_pieces_and_puts_none_that_mean_nothing():
    """[UNK] stands for text and is chosen as often as any piece; what replaces a piece, the tokenizer has."""
    from types import SimpleNamespace

    from sslzoo.objectives.bert import BERT

    data = SimpleNamespace(vocab_size=1000, real_vocab_size=40, unigram_entropy=3.0)
    objective = BERT(SimpleNamespace(dim=4, frontend=SimpleNamespace(embedding_dim=4)), data, TokenMask())
    assert objective.vocab_size == len(objective.bias) == 1000
    objective.prepare(10, 1, 0)
    assert objective.vocab_size == 40 and len(objective.bias) == 1000
    g = torch.Generator().manual_seed(0)
    ids = torch.randint(SPECIALS, 40, (600, 128), generator=g)
    ids = ids.masked_fill(torch.rand(600, 128, generator=g) < 0.2, UNK)
    ids[:, 0], ids[:, 50], ids[:, 127] = CLS, SEP, MASK
    lengths = torch.randint(60, 128, (600,), generator=g)
    ids = ids.masked_fill(~valid_mask(lengths, 128), PAD)
    corrupted, chosen = objective.corrupt(ids, lengths, keys_of(600))

    unknown, words = ids == UNK, ids >= SPECIALS
    for kind in (unknown, words):
        assert int(chosen[kind].sum()) / int(kind.sum()) == pytest.approx(0.15, abs=0.01)
    assert not (chosen & ~(unknown | words)).any()
    replaced = corrupted[(corrupted != ids) & (corrupted != MASK)]
    assert replaced.min() == SPECIALS and replaced.max() == 39
    counts = torch.bincount(replaced, minlength=40)[SPECIALS:].float()
    assert len(replaced) > 500 and (counts - counts.mean()).abs().max() < 5 * counts.mean().sqrt()
