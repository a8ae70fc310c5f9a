"""Encoders of other libraries: `sslzoo import`, and `hf:FOLDER` in place of a run's name."""

import json
import re
import sys
from pathlib import Path
from typing import TextIO

from sslzoo.cli import following
from sslzoo.cli.flags import Parser
from sslzoo.errors import ConfigError

PREFIX = "hf:"
KEYS = ("run", "init", "encoder", "other")  # settings that may be hf:FOLDER


def import_(argv: list[str]) -> None:
    """make a run of an encoder that transformers wrote: sslzoo import hf:FOLDER [name=…]"""
    parser = Parser(prog="sslzoo import", description=import_.__doc__)
    parser.add_argument("folder", help="hf:FOLDER, which transformers' save_pretrained wrote")
    parser.add_argument("--name", help="of the run (name=…); made from the folder's name and a hash of what is in it")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where runs lie (root=…; default: runs)")
    args = parser.parse_args([f"--{word}" if word.startswith(("name=", "root=")) else word for word in argv])
    if not args.folder.startswith(PREFIX):
        raise ConfigError(f"import takes hf:FOLDER, a folder that transformers wrote; got {args.folder}")
    run = taken_in(args.folder, args.root, args.name, sys.stdout)
    print(f"wrote {run}\nnext:  {following.after_importing(run)}")


def taken_in(source: str, root: Path, name: str | None = None, out: TextIO | None = None) -> Path:
    """The folder of the run that hf:FOLDER is imported to; prints a summary to `out`, stderr by default, if new."""
    from sslzoo.interop.importing import import_run, summary

    run, made = import_run(source, root, name)
    if made:
        print(summary(run, source), file=out or sys.stderr)
    return run.folder


def with_imported(command: str, argv: list[str]) -> list[str]:
    """The words of a command line with each hf:FOLDER imported and replaced by its run; in a sweep, of run=hf:A,hf:B
    each. encoder=hf:FOLDER of `pretrain` becomes an option in a config folder within the run, plus init=<run>."""
    named = [word for word in argv if re.match(rf"({'|'.join(KEYS)})=(.*,)?{PREFIX}", word)]
    if not named:
        return argv
    root = next((Path(word.removeprefix("root=")) for word in reversed(argv) if word.startswith("root=")), Path("runs"))
    found = []
    for word in argv:
        key, _, source = word.partition("=")
        if word not in named:
            found.append(word)
            continue
        several = [source] if Path(source.removeprefix(PREFIX)).is_dir() else source.split(",")
        runs = [taken_in(one, root) if one.startswith(PREFIX) else Path(one) for one in several]
        if key == "encoder" and command == "pretrain":
            if len(runs) > 1:
                raise ConfigError(f"{word} names several encoders: pretrain takes one hf:FOLDER at a time")
            [run] = runs
            if any(other.startswith("init=") for other in argv):
                raise ConfigError(f"{word} begins with that encoder's weights: leave out init=…")
            options = json.dumps([f"file://{(run / 'conf').resolve()}"], ensure_ascii=False)
            found += [f"hydra.searchpath={options}", f"encoder={run.name}", f"init={run}"]
        else:
            found.append(f"{'run' if key == 'encoder' else key}={','.join(map(str, runs))}")
    return found
