import math

import numpy as np
import pytest
from sklearn.metrics import mutual_info_score

from sslzoo.label.agreement import agreement


def slow(y, z):
    """The definitions, pair by pair."""
    p = {}
    for pair in zip(y, z, strict=True):
        p[pair] = p.get(pair, 0) + 1 / len(y)
    py = {a: sum(v for (b, _), v in p.items() if b == a) for a in set(y)}
    pz = {a: sum(v for (_, b), v in p.items() if b == a) for a in set(z)}
    information = sum(v * math.log(v / (py[a] * pz[b])) for (a, b), v in p.items())
    return {
        "phone_purity": sum(max(p.get((a, b), 0) for a in py) for b in pz),
        "cluster_purity": sum(max(p.get((a, b), 0) for b in pz) for a in py),
        "pnmi": information / -sum(v * math.log(v) for v in py.values()),
    }


@pytest.mark.parametrize("seed", range(3))
def test_is_what_the_definitions_say_pair_by_pair(seed):
    g = np.random.default_rng(seed)
    z = g.integers(0, 9, 300) * 7  # numbers that are not used lie in between
    y = np.array(["a", "b", "sil", "ŋ"])[np.where(g.random(300) < 0.6, z // 7 % 4, g.integers(0, 4, 300))]
    found, said = agreement(y, z), slow(y.tolist(), z.tolist())
    assert found["frames"] == 300 and found["classes"] == 4
    for key, value in said.items():
        assert found[key] == pytest.approx(value, abs=1e-12)
    _, counts = np.unique(y, return_counts=True)
    entropy = -(counts / 300 * np.log(counts / 300)).sum()
    assert found["pnmi"] == pytest.approx(mutual_info_score(y, z) / entropy)


def test_at_its_ends():
    y = np.array(list("aabbcc"))
    split = agreement(y, np.arange(6))
    assert split["phone_purity"] == pytest.approx(1) == split["pnmi"] and split["cluster_purity"] == 0.5
    one = agreement(y, np.zeros(6, np.int64))
    assert one["phone_purity"] == pytest.approx(1 / 3) and one["cluster_purity"] == 1 and one["pnmi"] == 0
    assert agreement(np.array(["a", "a"]), np.array([0, 1]))["pnmi"] is None
    none = agreement(np.array([], str), np.array([], np.uint16))
    assert none["frames"] == 0 and none["phone_purity"] == 0 and none["pnmi"] is None
