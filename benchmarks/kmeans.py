"""k-means of 200,000 cepstral frames into 100 clusters: sslzoo's, scikit-learn's MiniBatchKMeans, faiss's own.

All in one process, by turns, seed by seed; a ratio is between two that ran one after the other.

    python benchmarks/kmeans.py [--seeds 0,1,2,3,4] [--out benchmarks/results/kmeans.json]
"""

import argparse
import os
import statistics
import time
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as the command sets them: spinning threads slow all of them
os.environ.setdefault("GOMP_SPINCOUNT", "10000")

import faiss
import numpy as np
import torch
from sklearn.cluster import MiniBatchKMeans
from threadpoolctl import threadpool_limits

from sslzoo.data.base import SPLITS
from sslzoo.data.builtin.spoken import Spoken
from sslzoo.data.loader import ordered_loader
from sslzoo.data.sampler import BySeconds
from sslzoo.label.sources import Cepstra
from sslzoo.nn import cluster
from sslzoo.run import commit, machine, write_json

FRAMES, CLUSTERS = 200_000, 100


def frames() -> torch.Tensor:
    """MFCC every 10 ms of the built-in set, the first `FRAMES` in the order of its splits' lengths."""
    data, source, found = Spoken(BySeconds(60.0)), Cepstra(16000, hop_ms=10), []
    for name in SPLITS:
        for batch in ordered_loader(data.split(name), 60 * data.sample_rate):
            found += [row[:length] for row, length in zip(*source(batch), strict=True)]
    x = torch.cat(found)[:FRAMES].contiguous()
    assert len(x) == FRAMES
    return x


def inertia(x: np.ndarray, centroids: np.ndarray) -> float:
    """The mean squared distance to the nearest centroid, in float64."""
    c = centroids.astype(np.float64)
    nearest = [((part**2).sum(1) + ((c**2).sum(1) - 2 * part @ c.T).min(1)).sum() for part in np.array_split(x, 50)]
    return float(sum(nearest) / len(x))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", default="0,1,2,3,4", help="seeds, separated by commas (default 0,1,2,3,4)")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "kmeans.json")
    said = parser.parse_args()
    x = frames()
    array, wide = x.numpy(), x.double().numpy()

    def scikit(seed: int) -> np.ndarray:
        return MiniBatchKMeans(CLUSTERS, random_state=seed).fit(array).cluster_centers_

    def scikit_one_thread(seed: int) -> np.ndarray:
        with threadpool_limits(1):
            return scikit(seed)

    def plain_faiss(seed: int) -> np.ndarray:
        kmeans = faiss.Kmeans(x.shape[1], CLUSTERS, seed=seed)
        kmeans.train(array)
        return kmeans.centroids

    ways = {
        "sslzoo": lambda seed: cluster.fit(x, CLUSTERS, seed).centroids.numpy(),
        "scikit-learn MiniBatchKMeans": scikit,
        "scikit-learn MiniBatchKMeans, one thread": scikit_one_thread,
        "faiss.Kmeans": plain_faiss,
    }
    for way in ways.values():
        way(99)  # libraries are loaded and pools of threads made
    timed = []
    for seed in map(int, said.seeds.split(",")):
        for name, way in ways.items():
            wall, used = time.perf_counter(), time.process_time()
            centroids = way(seed)
            wall, used = time.perf_counter() - wall, time.process_time() - used
            timed.append((seed, name, wall, used, centroids))
    runs = []
    for seed, name, wall, used, centroids in timed:  # not between them: its memory slows what comes next
        found = inertia(wide, centroids)
        runs.append({"seed": seed, "way": name, "seconds": wall, "cpu_seconds": used, "inertia": found})
        print(f"seed {seed}  {name:42} {wall:6.2f} s  {used:6.2f} s of CPU  inertia {found:.2f}")
    of = {name: [run for run in runs if run["way"] == name] for name in ways}
    best = [min(a, b, key=lambda run: run["seconds"]) for a, b in zip(*list(of.values())[1:3], strict=True)]
    pairs = list(zip(of["sslzoo"], best, strict=True))

    def ratios(key: str, turned: bool) -> list[float]:
        return [b[key] / a[key] if turned else a[key] / b[key] for a, b in pairs]

    results = {
        "frames": FRAMES,
        "dim": x.shape[1],
        "clusters": CLUSTERS,
        "times_as_fast": ratios("seconds", True),
        "times_less_cpu": ratios("cpu_seconds", True),
        "inertia_ratio": ratios("inertia", False),
        "median_times_as_fast": statistics.median(ratios("seconds", True)),
        "median_times_less_cpu": statistics.median(ratios("cpu_seconds", True)),
        "largest_inertia_ratio": max(ratios("inertia", False)),
        "runs": runs,
        "load": os.getloadavg(),
        "threads": torch.get_num_threads(),
        "versions": {name: version(name) for name in ("scikit-learn", "faiss-cpu", "torch", "numpy")},
        "commit": commit(),
        "machine": machine(),
    }
    write_json(said.out, results)
    print(
        f"against the faster of scikit-learn's two: {results['median_times_as_fast']:.2f} times as fast (median; "
        f"{min(results['times_as_fast']):.2f} to {max(results['times_as_fast']):.2f}), inertia at most "
        f"{results['largest_inertia_ratio']:.4f} of its\nwrote {said.out}"
    )


if __name__ == "__main__":
    main()
