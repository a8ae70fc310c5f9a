"""Work done by two processes that talk over gloo, and what each of them found."""

import torch
import torch.distributed as dist
import torch.multiprocessing as mp


def _rank(rank: int, work, folder) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    torch.save(work(rank), folder / f"found{rank}")
    dist.destroy_process_group()


def on_two_ranks(work, folder) -> list:
    """`work(rank)` of both ranks; what it returns is plain tensors."""
    mp.start_processes(_rank, (work, folder), nprocs=2, start_method="fork")
    return [torch.load(folder / f"found{rank}", weights_only=True) for rank in (0, 1)]
