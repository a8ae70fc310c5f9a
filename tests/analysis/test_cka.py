"""CKA against slow loops, and what it must be: 1 for rotations and scales, about 0 for noise."""

import json

import pytest
import torch
from analysed import finished, text_run
from conftest import compose

from sslzoo.analysis.cka import hsic, linear_cka, minibatch_cka
from sslzoo.analysis.command import run_analyze
from sslzoo.errors import ConfigError, UserError


def slow_cka(x, y):
    """1905.00414, equation 1 and section 2.2, by n x n matrices: HSIC(K, L) = tr(K H L H) / (n - 1)^2."""
    n = len(x)
    h = torch.eye(n, dtype=torch.float64) - torch.full((n, n), 1 / n, dtype=torch.float64)

    def hsic0(a, b):
        return torch.trace(a @ a.T @ h @ b @ b.T @ h) / (n - 1) ** 2

    return hsic0(x, y) / (hsic0(x, x) * hsic0(y, y)).sqrt()


def slow_unbiased(x, y):
    """2010.15327, equation 3, term by term over pairs of items."""
    n = len(x)
    k, m = x @ x.T, y @ y.T
    trace = sum(k[i, j] * m[i, j] for i in range(n) for j in range(n) if i != j)
    totals = [sum(z[i, j] for i in range(n) for j in range(n) if i != j) for z in (k, m)]
    crossed = sum(k[i, j] * m[j, q] for i in range(n) for j in range(n) for q in range(n) if i != j and j != q)
    return (trace + totals[0] * totals[1] / ((n - 1) * (n - 2)) - 2 / (n - 2) * crossed) / (n * (n - 3))


def test_is_the_slow_one():
    x, y = torch.randn(2, 9, 4).double() + 3, torch.randn(3, 9, 6).double()
    found = linear_cka(x, y)
    for i in range(2):
        for j in range(3):
            torch.testing.assert_close(found[i, j], slow_cka(x[i], y[j]))
            torch.testing.assert_close(hsic(x[i : i + 1], y[j : j + 1])[0, 0], slow_unbiased(x[i], y[j]))


def test_batches_are_averaged():
    """Numerator and both denominators by themselves, then the ratio; what does not fill a batch is left out."""
    x, y = torch.randn(1, 21, 5).double(), torch.randn(1, 21, 5).double()
    parts = [slice(0, 10), slice(10, 20)]
    means = [sum(slow_unbiased(a[0, p], b[0, p]) for p in parts) / 2 for a, b in ((x, y), (x, x), (y, y))]
    torch.testing.assert_close(minibatch_cka(x, y, 10)[0, 0], means[0] / (means[1] * means[2]).sqrt())


def test_rotations_and_scales_are_the_same_and_noise_is_not():
    g = torch.Generator().manual_seed(0)
    x, noise = (torch.randn(1, 400, 8, generator=g) for _ in range(2))
    turn = torch.linalg.qr(torch.randn(8, 8, generator=g))[0]
    for cka in (linear_cka, lambda a, b: minibatch_cka(a, b, 100)):
        assert float(cka(x, 3 * x @ turn + 5)) == pytest.approx(1, abs=1e-6)
        assert abs(float(cka(x, noise))) < 0.1
        assert float(cka(x, x * torch.tensor([100.0] + [1] * 7))) < 0.8, "it is not blind to directions"
    few = torch.randn(2, 1, 30, 200, generator=g)
    assert float(linear_cka(*few)) > 0.7, "biased where items are few"
    assert abs(float(minibatch_cka(*few, 30))) < 0.3


def analyse(run, *words):
    config = compose(f"run={run.name}", f"root={run.folder.parent}", "device=cpu", *words, command="analyze")
    path, _ = run_analyze(config, [word.partition("=")[0] for word in words])
    return path, json.loads(path.read_text())


@pytest.mark.parametrize("kind", ["speech", "image", "text"])
def test_the_layers_of_a_run(kind, tmp_path, capsys):
    run = finished(tmp_path / "runs" / "one", f"data=tiny_{kind}", f"encoder=tiny_{kind}")
    path, found = analyse(run, "analysis=cka", "analysis.batch=20")
    cka, count = torch.tensor(found["cka"]), {"speech": 40}.get(kind, 48)
    assert path == run.analyses / "cka.json" and found["items"] == count
    assert cka.shape == (len(found["layers"]),) * 2 and len(cka) >= 3
    torch.testing.assert_close(cka, cka.T)
    torch.testing.assert_close(cka.diagonal(), torch.ones(len(cka)), atol=1e-5, rtol=0)
    assert f"{count} items of test" in capsys.readouterr().out
    assert found["figures"][0]["matrices"][0]["rows"] == found["layers"]


def test_two_runs_and_what_cannot_be_compared(tmp_path):
    one = text_run(tmp_path)
    text_run(tmp_path, "two", "tiny_gpt", seed=1)
    path, found = analyse(one, "analysis=cka", "other=two", "analysis.batch=null")
    assert path.name == "cka-two.json" and torch.tensor(found["cka"]).max() < 1
    _, same = analyse(one, "analysis=cka", "other=one", "analysis.batch=null")
    torch.testing.assert_close(torch.tensor(same["cka"]).diagonal(), torch.ones(3), atol=1e-5, rtol=0)
    image = finished(tmp_path / "runs" / "image", "data=tiny_image", "encoder=tiny_resnet")
    with pytest.raises(ConfigError, match="reads text and .*image image: two runs are compared on the same items"):
        analyse(one, "analysis=cka", "other=image")
    with pytest.raises(ConfigError, match="ResNet gives one vector an item, and has no layers.* set other="):
        analyse(image, "analysis=cka")
    path, found = analyse(image, "analysis=cka", "other=image", "analysis.batch=16")
    assert found["layers"] == ["pooled"] and found["cka"] == [[1.0]]
    with pytest.raises(ConfigError, match="needs items and batch of 8 or more, got 4"):
        analyse(one, "analysis=cka", "analysis.items=4")
    with pytest.raises(ConfigError, match="split must be one of train, valid, test, got all"):
        analyse(one, "analysis=cka", "split=all")
    with pytest.raises(ConfigError, match="contexts is of one run: leave out other="):
        analyse(one, "analysis=contexts", "other=two")


def test_runs_that_cut_a_text_elsewhere_are_refused(tmp_path):
    text = tmp_path / "text.txt"
    text.write_text(
        "\n\n".join(" ".join(f"word{i % 37} and number {i % 11}" for i in range(j, j + 40)) for j in range(60))
    )
    words = ["data=plain_text", f"data.path={text}", "data.vocab_size=80"]
    one = finished(tmp_path / "runs" / "one", *words, "data.max_tokens=24", "encoder=tiny_text")
    finished(tmp_path / "runs" / "two", *words, "data.max_tokens=16", "encoder=tiny_text")
    with pytest.raises(UserError, match="read test as other items .* set data="):
        analyse(one, "analysis=cka", "other=two")
