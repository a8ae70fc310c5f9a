"""What every benchmark does: run a comparison, and keep its figures where the README's tables are made from."""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
SHARED = "../shared/data"  # the real sets, from the project's root; --data says where else


def measure(comparison: str, about: str, data: bool) -> None:
    """Run `sslzoo compare comparison=<comparison>` over seeds, resumable, and store its results.

    data: whether the comparison needs real sets, whose folder it finds in the variable SSLZOO_DATA.
    """
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--seeds", default="0,1,2", help="seeds, separated by commas (default 0,1,2)")
    if data:
        parser.add_argument("--data", default=SHARED, help=f"the folder of the real sets (default {SHARED})")
    said = parser.parse_args()
    name = f"bench_{comparison}"
    command = [sys.executable, "-m", "sslzoo", "compare", f"comparison={comparison}", f"name={name}", f"seeds=[{said.seeds}]"]
    if data:
        os.environ["SSLZOO_DATA"] = said.data
    code = subprocess.run(command).returncode
    for kind in ("json", "md"):
        found = Path("runs") / name / f"results.{kind}"
        if found.exists():
            (HERE / "results").mkdir(exist_ok=True)
            shutil.copy(found, HERE / "results" / f"{comparison}.{kind}")
    sys.exit(code)
