"""`sslzoo doctor`: checks the machine and the installed packages."""

import importlib.metadata
import os
import shutil
import sys
import tempfile
from pathlib import Path

NEEDED = [
    "torch",
    "torchvision",
    "torchaudio",
    "lightning",
    "hydra-core",
    "faiss-cpu",
    "soundfile",
    "soxr",
    "tokenizers",
]
EXTRAS = {
    "espeakng-loader": "the built-in set `spoken`: pip install 'sslzoo[spoken]'",
    "tensorboard": "logger=tensorboard: pip install 'sslzoo[tensorboard]'",
    "zstandard": "texts and tables that are .zst: pip install 'sslzoo[zstd]'",
    "wandb": "logger=wandb: pip install 'sslzoo[wandb]'",
}


def version(package: str) -> str | None:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def examine(ranks: int | None = None) -> bool:
    """Print the checks; True if none fails. ranks: also try so many processes together, see `cli.ranks`."""
    well = True

    def say(ok: bool | None, text: str) -> None:
        nonlocal well
        well &= ok is not False
        print({True: "ok    ", False: "FAILS ", None: "-     "}[ok], text)

    say((3, 11) <= sys.version_info[:2] < (3, 14), f"Python {sys.version.split()[0]} (3.11 to 3.13)")
    for package in NEEDED:
        found = version(package)
        say(found is not None, f"{package} {found or 'is missing: pip install sslzoo'}")
    for module in ("torchvision", "torchaudio"):
        try:
            __import__(module)
        except Exception as error:  # noqa: BLE001 (whatever an extension of another torch raises)
            say(
                False,
                f"{module} does not load beside this torch ({str(error).splitlines()[0]}): pip install -c constraints.txt sslzoo",
            )
    for package, use in EXTRAS.items():
        found = version(package)
        say(True if found else None, f"{package} {found or 'is not installed; needed for ' + use}")
    import torch

    if torch.cuda.is_available():
        for number in range(torch.cuda.device_count()):
            bf16 = "bf16" if torch.cuda.is_bf16_supported() else "no bf16"
            memory = torch.cuda.get_device_properties(number).total_memory / 2**30
            say(True, f"GPU {number}: {torch.cuda.get_device_name(number)}, {memory:.0f} GiB, {bf16}")
    else:
        say(None, f"no usable GPU: training runs on {os.cpu_count()} CPU cores")
    from sslzoo.data import shared_memory

    if (room := shared_memory.free()) is not None:
        few = room < 2**30
        more = ": loader workers (trainer.workers) have room for few batches; in Docker, --shm-size gives more"
        say(None if few else True, f"{room / 2**20:.0f} MiB free in {shared_memory.PLACE}{more if few else ''}")
    say(torch.distributed.is_available(), "torch.distributed (trainer=ddp)")
    try:
        with tempfile.TemporaryFile(dir=Path.cwd()):
            free = shutil.disk_usage(Path.cwd()).free / 2**30
        say(free > 1, f"{free:.0f} GiB free here" + ("" if free > 1 else ": checkpoints will not fit"))
    except OSError as error:
        say(False, f"cannot write here ({error.strerror}): runs/ goes into the current folder, or root=…")
    if ranks is not None:
        from sslzoo.cli.ranks import examine_ranks

        examine_ranks(ranks, say)
    return well
