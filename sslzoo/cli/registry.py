"""`sslzoo runs`: the registry of runs. Imports no torch."""

import json
from pathlib import Path

from sslzoo.cli.flags import Parser
from sslzoo.errors import UserError


def runs(argv: list[str]) -> None:
    """the runs that there are, how they stand and what they scored: sslzoo runs [root=runs] [--json]"""
    parser = Parser(prog="sslzoo runs", description=runs.__doc__)
    parser.add_argument("root", nargs="?", default=None, help="the folder that they lie in (root=runs, or a sweep's)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    args = parser.parse_args(argv)
    from sslzoo.report.runs import rows, table

    root = Path((args.root or "runs").removeprefix("root="))
    if args.root and not root.is_dir():
        raise UserError(f"there is no folder {root}: root=… is where the runs lie")
    found = rows(root) if root.is_dir() else []
    if args.json:
        print(json.dumps([row.json() for row in found], indent=1))
    else:
        print(table(found) if found else f"there are no runs in {root}/")
