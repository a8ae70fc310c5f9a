"""Start, memory and sampler against the size of a set: simulated listings of ten thousand to ten million utterances.

Of each a listing as `sslzoo` keeps it is made in a temporary folder: real folders of a thousand files each, an
index of names, lengths and labels, and no sound; a read gives silence. Then, in a process of its own, the set is
opened as any other, and batches are made by `train_loader` with one worker. Memory is of /proc, so Linux alone, in
MB. "own" is the proportional share of anonymous memory (Pss_Anon): what a process has allocated, with its part of what
it shares with its forks, which private memory alone (USS) would leave out as long as a worker lives. The index is a
mapped file: its pages are the machine's cache, are one for all ranks and workers, and may be dropped at any time; they
are in the resident memory, which is also given.

With --of shards the set lies in shards of ten thousand items each (sparse files), which are read.

    python benchmarks/scale.py [--of folder|shards] [--items 10000,1000000,10000000]
                               [--out benchmarks/results/scale.json]
"""

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
import zlib
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

EARLY, SEEN = 10_000, 100  # items of an epoch; of the items drawn, one in so many is read
SHARD = 10_000  # items of a shard
FOLDER, RATE, SECONDS = 1000, 16000, (1.0, 16.0)  # files of a folder; Hz; the shortest and the longest
HELD_OUT = 1000  # items of valid, and of test
ROWS, STEPS = 1024, 300  # of the sampler's steps; steps that are timed
BATCHES = 30  # of the loader, before memory is looked at
COLUMNS = ("seconds_to_open", "seconds_to_first_batch", "cpu_seconds_to_first_batch")
COLUMNS += ("milliseconds_a_step", "worst_milliseconds_a_step")
COLUMNS += (
    "rank_own_mb",
    "rank_mb",
    "worker_own_mb",
    "worker_mb",
    "before_mb",
    "early_own_mb",
    "late_own_mb",
    "index_mb",
)


def numbers(count: int, width: int) -> np.ndarray:
    """uint8 [count, width], the decimal digits of 0 to count - 1."""
    return (np.arange(count)[:, None] // 10 ** np.arange(width - 1, -1, -1) % 10 + ord("0")).astype(np.uint8)


def lines(*parts) -> dict[str, np.ndarray]:
    """The blob of names of one width, each the row of every part beside the other, and where each begins."""
    count = max(len(part) for part in parts if isinstance(part, np.ndarray))
    wide = [
        part if isinstance(part, np.ndarray) else np.tile(np.frombuffer(part, np.uint8), (count, 1))
        for part in (*parts, b"\n")
    ]
    blob = np.concatenate(wide, axis=1)
    return {"": blob.ravel(), ".starts": np.arange(count + 1, dtype=np.int64) * blob.shape[1]}


def data(root: Path):
    from sslzoo.data.audio import AudioFolder
    from sslzoo.data.sampler import BySeconds
    from sslzoo.data.shard_sets import AudioShards

    if (root / "manifest.json").exists():
        return AudioShards(str(root), BySeconds(60.0), sample_rate=RATE, max_seconds=10.0, check="headers")
    return AudioFolder(str(root), BySeconds(60.0), sample_rate=RATE, max_seconds=10.0, check="headers")


def simulate(root: Path, items: int) -> int:
    """Folders, what is known of them, and an index of `items` files that are not there. Bytes of the index."""
    from sslzoo.data import index, stored, tree
    from sslzoo.data.audio import SUFFIXES

    count = -(-items // FOLDER)
    for folder in range(count):
        (root / f"{folder:06}").mkdir(parents=True)
        os.utime(root / f"{folder:06}", (1e9, 1e9))  # long ago: a folder that has just changed is listed again
    os.utime(root, (1e9, 1e9))
    file, of = numbers(items, 8), numbers(count, 6).repeat(FOLDER, 0)[:items]
    folders = {name: array for name, array in lines(numbers(count, 6)).items()}
    folders = {
        "": np.concatenate([[ord("\n")], folders[""]]).astype(np.uint8),
        ".starts": np.append(0, folders[".starts"] + 1),
    }
    known = {f"folders{key}": array for key, array in folders.items()}
    changed = np.full(count + 1, 10**18, np.int64)
    first = np.append(0, np.minimum(np.arange(count + 1) * FOLDER, items)).astype(np.int64)
    known |= {f"files{key}": array for key, array in lines(file, b".flac").items()}
    known |= {"changed": changed, "first": first, "linked": np.zeros(count + 1, bool), "link": np.zeros(items, bool)}
    stored.write(tree.place(root, SUFFIXES), known, {"root": str(root)}, "simulated")
    rng = np.random.default_rng(0)
    arrays = {f"names{key}": array for key, array in lines(of, b"/", file, b".flac").items()}
    arrays |= {f"folders{key}": array for key, array in folders.items()} | {"folder.changed": changed}
    arrays |= {"hash": np.zeros(items, np.uint64), "done": np.ones(items, bool)}
    arrays |= {key: np.ones(items, np.int64) for key in ("changed", "size")}
    arrays["frames"] = (rng.uniform(*SECONDS, items) * RATE).astype(np.int64)
    arrays["rates"] = np.full(items, RATE, np.int64)
    arrays["column.folder"] = np.repeat(np.arange(count, dtype=np.int32), FOLDER)[:items]
    arrays |= {f"column.folder.kinds{key}": array for key, array in lines(numbers(count, 6)).items()}
    train, valid = items - 2 * HELD_OUT, items - HELD_OUT
    meta = {
        "root": str(root),
        "check": "headers",
        "splits": {"train": [0, train], "valid": [train, valid], "test": [valid, items]},
        "columns": ["folder"],
        "walks": [[str(root), list(SUFFIXES), "simulated"]],
        "read": [],
        "faults": {},
    }
    path = index.place(data(root).known_as, "headers")
    stored.write(path, arrays, meta, "simulated")
    return path.stat().st_size


def simulate_shards(root: Path, items: int) -> int:
    """Shards of silence and their index. Bytes of the index."""
    from sslzoo.data import shards, stored

    root.mkdir(parents=True)
    size, names = 3 * 512, [f"train-{number:06d}.tar" for number in range(-(-items // SHARD))]
    rng, place = np.random.default_rng(0), np.arange(items, dtype=np.int64)
    file, of = numbers(items, 8), numbers(len(names), 6).repeat(SHARD, 0)[:items]
    arrays = {f"names{key}": array for key, array in lines(of, b"/", file, b".flac").items()}
    arrays |= {"shard": place // SHARD, "offset": place % SHARD * size + 512, "size": np.full(items, 512)}
    arrays |= {"crc": np.full(items, zlib.crc32(bytes(512))), "suffix": np.zeros(items, np.int64)}
    arrays["frames"] = (rng.uniform(*SECONDS, items) * RATE).astype(np.int64)
    arrays |= {"rates": np.full(items, RATE, np.int64), "lengths": arrays["frames"]}
    columns, said = shards.labels_of({"folder": np.zeros(items)}, {})
    meta = {"format": "tar", "shards": names, "suffixes": [".flac"], **said}
    stored.write(root / "train.index", arrays | columns, meta, "simulated")
    for name in names:
        with open(root / name, "wb") as held:
            held.truncate(SHARD * size)
    listed = [{"name": name, "items": SHARD, "bytes": SHARD * size, "sha256": name} for name in names]
    train = {"items": items, "index": "train.index", "ident": "simulated", "shards": listed}
    manifest = {"version": shards.VERSION, "modality": "speech", "splits": {"train": train}}
    (root / shards.MANIFEST).write_text(json.dumps(manifest), encoding="utf-8")
    return (root / "train.index").stat().st_size


def memory(pid: int | str = "self") -> tuple[float, float]:
    """MB of a process's share of anonymous memory, and MB resident in all."""
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]
    found = {name: int(value) / 1000 for name, value, *_ in map(str.split, lines)}
    return found["Pss_Anon:"], found["Rss:"]


def measure(root: Path) -> dict[str, float]:
    """One rank, in a process of its own."""
    from sslzoo.data import audio, sound
    from sslzoo.data.loader import train_loader
    from sslzoo.data.sampler import ByCount, StepSampler

    sound.decode_at = lambda path, rate, ours, start, stop: np.zeros(stop - start, np.float32)
    audio.AudioFolder.listing = None  # the index is to be used
    before, begun, used = memory()[1], time.perf_counter(), time.process_time()
    split = data(root).split("train")
    opened = time.perf_counter() - begun
    loader = iter(train_loader(split, data(root).batch, 0, 0, 10**9, workers=1))
    next(loader)
    first = time.perf_counter() - begun, time.process_time() - used  # the second: of the machine's other work apart
    for _ in range(BATCHES):
        next(loader)
    [worker] = multiprocessing.active_children()
    (rank_own, rank), (worker_own, worker_all) = memory(), memory(worker.pid)
    del loader
    sampler = iter(StepSampler(ByCount(ROWS), lambda: split.cut_lengths, 0, 0, 10**9))
    next(sampler)  # the epoch's order is drawn at its first step
    steps = []
    for _ in range(STEPS):
        begun = time.perf_counter()
        next(sampler)
        steps.append(1000 * (time.perf_counter() - begun))
    step = statistics.median(steps), max(steps)
    del sampler
    found = (opened, *first, *step, rank_own, rank, worker_own, worker_all, before, *over_an_epoch(split))
    return dict(zip(COLUMNS, found, strict=False))


def over_an_epoch(split) -> tuple[float, float]:
    """A process's own MB after it has drawn the first `EARLY` items of an epoch, and after all; one in `SEEN` is read.
    As in training, in batches of alike lengths."""
    from sslzoo.data.sampler import BySeconds, StepSampler

    batching = BySeconds(60.0)
    batching.rate = RATE
    sampler, drawn = StepSampler(batching, lambda: split.cut_lengths, 0, 0, 10**9), 0
    early = None
    for number, rows in zip(range(sampler.steps_per_epoch), sampler, strict=False):
        for index in rows.index[::SEEN].tolist():
            split.item(index, number)
        drawn += len(rows)
        if early is None and drawn >= min(EARLY, len(split) // 2):
            early = memory()[0]
    return early, memory()[0]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--items", default="10000,1000000,10000000", help="sizes, separated by commas")
    parser.add_argument("--repeats", type=int, default=3, help="processes of each size, of which the median counts")
    parser.add_argument("--of", choices=("folder", "shards"), default="folder", help="what the set lies in")
    parser.add_argument("--out", type=Path, help="default: benchmarks/results/scale.json, or scale_shards.json")
    parser.add_argument("--measure", type=Path, help=argparse.SUPPRESS)
    said = parser.parse_args()
    if said.measure:
        print(json.dumps(measure(said.measure)))
        return
    from sslzoo.run import commit, machine, write_json

    print("     items  " + "  ".join(name.replace("milliseconds", "ms").replace("seconds", "s") for name in COLUMNS))
    rows = []
    for items in map(int, said.items.split(",")):
        with tempfile.TemporaryDirectory() as folder:
            os.environ["SSLZOO_CACHE"] = f"{folder}/cache"
            size = (simulate if said.of == "folder" else simulate_shards)(Path(folder) / "set", items)
            command = [sys.executable, __file__, "--measure", f"{folder}/set"]
            runs = [
                json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
                for _ in range(said.repeats)
            ]
        row = {name: statistics.median(run[name] for run in runs) for name in runs[0]} | {"index_mb": size / 1e6}
        rows.append({"items": items, **row, "runs": runs})
        cells = [
            f"{row[name]:{len(name.replace('milliseconds', 'ms').replace('seconds', 's'))}.3g}" for name in COLUMNS
        ]
        print(f"{items:10}  " + "  ".join(cells), flush=True)
    results = {
        "batch": {"loader": "BySeconds(60)", "sampler": f"ByCount({ROWS})", "steps": STEPS},
        "sizes": rows,
        "load": os.getloadavg(),
        "versions": {name: version(name) for name in ("torch", "numpy")},
        "commit": commit(),
        "machine": machine(),
    }
    name = "scale.json" if said.of == "folder" else "scale_shards.json"
    out = said.out or Path(__file__).parent / "results" / name
    write_json(out, results)
    print(f"wrote {out}")


if __name__ == "__main__":
    main()
