"""`sslzoo export`: a run's weights under the names of another library."""

import tempfile
from pathlib import Path

from sslzoo.cli import following, importing
from sslzoo.cli.flags import Parser
from sslzoo.errors import ConfigError
from sslzoo.interop.grammar import is_source

KEYS = ("run", "to", "out", "root", "adapted")


def export(argv: list[str]) -> None:
    """write a run's weights for another library: sslzoo export run=runs/… to=hf|torchaudio|timm|… out=FOLDER"""
    parser = Parser(prog="sslzoo export", description=export.__doc__)
    parser.add_argument("--run", help="run=RUN: a finished run, by its folder or its name's start, or hf:FOLDER")
    parser.add_argument(
        "--to",
        help="to=hf, torchaudio, torchvision, timm, onnx: what that library opens; to=safetensors: under this project's names",
    )
    parser.add_argument("--out", type=Path, help="out=FOLDER, which is made")
    parser.add_argument(
        "--adapted", help="adapted=NAME: the encoder after `sslzoo adapt`, LoRA merged, by its folder's name"
    )
    parser.add_argument("--root", type=Path, default=Path("runs"), help="where runs lie (root=…; default: runs)")
    args = parser.parse_args([f"--{word}" if word.partition("=")[0] in KEYS else word for word in argv])
    for key in ("run", "to", "out"):
        if getattr(args, key) is None:
            raise ConfigError(f"{key} is required: sslzoo export run=runs/… to=hf out=FOLDER")
    from sslzoo.interop import targets
    from sslzoo.run import Run

    run = args.run
    if is_source(run):
        run = str(importing.taken_in(run, args.root))
    found = Run.find(run, args.root)
    with tempfile.TemporaryDirectory() as beside:
        if args.adapted is not None:
            from sslzoo.adapt.plain import as_run

            found.check_finished()
            found = as_run(found, args.adapted, Path(beside) / f"{found.name}-{args.adapted}")
        said = targets.export(found, args.to, args.out)
    print(f"wrote {args.out}: {said}")
    if args.to == "hf":
        print(f"next:  {following.command('probe', f'run=hf:{args.out}', 'task=…')}")
