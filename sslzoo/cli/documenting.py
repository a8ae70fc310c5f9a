"""`sslzoo docs`: the documentation as a site."""

from pathlib import Path

from sslzoo.cli.flags import Parser


def docs(argv: list[str]) -> None:
    """build the documentation, a page of each objective included: sslzoo docs out=site"""
    parser = Parser(prog="sslzoo docs", description=docs.__doc__)
    parser.add_argument("--out", type=Path, default=Path("site"), help="out=FOLDER for the site (default: site)")
    args = parser.parse_args([f"--{word}" if word.startswith("out=") else word for word in argv])
    from sslzoo.docs.site import build

    pages = build(args.out)
    print(f"wrote {args.out}/index.html: {pages} pages")
