"""`sslzoo cache`: what is kept between commands, and removing it."""

import time

from sslzoo.cli.flags import Parser
from sslzoo.errors import ConfigError


def cache_(argv: list[str]) -> None:
    """features that are kept for other tasks and commands: sslzoo cache [clear [KEY …]]"""
    parser = Parser(prog="sslzoo cache", description=cache_.__doc__)
    parser.add_argument("action", nargs="?", choices=["clear"], help="remove them, or those of the keys that are given")
    parser.add_argument("keys", nargs="*", help="starts of keys, of the first column")
    args = parser.parse_args(argv)
    from sslzoo.data import cache
    from sslzoo.features.store import entries, remove

    found = entries()
    if args.action is None:
        for folder, about, size in sorted(found, key=lambda entry: -entry[0].stat().st_mtime):
            layers, rows = len(about.get("layers", ())), about.get("rows", 0)
            used = time.strftime("%Y-%m-%d %H:%M", time.localtime(folder.stat().st_mtime))
            what = f"{about.get('class', 'damaged')}, {rows:,} {about.get('what', 'rows')} of {layers} layers"
            print(f"{folder.name[:10]}  {size / 2**20:9,.1f} MB  used {used}  {what}")
        total = sum(size for *_, size in found) / 2**30
        print(f"{len(found)} entries, {total:.2f} GB, in {cache.folder() / 'features'}")
        return
    strange = [key for key in args.keys if not any(folder.name.startswith(key) for folder, *_ in found)]
    if strange:
        raise ConfigError(f"no entry's key begins with {', '.join(strange)}: `sslzoo cache` lists them")
    chosen = [folder for folder, *_ in found if not args.keys or folder.name.startswith(tuple(args.keys))]
    removed = sum(map(remove, chosen))
    kept = len(chosen) - removed
    print(f"removed {removed} of {len(found)} entries" + (f"; {kept} are being written" if kept else ""))
