"""SVCCA and PWCCA against slow versions by the covariances' roots, and what they must be."""

import json

import numpy as np
import pytest
import torch
from analysed import finished
from conftest import compose

from sslzoo.analysis.cca import directions, pwcca, svcca
from sslzoo.analysis.command import run_analyze
from sslzoo.errors import ConfigError, UserError


def root(matrix, power):
    values, vectors = np.linalg.eigh(matrix)
    return vectors @ np.diag(values**power) @ vectors.T


def slow_correlations(x, y):
    """(canonical correlations, canonical vectors of x [N, K]) from Sxx^-1/2 Sxy Syy^-1 Syx Sxx^-1/2
    (1806.05759, eq. 1-3)."""
    x, y = x - x.mean(0), y - y.mean(0)
    inverse = root(x.T @ x, -0.5)
    whole = inverse @ x.T @ y @ np.linalg.inv(y.T @ y) @ y.T @ x @ inverse
    values, vectors = np.linalg.eigh(whole)
    order = np.argsort(values)[::-1][: min(x.shape[1], y.shape[1])]
    return np.sqrt(np.clip(values[order], 0, 1)), x @ inverse @ vectors[:, order]


def features(rows=60, seed=0):
    g = np.random.default_rng(seed)
    x = g.normal(size=(rows, 5)) * [3, 2, 1, 0.5, 0.02] + 7
    y = np.concatenate([x[:, :2] @ g.normal(size=(2, 2)), g.normal(size=(rows, 2))], 1) + 0.3 * g.normal(size=(rows, 4))
    return x, y


def test_pwcca_is_the_slow_one():
    x, y = features()
    for a, b in ((x, y), (y, x)):
        rho, canonical = slow_correlations(a, b)
        centred = a - a.mean(0)
        weights = [sum(abs(h @ centred[:, j]) for j in range(centred.shape[1])) for h in canonical.T]
        expected = sum(w * r for w, r in zip(weights, rho, strict=True)) / sum(weights)
        assert float(pwcca(torch.tensor(a), torch.tensor(b))) == pytest.approx(expected, rel=1e-6)


def test_svcca_is_the_slow_one():
    x, y = features()
    kept = []
    for z in (x, y):
        centred = z - z.mean(0)
        values, vectors = np.linalg.eigh(centred.T @ centred)
        count = next(k for k in range(1, len(values) + 1) if values[::-1][:k].sum() >= 0.9 * values.sum())
        kept.append(centred @ vectors[:, ::-1][:, :count])
        assert directions(torch.tensor(z), 0.9).shape[1] == count < z.shape[1]
    rho, _ = slow_correlations(*kept)
    assert float(svcca(torch.tensor(x), torch.tensor(y), 0.9)) == pytest.approx(rho.mean(), rel=1e-6)


def test_invertible_maps_are_the_same_and_noise_is_not():
    g = torch.Generator().manual_seed(0)
    x, noise, mix = torch.randn(500, 6, generator=g), torch.randn(500, 6, generator=g), torch.randn(6, 6, generator=g)
    for cca in (pwcca, lambda a, b: svcca(a, b, 1.0)):
        assert float(cca(x, x @ mix + 3)) == pytest.approx(1, abs=1e-6)
        assert float(cca(x, noise)) < 0.2
    dead = torch.cat([x, torch.zeros(500, 2)], 1)
    assert float(pwcca(dead, x)) == pytest.approx(1, abs=1e-6)
    assert float(pwcca(torch.ones(9, 3), torch.randn(9, 2, generator=g))) >= 0, "of a constant layer, a number"


def analyse(run, *words):
    config = compose(f"run={run.name}", f"root={run.folder.parent}", "device=cpu", *words, command="analyze")
    path, _ = run_analyze(config, [word.partition("=")[0] for word in words])
    return path, json.loads(path.read_text())


def test_the_layers_of_a_run_and_of_two(tmp_path, capsys):
    run = finished(tmp_path / "runs" / "one", "data=tiny_image", "encoder=tiny_image")
    finished(tmp_path / "runs" / "two", "data=tiny_image", "encoder=tiny_image", seed=1)
    path, found = analyse(run, "analysis=cca")
    assert path == run.analyses / "cca.json" and found["items"] == 48
    for kind in ("svcca", "pwcca"):
        value = torch.tensor(found[kind])
        torch.testing.assert_close(value.diagonal(), torch.ones(len(value)), atol=1e-5, rtol=0)
    assert "each layer's nearest: 0 1.00" in capsys.readouterr().out
    path, two = analyse(run, "analysis=cca", "other=two")
    assert path.name == "cca-two.json" and [m["title"] for m in two["figures"][0]["matrices"]] == ["SVCCA", "PWCCA"]
    with pytest.raises(UserError, match="more items than the 16 dimensions of a layer, and 10 of test are read"):
        analyse(run, "analysis=cca", "analysis.items=10")
    with pytest.raises(ConfigError, match="needs items of 8 or more, and variance"):
        analyse(run, "analysis=cca", "analysis.variance=0")
