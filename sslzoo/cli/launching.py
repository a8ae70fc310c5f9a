"""`sslzoo launch`: the job script of a run on several hosts, under SLURM or by torchrun."""

import re
import shlex
import shutil
import subprocess
import sys
import time
from pathlib import Path

from sslzoo.cli.flags import Parser, config_folders, use_folders, without_allowed
from sslzoo.errors import ConfigError, UserError, nearest
from sslzoo.ports import is_free

PATIENCE = 30.0  # seconds that torchrun has to end after its ranks
SLURM = """\
#!/bin/bash
#SBATCH --job-name={name}
#SBATCH --nodes={hosts}
#SBATCH --ntasks-per-node={ranks}
{resources}#SBATCH --time={time}
#SBATCH --signal=B:USR1@120
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output={name}-%j.out

# two minutes before the time limit the run saves a checkpoint and ends; the job is queued again, and continues it
again=0
trap 'again=1; kill -USR1 "$step"' USR1
srun --ntasks={all} --kill-on-bad-exit=1 {command} &
step=$!
wait "$step"; code=$?
if [ "$again" = 1 ]; then wait "$step"; scontrol requeue "$SLURM_JOB_ID"; exit 0; fi
exit "$code"
"""
TORCHRUN = """\
#!/bin/bash
# {where}
exec torchrun --nnodes={hosts} --nproc-per-node={ranks} --max-restarts=0 \\
    --rdzv-backend=c10d --rdzv-endpoint={endpoint} --rdzv-id={name} \\
    -m {command}
"""


def launch(argv: list[str]) -> None:
    """run on several hosts: sslzoo launch --hosts 2 --ranks 8 --dry-run -- pretrain objective=mae trainer=fsdp"""
    parser = Parser(prog="sslzoo launch", description=launch.__doc__)
    parser.add_argument("--by", choices=["slurm", "torchrun"], default="slurm", help="who starts the ranks")
    parser.add_argument("--hosts", type=int, default=1, help="machines")
    parser.add_argument("--ranks", type=int, default=1, help="ranks a machine, one a GPU")
    parser.add_argument("--name", default="sslzoo", help="of the job")
    parser.add_argument("--partition", help="SLURM: the partition")
    parser.add_argument("--account", help="SLURM: the account")
    parser.add_argument("--time", default="24:00:00", help="SLURM: the time limit, after which the job queues again")
    parser.add_argument("--gpus", type=int, help="SLURM: GPUs a machine (default: as many as ranks; 0 for none)")
    parser.add_argument("--cpus", type=int, default=8, help="SLURM: cores a rank")
    parser.add_argument("--host", default="127.0.0.1", help="torchrun: the address of the first machine")
    parser.add_argument("--port", type=int, default=29500, help="torchrun: a port of the first machine")
    parser.add_argument("--dry-run", action="store_true", help="print the job script, and start nothing")
    parser.add_argument("command", nargs="*", help="after --: pretrain or adapt, and its settings")
    args = parser.parse_args(argv)
    words = _with_ranks(args.command, args.hosts, args.ranks)
    if not re.fullmatch(r"[\w.-]+", args.name):
        raise ConfigError(f"--name={args.name} cannot name a job: use letters, digits, '.', '_' and '-'")
    _check(words, args.hosts * args.ranks)
    script = _slurm(args, words) if args.by == "slurm" else _torchrun(args, words)
    if args.dry_run:
        print(script, end="")
        return
    if args.by == "slurm":
        if shutil.which("sbatch") is None:
            raise UserError("there is no sbatch on this machine: --by torchrun, or --dry-run for the script alone")
        done = subprocess.run(["sbatch"], input=script, text=True, capture_output=True, check=False)
        if done.returncode:
            raise UserError(f"sbatch refused the job: {' '.join(done.stderr.split())}")
        print(done.stdout.strip())
        return
    if code := _run(script):
        raise UserError(f"torchrun ended with {code}: the same command goes on from the last checkpoint")


def _run(script: str) -> int:
    """Run torchrun's script; its exit code. Where the first host cannot be reached any more, torchrun may wait for its
    store for as long as the system keeps the connection, long after its ranks have ended: then it is ended."""
    from sslzoo.train.heartbeat import has_ended

    running, ranks_seen, last_seen = subprocess.Popen(["bash", "-c", script]), False, time.monotonic()
    try:
        while running.poll() is None:
            if not all(map(has_ended, _children(running.pid))):  # torchrun, which waits, leaves zombies
                ranks_seen, last_seen = True, time.monotonic()
            elif ranks_seen and time.monotonic() - last_seen > PATIENCE:
                running.kill()  # it does not hear SIGTERM
                running.wait()
                return 1
            time.sleep(0.1)
    except BaseException:
        running.terminate()
        running.wait()
        raise
    return running.returncode


def _children(process: int) -> list[int]:
    """A process's children; none where this system does not tell."""
    try:
        found = Path(f"/proc/{process}/task/{process}/children").read_text(encoding="ascii")
    except OSError:
        return []
    return [int(number) for number in found.split()]


def _with_ranks(words: list[str], hosts: int, ranks: int) -> list[str]:
    """The command's words, with the trainer's devices and nodes. Raises ConfigError if they say other numbers."""
    if hosts < 1 or ranks < 1:
        raise ConfigError(f"--hosts and --ranks must be at least 1, got {hosts} and {ranks}")
    if not words or words[0] not in ("pretrain", "adapt"):
        raise ConfigError("sslzoo launch … -- pretrain (or adapt), then its settings: there is nothing to launch")
    for key, number, flag in (("trainer.devices", ranks, "--ranks"), ("trainer.nodes", hosts, "--hosts")):
        said = [word.partition("=")[2] for word in words if word.lstrip("+").partition("=")[0] == key]
        if any(value != str(number) for value in said):
            raise ConfigError(f"{flag} {number} and {key}={said[-1]} differ: leave out {key}")
        words = words if said else [*words, f"{key}={number}"]
    if hosts * ranks > 1 and not any(re.match(r"trainer(\.strategy)?=", word) for word in words):
        words = [*words, "trainer=ddp"]
    return words


def _check(words: list[str], ranks: int) -> None:
    """Raise the errors that the command would raise for its settings, and for a batch too small for the ranks. This
    machine need not have the GPUs."""
    if words[0] != "pretrain":
        return  # its settings depend on a run
    from sslzoo import build
    from sslzoo.cli.importing import with_imported
    from sslzoo.compare.process import Command
    from sslzoo.initial import pinned, with_codes

    use_folders(folders := config_folders(words))
    given = [word for word in without_allowed(words[1:]) if "=" in word and not word.startswith("-")]
    config = Command(folders).compose("pretrain", with_imported("pretrain", given))
    root = Path(str(config.pop("root")))
    config["init"] = pinned(config["init"], root, config["objective"])
    config["encoder"] = with_codes(config["encoder"], root)
    config["trainer"] |= {"accelerator": "cpu"}
    build.build(config)


def _slurm(args, words: list[str]) -> str:
    if args.partition is not None and shutil.which("sinfo"):
        listed = subprocess.run(["sinfo", "-h", "-o", "%R"], capture_output=True, text=True, check=False)
        there = sorted(set(listed.stdout.split()))
        if listed.returncode == 0 and args.partition not in there:
            raise ConfigError(
                f"there is no partition '{args.partition}'{nearest(args.partition, there)} — sinfo has: {', '.join(there)}"
            )
    elif args.partition is not None:
        print("no sinfo on this machine: --partition is not checked", file=sys.stderr)
    gpus = args.ranks if args.gpus is None else args.gpus
    lines = [f"--cpus-per-task={args.cpus}", *([f"--gpus-per-node={gpus}"] if gpus else [])]
    lines += [f"--{key}={getattr(args, key)}" for key in ("partition", "account") if getattr(args, key) is not None]
    return SLURM.format(
        name=args.name,
        hosts=args.hosts,
        ranks=args.ranks,
        all=args.hosts * args.ranks,
        time=args.time,
        resources="".join(f"#SBATCH {line}\n" for line in lines),
        command=shlex.join(["sslzoo", *words]),
    )


def _torchrun(args, words: list[str]) -> str:
    if args.hosts > 1 and args.host in ("127.0.0.1", "localhost"):
        raise ConfigError("--host is the first machine's address, which the others must reach: set --host ADDRESS")
    if not is_free(args.host, args.port):
        raise UserError(f"port {args.port} is in use on this machine: choose another --port")
    where = "to be run on this machine" if args.hosts == 1 else f"to be run on each of the {args.hosts} machines"
    return TORCHRUN.format(
        where=where,
        hosts=args.hosts,
        ranks=args.ranks,
        endpoint=f"{args.host}:{args.port}",
        name=args.name,
        command=shlex.join(["sslzoo", *words]),
    )
