"""`sslzoo list`: the options of config groups. Imports no torch."""

import json
from pathlib import Path

from sslzoo.cli.flags import Parser
from sslzoo.config import GROUPS, options
from sslzoo.errors import ConfigError, nearest


def list_(argv: list[str]) -> None:
    """what can be composed: sslzoo list [objectives|encoders|data|tasks|recipes|…] [--json]"""
    parser = Parser(prog="sslzoo list", description=list_.__doc__)
    parser.add_argument("group", nargs="?", help=", ".join(GROUPS))
    parser.add_argument("--json", action="store_true", help="print JSON")
    parser.add_argument("--config-dir", "-cd", action="append", type=Path, default=[], help="a config folder of yours")
    args = parser.parse_args(argv)
    args.group = {folder: group for group, folder in GROUPS.items()}.get(args.group, args.group)
    if args.group and args.group not in GROUPS:
        raise ConfigError(
            f"there is no group '{args.group}'{nearest(args.group, GROUPS)} — groups: {', '.join(GROUPS)}"
        )
    groups = [args.group] if args.group else list(GROUPS)
    found = {group: options(GROUPS[group], args.config_dir) for group in groups}
    if args.json:
        print(json.dumps(found[args.group] if args.group else found, indent=1))
        return
    for group in groups:
        if len(groups) > 1:
            print(f"\n{group}  ({GROUPS[group]}=…)")
        wide = max(map(len, found[group]), default=0)
        for name, line in found[group].items():
            print(f"  {name:{wide}}  {line}")
