"""Faults, really caused: processes killed at random moments, signals, damaged checkpoints, a full disk, files that
vanish, two processes on one run, lost ranks, not a number in the batch of one, a link between two hosts that is cut.
After each the same command goes on, and the weights at the end are compared, bit for bit,
with those of a run that nothing happened to.

    python benchmarks/faults.py [--kills 50] [--only kill,sigterm] [--out benchmarks/results/faults.json]

With --only the rows of other faults stay as they are.
"""

import argparse
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from two_hosts import launched, refused, two_hosts

from sslzoo.run import commit, machine, write_json

STEPS = 120
WORDS = [
    "pretrain", "objective=rotation", "data=image_shards", "encoder=resnet_small", "data.batch.size=16", "data.size=32",
    f"trainer.max_steps={STEPS}", "trainer.save_every=7", "trainer.progress=false", "name=run",
]  # fmt: skip


class Trial:
    """A run in a folder of its own."""

    def __init__(self, folder: Path, shards: Path, *more: str):
        self.folder, self.run = folder, folder / "runs" / "run"
        folder.mkdir(parents=True, exist_ok=True)
        self.words = [sys.executable, "-m", "sslzoo", *WORDS, f"data.path={shards}", f"root={folder / 'runs'}", *more]

    def start(self, **how) -> subprocess.Popen:
        said = open(self.folder / "said.txt", "a")  # noqa: SIM115 (the process has it)
        return subprocess.Popen(self.words, stdout=said, stderr=said, start_new_session=True, **how)

    def finish(self, **how) -> int:
        return self.start(**how).wait(600)

    def said(self) -> str:
        return (self.folder / "said.txt").read_text(errors="replace")

    def begun(self, process: subprocess.Popen, checkpoints: int = 1, seconds: float = 120.0) -> None:
        """Wait for so many checkpoints, or the end of the process."""
        end = time.monotonic() + seconds
        while len(self.saved()) < checkpoints and process.poll() is None and time.monotonic() < end:
            time.sleep(0.01)

    def saved(self) -> list[Path]:
        return sorted((self.run / "checkpoints").glob("step=*.ckpt"))

    def same(self, whole: "Trial") -> bool:
        ours, theirs = self.run / "encoder.safetensors", whole.run / "encoder.safetensors"
        return ours.exists() and ours.read_bytes() == theirs.read_bytes()


def last_step(trial: Trial) -> int:
    return int(trial.saved()[-1].stem.partition("=")[2]) if trial.saved() else 0


def kill(trial: Trial, draw: random.Random, times: int) -> dict:
    """SIGKILL at random moments, of one run after the other until it was done often enough; nothing that was written as
    done is lost, and all end with the same weights."""
    done = lost = runs = 0
    ends = set()
    while done < times:
        left = set(trial.run.rglob("*.unfinished"))  # of those that were killed before
        process, before = trial.start(), last_step(trial)
        if done % 3 == 0:  # while something is written, every other time a checkpoint: as soon as its file is begun
            end, start = time.monotonic() + 60, ".step=" if done % 2 else "."
            while (
                not set(trial.run.rglob(f"{start}*.unfinished")) - left
                and process.poll() is None
                and time.monotonic() < end
            ):
                time.sleep(0.0005)
        else:
            time.sleep(draw.uniform(0.5, 8.0))
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            done += 1
            lost += last_step(trial) < before
        if (trial.run / "DONE").exists() and done < times:
            ends.add((trial.run / "encoder.safetensors").read_bytes())
            runs += 1
            shutil.rmtree(trial.run)
    code = trial.finish()
    ends.add((trial.run / "encoder.safetensors").read_bytes())
    return {"tried": done, "runs": runs + 1, "checkpoints_lost": lost, "different_ends": len(ends) - 1, "exit": code}


def told(number: int):
    def fault(trial: Trial, draw: random.Random, times: int) -> dict:
        process = trial.start()
        trial.begun(process)
        time.sleep(draw.uniform(0, 0.5))
        process.send_signal(number)
        code = process.wait(120)
        return {"tried": 1, "stopped_with": code, "exit": trial.finish()}

    return fault


def damaged(spoil):
    """A checkpoint is damaged after a kill: the one before it is used, and it is said."""

    def fault(trial: Trial, draw: random.Random, times: int) -> dict:
        process = trial.start()
        trial.begun(process, 2)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        path = trial.saved()[-1]
        spoil(path, draw)
        code = trial.finish()
        return {"tried": 1, "said": f"passed over {path.name}" in trial.said(), "exit": code}

    return fault


def flip(path: Path, draw: random.Random) -> None:
    content = bytearray(path.read_bytes())
    content[draw.randrange(len(content))] ^= 1 << draw.randrange(8)
    path.write_bytes(content)


def truncate(path: Path, draw: random.Random) -> None:
    path.write_bytes(path.read_bytes()[: draw.randrange(path.stat().st_size)])


def full_disk(trial: Trial, draw: random.Random, times: int) -> dict:
    """No file may grow to a checkpoint's size: as on a full disk a part of it is written."""
    small = 100_000
    first = trial.finish(preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (small, resource.RLIM_INFINITY)))
    return {"tried": 1, "stopped_with": first, "said": "cannot write" in trial.said(), "exit": trial.finish()}


def vanished(trial: Trial, draw: random.Random, times: int) -> dict:
    """A shard is moved away while it is read, and back."""
    shards = Path(next(w for w in trial.words if w.startswith("data.path=")).partition("=")[2])
    own = shutil.copytree(shards, trial.folder / "shards")
    trial.words = [f"data.path={own}" if w.startswith("data.path=") else w for w in trial.words]
    process = trial.start()
    trial.begun(process)
    shard = min(own.glob("train-*.tar"))
    shard.rename(own / "away")
    first = process.wait(300)
    (own / "away").rename(shard)
    return {
        "tried": 1,
        "stopped_with": first,
        "said": f"{shard.name}: No such file" in trial.said(),
        "exit": trial.finish(),
    }


def twice(trial: Trial, draw: random.Random, times: int) -> dict:
    """A second process on the run is refused; a killed first one leaves no lock."""
    process = trial.start()
    trial.begun(process)
    second = trial.finish()
    refused = "is being written by another process" in trial.said()
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    return {"tried": 1, "refused_with": second, "said": refused, "exit": trial.finish()}


def lost_rank(number: int, message: str, trainer: str = "ddp"):
    """One of two ranks is killed, or stands still: the other ends and names it."""

    def fault(trial: Trial, draw: random.Random, times: int) -> dict:
        trial.words += [f"trainer={trainer}", *TWO, "trainer.rank_timeout=40"]
        process = trial.start()
        trial.begun(process)
        other = json.loads((trial.run / ".rank-1").read_text())[1]
        os.kill(other, number)
        begun = time.monotonic()
        code = process.wait(300)
        took = time.monotonic() - begun
        return {
            "tried": 1,
            "stopped_with": code,
            "said": message in trial.said(),
            "seconds": took,
            "exit": trial.finish(),
        }

    return fault


NOT_A_NUMBER = """\
import os

import lightning as L
import torch


class NotANumber(L.Callback):
    def on_train_batch_start(self, trainer, module, batch, batch_idx):
        if os.environ.get("NOT_A_NUMBER") == str(trainer.global_step) and trainer.global_rank == 1:
            batch.inputs = torch.full_like(batch.inputs, torch.nan, dtype=torch.float32)
"""


def nan_batch(trial: Trial, draw: random.Random, times: int) -> dict:
    """The pixels of the second rank's batch are not numbers: both ranks end, and name its batch."""
    (trial.folder / "own").mkdir()
    (trial.folder / "own" / "not_a_number.py").write_text(NOT_A_NUMBER)
    trial.words += ["trainer=ddp", *TWO, "--config-dir", str(trial.folder / "own")]
    trial.words += ["+callbacks.own._target_=not_a_number.NotANumber"]
    step = str(draw.randrange(20, STEPS))
    first = trial.finish(env={**os.environ, "NOT_A_NUMBER": step})
    said = f"not finite at step {step}" in trial.said() and "rank 1: loss nan, batch of items" in trial.said()
    return {"tried": 1, "stopped_with": first, "said": said, "exit": trial.finish()}


def cut_link(trial: Trial, draw: random.Random, times: int) -> dict:
    """Two ranks on two hosts, started by torchrun; the link between the hosts is cut: both ranks end and say so. Once
    it is mended, the same command goes on."""
    words = [*trial.words[trial.words.index("pretrain") :], "trainer=ddp_cpu", f"trainer.rank_timeout={LINK_TIMEOUT}"]
    with two_hosts(trial.folder) as hosts:

        def start() -> list[subprocess.Popen]:
            return [host.start(launched(words), trial.folder / f"{host.name}.txt") for host in hosts]

        processes = start()
        trial.begun(processes[0])
        hosts[0].link("down")
        begun, ended = time.monotonic(), []
        while len(ended) < len(hosts) and time.monotonic() - begun < 300:  # of the ranks; torchrun ends later
            texts = [(trial.folder / f"{host.name}.txt").read_text() for host in hosts]
            ended = [text for text in texts if any(word in text for word in LOST)]
            time.sleep(0.1)
        took = time.monotonic() - begun
        first = max(process.wait(600) for process in processes)
        hosts[0].link("up")
        code = max(process.wait(600) for process in start())
    return {"tried": 1, "stopped_with": first, "said": len(ended) == len(hosts), "seconds": took, "exit": code}


FAULTS = {
    "kill": kill,
    "sigterm": told(signal.SIGTERM),
    "sigusr1": told(signal.SIGUSR1),
    "flipped byte": damaged(flip),
    "truncated": damaged(truncate),
    "full disk": full_disk,
    "vanished shard": vanished,
    "two processes": twice,
    "rank killed": lost_rank(signal.SIGKILL, "rank 1 (pid"),
    "rank hangs": lost_rank(signal.SIGSTOP, "stands still"),
    "sharded rank hangs": lost_rank(signal.SIGSTOP, "stands still", "fsdp"),
    "NaN in one rank's batch": nan_batch,
    "link between two hosts cut": cut_link,
}
TWO = ["trainer.accelerator=cpu", "trainer.devices=2"]
RANKS = ("rank killed", "rank hangs", "NaN in one rank's batch", "link between two hosts cut")  # as two ranks end
SHARDED = ("sharded rank hangs",)  # as two ranks of `trainer=fsdp` end
LINK_TIMEOUT = 15  # seconds that a rank waits for the other host's
LOST = ("stands still", "gave no answer within trainer.rank_timeout")  # of the other host's rank


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=50, help="how often runs are killed, in all")
    parser.add_argument("--only", default=",".join(FAULTS), help="faults, separated by commas")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "results" / "faults.json")
    said = parser.parse_args()
    draw, rows = random.Random(said.seed), {}
    if said.out.exists():
        before = json.loads(said.out.read_text(encoding="utf-8"))
        rows = {name: {"commit": before["commit"], **row} for name, row in before["faults"].items()}
    with tempfile.TemporaryDirectory() as place:
        os.environ["SSLZOO_CACHE"] = f"{place}/cache"
        shards = Path(place) / "shards"
        words = [
            "shard",
            "data=digits",
            "data.train=200",
            "data.valid=40",
            "data.test=40",
            "shard_mb=0.2",
            f"out={shards}",
        ]
        subprocess.run([sys.executable, "-m", "sslzoo", *words], check=True, stdout=subprocess.DEVNULL)
        names = said.only.split(",")
        whole = Trial(Path(place) / "whole", shards)
        assert whole.finish() == 0, whole.said()
        wholes = dict.fromkeys(names, whole)
        for trainer, of in (("ddp", RANKS), ("fsdp", SHARDED)):
            if set(names) & set(of):
                two = Trial(Path(place) / f"whole-{trainer}", shards, f"trainer={trainer}", *TWO)
                assert two.finish() == 0, two.said()
                wholes |= dict.fromkeys(of, two)
        for name in names:
            if name == "link between two hosts cut" and (why := refused()):
                print(f"{name}: left out, {why}", flush=True)
                continue
            trial = Trial(Path(place) / re.sub(r"\W", "-", name), shards)
            found = FAULTS[name](trial, draw, said.kills)
            rows[name] = {**found, "same_weights": trial.same(wholes[name]), "commit": commit()}
            print(name, rows[name], flush=True)
    ordered = {name: rows[name] for name in FAULTS if name in rows}
    write_json(said.out, {"steps": STEPS, "faults": ordered, "commit": commit(), "machine": machine()})
    print(f"wrote {said.out}")


if __name__ == "__main__":
    main()
