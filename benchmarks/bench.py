"""What every benchmark does: run a comparison, and keep its figures where the README's tables are made from."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

from sslzoo.compare.process import signals_as_interrupt

HERE = Path(__file__).parent
SHARED = "../shared/data"  # the real sets, from the project's root; --data says where else


def arguments(about: str, data: bool) -> argparse.ArgumentParser:
    """What every benchmark takes. data: whether it needs real sets."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas (default 0,1,2)")
    if data:
        parser.add_argument("--data", default=SHARED, help=f"the folder of the real sets (default {SHARED})")
    return parser


def compare(comparison: str, seeds: str, data: str | None = None, encoder: str | None = None) -> int:
    """Run `sslzoo compare comparison=<comparison>`, which goes on where it was stopped, store its results, and
    return its exit code. data: the folder of the real sets, which it finds in the variable SSLZOO_DATA. encoder: the
    run that a comparison of adaptations adapts."""
    name = f"bench_{comparison}"
    overrides = [f"comparison={comparison}", f"name={name}", f"seeds=[{seeds}]"]
    overrides += [] if encoder is None else [f"run={encoder}"]
    if data is not None:
        os.environ["SSLZOO_DATA"] = data
    code = run([sys.executable, "-m", "sslzoo", "compare", *overrides])
    for kind in ("json", "md"):
        found = Path("runs") / name / f"results.{kind}"
        if found.exists():
            (HERE / "results").mkdir(exist_ok=True)
            shutil.copy(found, HERE / "results" / f"{comparison}.{kind}")
    return code


def run(command: list[str]) -> int:
    """A command's exit code. An interrupt or SIGTERM is passed on and waited for, for the command ends its own."""
    with signals_as_interrupt():
        child = subprocess.Popen(command)
        try:
            return child.wait()
        except KeyboardInterrupt:
            child.terminate()
            child.wait()
            raise SystemExit("stopped: the same command goes on from here") from None


def measure(comparison: str, about: str, data: bool) -> None:
    """A benchmark that is one comparison."""
    said = arguments(about, data).parse_args()
    sys.exit(compare(comparison, said.seeds, said.data if data else None))


def seed_by_seed(comparisons: tuple[str, ...], about: str) -> None:
    """A benchmark of several comparisons on real sets: all with the first seed, then with the second, so that every
    figure is there early and its spread later."""
    parser = arguments(about, data=True)
    parser.add_argument("--only", choices=comparisons, action="append", help="one comparison; may be said again")
    said = parser.parse_args()
    seeds, codes = said.seeds.split(","), []
    for number in range(1, len(seeds) + 1):
        for name in said.only or comparisons:
            codes.append(compare(name, ",".join(seeds[:number]), said.data))
    sys.exit(max(codes))
