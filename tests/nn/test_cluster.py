import pytest
import torch
from sklearn.cluster import KMeans

from sslzoo.errors import UserError
from sslzoo.nn import cluster
from sslzoo.nn.cluster import Codebook, fit, sample


def normal(*shape, seed=0):
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def blobs(clusters=12, each=60, dim=5, seed=0):
    """Points around centres that are far apart, in random order: (points, the centre of each)."""
    centres = 20 * normal(clusters, dim, seed=seed)
    labels = torch.randperm(clusters * each, generator=torch.Generator().manual_seed(seed)) % clusters
    return centres[labels] + normal(clusters * each, dim, seed=seed + 1), labels


@pytest.mark.parametrize("seed", range(4))
def test_finds_what_is_apart(seed):
    x, truth = blobs(seed=seed)
    found = fit(x, 12, seed)
    labels, distances = found.assign(x)
    assert len({(a, b) for a, b in zip(labels.tolist(), truth.tolist(), strict=True)}) == 12
    assert found.counts.tolist() == torch.bincount(labels, minlength=12).tolist() == [60] * 12
    assert labels.dtype == torch.int64 and distances.dtype == found.centroids.dtype == torch.float32
    said = KMeans(12, n_init=5, random_state=0).fit(x.numpy())
    assert found.inertia == pytest.approx(said.inertia_ / len(x), rel=1e-4)


def test_is_as_good_as_scikit_learns_where_there_are_no_clusters():
    x = normal(4000, 6)
    found = [fit(x, 40, seed).inertia for seed in range(3)]
    said = [KMeans(40, n_init=1, random_state=seed).fit(x.numpy()).inertia_ / len(x) for seed in range(3)]
    assert sum(found) < 1.01 * sum(said)


def test_assigns_as_a_slow_loop_does(monkeypatch):
    x, codebook = normal(70, 3, seed=1) + 100, Codebook(normal(9, 3) + 100)
    labels, distances = codebook.assign(x)
    for row, label, distance in zip(x.double(), labels, distances, strict=True):
        slow = [float((row - c).square().sum()) for c in codebook.centroids.double()]
        assert slow.index(min(slow)) == label and distance == pytest.approx(min(slow), abs=1e-4)
    monkeypatch.setattr(cluster, "CHUNK", 32)
    assert torch.equal(codebook.assign(x)[0], labels)
    assert [len(part) for part in codebook.assign(x[:0])] == [0, 0]


def test_inertia_is_the_mean_squared_distance():
    x = normal(500, 4)
    found = fit(x, 7, 0)
    assert found.inertia == pytest.approx(float(found.assign(x)[1].double().mean()))


def test_a_seed_is_a_result():
    x = normal(3000, 8)
    first, again, other = fit(x, 30, 3), fit(x, 30, 3), fit(x, 30, 4)
    assert torch.equal(first.centroids, again.centroids) and not torch.equal(first.centroids, other.centroids)


def test_far_from_zero_is_as_near():
    """|x|^2 - 2xc + |c|^2 in float32 knows nothing of differences of 0.01 at 1000."""
    x = 0.01 * normal(5000, 40)  # of so many, faiss makes distances of products
    near, far = fit(x, 100, 0), fit(x + 1000, 100, 0)
    assert far.inertia == pytest.approx(near.inertia, rel=0.05)


@pytest.mark.parametrize("seed", range(3))
def test_no_cluster_is_empty_where_a_few_points_are_rare(seed):
    """A subsample has hardly one of ten points among 50,000 that are all the same."""
    x = torch.zeros(50_000, 3)
    x[1000:51_000:5000] = torch.arange(30.0).view(10, 3) + 1
    found = fit(x, 11, seed)
    assert sorted(found.counts.tolist()) == [1] * 10 + [49_990]
    assert found.inertia < 1e-3


def test_no_cluster_is_empty_in_a_heavy_tail():
    x = normal(4000, 6) ** 5
    assert fit(x, 300, 0).counts.min() > 0


def test_lloyd_gives_an_empty_cluster_a_point():
    x = torch.tensor([[0.0], [1.0], [10.0], [11.0]])
    far = torch.tensor([[0.5], [10.5], [500.0]])
    moved = cluster._step(far, x, cluster.np.random.default_rng(0))
    assert float(moved[2]) in x.flatten().tolist() and moved[:2].tolist() == [[0.5], [10.5]]


def test_the_only_point_of_a_cluster_is_not_given_away():
    x, labels = torch.tensor([[0.0], [9.0], [10.0]]), torch.tensor([0, 1, 1])
    centres = torch.tensor([[4.0], [9.5], [100.0]])
    for seed in range(20):
        filled = cluster._filled(centres, x, labels, torch.tensor([1, 2, 0]), cluster.np.random.default_rng(seed))
        assert float(filled[2]) in (9.0, 10.0) and torch.equal(filled[:2], centres[:2])


def test_copies_of_a_point_are_not_shared_out():
    """What faiss's rounding makes of them would depend on where a chunk of rows ends."""
    x = torch.zeros(100_000, 3)
    x[:10] = torch.arange(30.0).view(10, 3) + 1
    with pytest.raises(UserError, match="only 11 of 12 clusters have points of their own"):
        fit(x, 12, 0)
    alike = torch.tensor([[3.0, 4.0], [3.0, 4.0001], [5.0, 5.0], [3.0, 4.0]])
    assert cluster._first_alike(alike).tolist() == [0, 0, 2, 0]


def test_as_many_clusters_as_points():
    x = normal(50, 4) * 1e-3 + 10
    found = fit(x, 50, 0)
    assert found.counts.tolist() == [1] * 50 and found.inertia < 1e-10


@pytest.mark.parametrize(
    "x, clusters, says",
    [
        (normal(5, 2), 6, "5 points make no 6 clusters"),
        (normal(5, 2), 0, "1 or more clusters"),
        (torch.ones(500, 2), 3, "only 1 of 3 clusters have points of their own: the 500 points are too much alike"),
        (torch.arange(5.0).repeat(4000)[:, None], 6, "only 5 of 6 clusters"),
        (torch.tensor([[0.0], [5.0], [5.0001]]), 3, "only 2 of 3 clusters"),  # in products of float32
        (torch.tensor([[0.0], [float("nan")], [1.0]]), 2, "finite values only: point 1 is not"),
        (torch.tensor([[0.0], [1.0], [-float("inf")]]), 2, "finite values only: point 2 is not"),
    ],
)
def test_what_cannot_be_clustered_is_refused_in_one_line(x, clusters, says):
    with pytest.raises(UserError, match=says) as caught:
        fit(x, clusters, 0)
    assert "\n" not in str(caught.value)


def test_one_cluster_is_the_mean():
    x = normal(100, 3)
    torch.testing.assert_close(fit(x, 1, 0).centroids, x.mean(0, keepdim=True))


def placed(batches):
    """(place of its first row, rows) of each batch of a stream."""
    start = 0
    for batch in batches:
        yield start, batch
        start += len(batch)


def test_a_sample_of_a_stream_is_one_of_its_rows_whatever_the_batches():
    x = torch.arange(7000.0)[:, None]
    whole = sample(placed([x]), 500, 0)
    assert whole.shape == (500, 1) and len(whole.unique()) == 500
    for size in (1, 13, 1000):
        assert torch.equal(sample(placed(x.split(size)), 500, 0), whole)
    assert not torch.equal(sample(placed([x]), 500, 1), whole)
    assert torch.equal(sample(placed(x.split(9)), 9000, 0).sort(0).values, x) and len(sample([], 5, 0)) == 0


def test_a_sample_is_uniform():
    counts = torch.zeros(40)
    for seed in range(2000):
        counts[sample(placed(torch.arange(40.0)[:, None].split(7)), 10, seed)[:, 0].long()] += 1
    # 500 each, with a standard deviation of 19
    assert counts.sum() == 20_000 and counts.min() > 420 and counts.max() < 580
