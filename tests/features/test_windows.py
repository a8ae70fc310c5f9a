"""Long audio read in windows is what it is as a whole, where an encoder sees no further than a window."""

import pytest
import torch
from worlds import Framed

from sslzoo.data.loader import collate
from sslzoo.features import windows
from sslzoo.features.frozen import Frozen
from sslzoo.label.sources import Cepstra, Layer


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for name, seconds in (("LONGEST", 1.0), ("CORE", 0.4), ("CONTEXT", 0.1)):
        monkeypatch.setattr(windows, name, seconds)


def batch(*sizes):
    waves = [torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in sizes]
    return collate([(wave, i, -1, {}) for i, wave in enumerate(waves)])


def encoder(prefix=0, pool="mean", rate=1000):
    found = Framed((0.0, 1.0, 0.5), prefix=prefix, pool=pool)
    found.reads = {"sample_rate": rate}
    return found


def test_windows_hold_every_token_once():
    for length in (1, 400, 1501, 1700, 4003):
        found, tokens = list(windows.windows(length, 5, 1000.0)), []
        for start, stop, own in found:
            assert start % 5 == 0 and stop <= length and stop - start <= 400 + 2 * 100 + 1000
            tokens += list(range(start // 5, -(-stop // 5)))[own]
        assert tokens == list(range(-(-length // 5))) and found[-1][1] == length


@pytest.mark.parametrize("prefix, pool", [(0, "mean"), (2, "first")])
def test_an_encoders_tokens_and_items_are_those_of_the_whole(prefix, pool):
    given = batch(3777, 900, 1500)
    whole, parts = Frozen(encoder(prefix, pool, rate=10**9)), Frozen(encoder(prefix, pool))
    assert not windows.needed(given, whole.rate) and windows.needed(given, parts.rate)
    (want, lengths), (got, counts) = whole.tokens(given), parts.tokens(given)
    assert lengths.tolist() == counts.tolist()
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(got[row, :n], want[row, :n])
    want, got = whole.items(given), parts.items(given)
    assert parts.layers == whole.layers
    torch.testing.assert_close(got[:, :3], want[:, :3], atol=1e-5, rtol=1e-5)


def test_what_is_clustered_is_that_of_the_whole(monkeypatch):
    given = batch(40_000, 20_001)
    for source in (Cepstra(16000), Layer(encoder(rate=16000), 1)):
        got, counts = source(given)
        with monkeypatch.context() as patch:
            patch.setattr(windows, "LONGEST", 100.0)
            want, lengths = source(given)
        assert counts.tolist() == lengths.tolist()
        for row, n in enumerate(lengths.tolist()):
            torch.testing.assert_close(got[row, :n], want[row, :n], atol=1e-3, rtol=1e-4)
