"""`sslzoo doctor --ranks N`: whether N processes on this machine can train together, and how fast they talk."""

import os
import socket
import tempfile
import time
from datetime import timedelta
from pathlib import Path
from statistics import median

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn

from sslzoo.errors import ConfigError

PORT = 29500  # torchrun's default
TIMEOUT = 60  # seconds to meet, and for a message
MEGABYTES = 16  # of the all-reduce
DISK_MEGABYTES = 64
TIMES = 5
WIDTH, LAYERS, ROWS = 512, 4, 32  # of the perceptron that takes a step


def examine_ranks(ranks: int, say) -> None:
    """Check `ranks` processes of this machine. say(ok, text) prints a check; ok: True, False, or None for a note."""
    if ranks < 1:
        raise ConfigError(f"--ranks must be at least 1, got {ranks}")
    gpus = torch.cuda.device_count()
    backend = "nccl" if gpus >= ranks else "gloo"
    if 0 < gpus < ranks:
        say(False, f"{ranks} ranks need {ranks} GPUs, and there are {gpus}: trainer.devices={gpus}, or trainer=ddp_cpu")
    version = ".".join(map(str, torch.cuda.nccl.version())) if backend == "nccl" else f"torch {torch.__version__}"
    say(True, f"{ranks} ranks talk over {backend} ({version})")
    if ranks > (os.cpu_count() or 1) and backend == "gloo":
        say(None, f"{ranks} ranks share {os.cpu_count()} cores")
    with socket.socket() as tried:
        try:
            tried.bind(("127.0.0.1", PORT))
            say(True, f"port {PORT} is free for torchrun")
        except OSError:
            say(None, f"port {PORT} is in use: give torchrun or `sslzoo launch` another --port")
    disk(say)
    meet(ranks, backend, say)


def disk(say) -> None:
    """Time writing a file in the current folder."""
    block = os.urandom(1 << 20)
    try:
        begun = time.monotonic()
        with tempfile.TemporaryFile(dir=Path.cwd()) as file:
            for _ in range(DISK_MEGABYTES):
                file.write(block)
            file.flush()
            os.fsync(file.fileno())
        say(True, f"the disk here takes {DISK_MEGABYTES / (time.monotonic() - begun):,.0f} MB/s")
    except OSError as error:
        say(False, f"{DISK_MEGABYTES} MB cannot be written here ({error.strerror}): root=… puts runs elsewhere")


def meet(ranks: int, backend: str, say) -> None:
    """Start the ranks, and time a step and an all-reduce."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        method = "fork" if backend == "gloo" else "spawn"  # CUDA does not survive a fork
        try:
            mp.start_processes(_rank, (ranks, backend, port, folder), nprocs=ranks, start_method=method)
        except Exception as error:  # noqa: BLE001 (of a process, with its traceback)
            say(False, f"{ranks} ranks did not meet: {str(error).strip().splitlines()[-1]}")
            return
        found = torch.load(Path(folder) / "found", weights_only=True)
    speed = MEGABYTES / 1024 / found["all_reduce"]
    say(True, f"an all-reduce of {MEGABYTES} MB: {1000 * found['all_reduce']:.1f} ms ({speed:.2f} GB/s)")
    say(True, f"a step of a perceptron of {found['parameters'] / 1e6:.1f}M weights: {1000 * found['step']:.1f} ms")


def _rank(rank: int, world: int, backend: str, port: int, folder: str) -> None:
    torch.set_num_threads(1)
    device = torch.device("cuda", rank) if backend == "nccl" else torch.device("cpu")
    if backend == "nccl":
        torch.cuda.set_device(device)
    meeting, wait = f"tcp://127.0.0.1:{port}", timedelta(seconds=TIMEOUT)
    dist.init_process_group(backend, init_method=meeting, rank=rank, world_size=world, timeout=wait)
    message = torch.ones(MEGABYTES * 2**18, device=device)

    def reduce() -> None:
        dist.all_reduce(message)
        message.fill_(1)

    net = nn.Sequential(*(nn.Linear(WIDTH, WIDTH) for _ in range(LAYERS))).to(device)
    model = nn.parallel.DistributedDataParallel(net, device_ids=[rank] if backend == "nccl" else None)
    optimizer, rows = torch.optim.SGD(net.parameters(), 1e-3), torch.randn(ROWS, WIDTH, device=device)

    def step() -> None:
        optimizer.zero_grad()
        model(rows).square().mean().backward()
        optimizer.step()

    found = {"all_reduce": _seconds(reduce, device), "step": _seconds(step, device)}
    if rank == 0:
        torch.save({**found, "parameters": sum(p.numel() for p in net.parameters())}, Path(folder) / "found")
    dist.barrier()
    dist.destroy_process_group()


def _seconds(work, device: torch.device) -> float:
    """The median seconds of a few calls, after one that is not counted."""
    found = []
    for _ in range(TIMES + 1):
        begun = time.monotonic()
        work()
        if device.type == "cuda":
            torch.cuda.synchronize(device)
        found.append(time.monotonic() - begun)
    return median(found[1:])
