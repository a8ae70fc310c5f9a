"""Encoders of other libraries: `sslzoo import`, and SOURCE:WHAT (`hf:FOLDER`) in place of a run's name."""

import json
import re
import sys
from pathlib import Path
from typing import TextIO

from sslzoo.cli import following
from sslzoo.cli.flags import Parser
from sslzoo.errors import ConfigError
from sslzoo.interop.grammar import PREFIXES, is_source

KEYS = ("run", "init", "encoder", "other")  # settings that may be SOURCE:WHAT


def import_(argv: list[str]) -> None:
    """make a run of another library's encoder: sslzoo import hf:FOLDER|torchaudio:…|timm:… [name=…]"""
    parser = Parser(prog="sslzoo import", description=import_.__doc__)
    parser.add_argument(
        "source",
        help="hf:FOLDER, which transformers' save_pretrained wrote; torchaudio:NAME|FILE, torchvision:NAME|FILE, "
        "timm:NAME|FILE, fairseq:FILE, from local files alone; class:module.Class, an Encoder of your own; untrained:RUN",
    )
    parser.add_argument("--name", help="of the run (name=…); made from the folder's name and a hash of what is in it")
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where runs lie (root=…; default: runs)")
    args = parser.parse_args([f"--{word}" if word.startswith(("name=", "root=")) else word for word in argv])
    if not is_source(args.source):
        raise ConfigError(f"import takes {', '.join(f'{x}:…' for x in PREFIXES)}, such as hf:FOLDER; got {args.source}")
    run = taken_in(args.source, args.root, args.name, sys.stdout)
    print(f"wrote {run}\nnext:  {following.after_importing(run)}")


def taken_in(source: str, root: Path, name: str | None = None, out: TextIO | None = None) -> Path:
    """The folder of the run that SOURCE:WHAT is imported to; prints a summary to `out`, stderr by default, if new."""
    from sslzoo.interop.importing import import_run, summary

    run, made = import_run(source, root, name)
    if made:
        print(summary(run, source), file=out or sys.stderr)
    return run.folder


def with_imported(command: str, argv: list[str]) -> list[str]:
    """The words of a command line with each SOURCE:WHAT imported and replaced by its run; in a sweep, of run=hf:A,hf:B
    each. encoder=hf:FOLDER of `pretrain` becomes an option in a config folder within the run, plus init=<run>."""
    if command == "bench":  # which takes several, and imports them itself
        return argv
    named = [word for word in argv if re.match(rf"({'|'.join(KEYS)})=(.*,)?({'|'.join(PREFIXES)}):", word)]
    if not named:
        return argv
    root = next((Path(word.removeprefix("root=")) for word in reversed(argv) if word.startswith("root=")), Path("runs"))
    found = []
    for word in argv:
        key, _, source = word.partition("=")
        if word not in named:
            found.append(word)
            continue
        several = [source] if Path(source.partition(":")[2]).exists() else source.split(",")
        runs = [taken_in(one, root) if is_source(one) else Path(one) for one in several]
        if key == "encoder" and command == "pretrain":
            if len(runs) > 1:
                raise ConfigError(f"{word} names several encoders: pretrain takes one at a time")
            [run] = runs
            if any(other.startswith("init=") for other in argv):
                raise ConfigError(f"{word} begins with that encoder's weights: leave out init=…")
            options = json.dumps([f"file://{(run / 'conf').resolve()}"], ensure_ascii=False)
            found += [f"hydra.searchpath={options}", f"encoder={run.name}", f"init={run}"]
        else:
            found.append(f"{'run' if key == 'encoder' else key}={','.join(map(str, runs))}")
    return found
