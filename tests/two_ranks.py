"""Work done by processes that talk over gloo, and what each of them found."""

import socket

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _rank(rank: int, work, folder, world: int) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=world)
    torch.save(work(rank), folder / f"found{rank}")
    dist.destroy_process_group()


def on_ranks(work, folder, world: int, start_method: str = "fork") -> list:
    """`work(rank)` of every rank; what it returns is plain tensors. The folder is new to each call."""
    folder.mkdir(exist_ok=True)
    mp.start_processes(_rank, (work, folder, world), nprocs=world, start_method=start_method)
    return [torch.load(folder / f"found{rank}", weights_only=True) for rank in range(world)]


def free_port() -> int:
    """A port of this machine that nobody listens on."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def on_two_ranks(work, folder) -> list:
    return on_ranks(work, folder, 2)
