"""Two ranks against one: losses and gradients of the same batches, before the first step.

Of four batches they are computed by one process, and by two that share each batch and talk over gloo, averaged as
`trainer=ddp` does. The gradient of a network with batch norm is badly conditioned: beside the difference stands that of
one process on two threads from itself on one, which is rounding alone.

    python benchmarks/ranks.py [--only simclr,bert]
"""

import argparse
import json
import tempfile
from pathlib import Path

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from bench import HERE
from torch import Tensor

from sslzoo.build import build
from sslzoo.compare.process import Command
from sslzoo.data.loader import train_loader
from sslzoo.nn.drop_path import rows_of
from sslzoo.pretrain import Pretrain
from sslzoo.run import commit, machine, write_json
from sslzoo.train.plan import epoch_steps

RESULT, BATCHES, SEED = HERE / "results" / "ranks.json", 4, 0
IMAGE = ["data=digits", "data.batch.size=32"]
SPEECH = ["data=spoken", "data.batch.seconds=24"]
TEXT = ["data=docstrings", "data.batch.tokens=2048"]
OBJECTIVES = {
    "simclr": [*IMAGE, "encoder=resnet_small"],
    "moco": [*IMAGE, "encoder=resnet_small", "objective.queue=256"],
    "byol": [*IMAGE, "encoder=resnet_small"],
    "swav": [*IMAGE, "encoder=resnet_small"],
    "vicreg": [*IMAGE, "encoder=resnet_small", "objective.hidden_dim=512", "objective.output_dim=512"],
    "rotation": [*IMAGE, "encoder=resnet_small"],
    "deepcluster": [*IMAGE, "encoder=resnet_small"],
    "mae": [*IMAGE, "encoder=vit_small"],
    "dino": [*IMAGE, "encoder=vit_small", "objective.hidden_dim=512", "objective.prototypes=512"],
    "wav2vec2": [*SPEECH, "encoder=logmel_small"],
    "best_rq": [*SPEECH, "encoder=logmel_small"],
    "data2vec": [*SPEECH, "encoder=logmel_small"],
    "cpc": [*SPEECH, "encoder=gru_small"],
    "bert": [*TEXT, "encoder=text_small"],
    "gpt": [*TEXT, "encoder=gpt_small"],
}


def gradients(words: list[str], rank: int = 0, world: int = 1) -> list[Tensor]:
    """The loss and, behind it, all gradients of each batch: float64 [1 + weights] a batch."""
    job = build({k: v for k, v in Command().compose("pretrain", words).items() if k not in ("name", "root")})
    split, found = job.data.split("train"), []
    job.encoder.fit(split, SEED)
    job.objective.prepare(len(split), epoch_steps(split, job.data.batch, job.objective.min_batch), SEED)
    module = Pretrain(job.encoder, job.objective, job.optim, SEED, BATCHES)
    loader = train_loader(split, job.data.batch, SEED, 0, BATCHES, rank, world, job.objective.min_batch)
    for step, batch in enumerate(loader):
        module.zero_grad()
        with rows_of(batch.row_seeds):
            loss = module.objective(module.encoder, batch, step)
        value, weight = module.weigh(loss)
        value.backward()
        names, logs = module.reduce(loss, weight)
        flat = torch.cat([p.grad.flatten().double() for p in module.parameters() if p.grad is not None])
        if world > 1:
            dist.all_reduce(flat)
        found.append(torch.cat([logs[names.index("loss")].double().reshape(1), flat / world]))
    return found


def on_rank(rank: int, words: list[str], folder: str) -> None:
    torch.set_num_threads(1)
    dist.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    found = gradients(words, rank, 2)
    if rank == 0:
        torch.save(found, Path(folder) / "found.pt")
    dist.destroy_process_group()


def on_two_ranks(words: list[str]) -> list[Tensor]:
    with tempfile.TemporaryDirectory() as folder:
        mp.start_processes(on_rank, (words, folder), nprocs=2, start_method="fork")
        return torch.load(Path(folder) / "found.pt", weights_only=True)


def apart(found: list[Tensor], other: list[Tensor]) -> dict[str, float]:
    """The largest difference over batches, of the second's: of the loss, and of the gradient in norm."""
    pairs = list(zip(found, other, strict=True))
    return {
        "loss": max(float((a[0] - b[0]).abs() / b[0].abs()) for a, b in pairs),
        "gradient": max(float((a[1:] - b[1:]).norm() / b[1:].norm()) for a, b in pairs),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--only", help="objectives, separated by commas")
    said = parser.parse_args()
    rows = json.loads(RESULT.read_text())["objectives"] if RESULT.exists() else {}
    for name in said.only.split(",") if said.only else OBJECTIVES:
        words = [f"objective={name}", *OBJECTIVES[name]]
        torch.set_num_threads(2)
        threads = gradients(words)
        torch.set_num_threads(1)
        one = gradients(words)
        rows[name] = {"ranks": apart(on_two_ranks(words), one), "threads": apart(threads, one)}
        print(name, rows[name], flush=True)
        write_json(RESULT, {"batches": BATCHES, "objectives": rows, "machine": machine(), "commit": commit()})


if __name__ == "__main__":
    main()
