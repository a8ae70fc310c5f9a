"""The flags of a command line, and mistakes in them. Imports no torch."""

import argparse
from pathlib import Path

from sslzoo.errors import ConfigError, nearest


def config_folders(argv: list[str]) -> list[Path]:
    """The user's own config folders, from --config-dir and -cd."""
    found = []
    for place, word in enumerate(argv):
        name, _, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            found.append(Path(value or (argv[place + 1] if place + 1 < len(argv) else ".")))
    return found


def check_flags(argv: list[str]) -> None:
    """Refuse a flag that Hydra has not, in one line where its parser would print its whole usage."""
    from hydra._internal.utils import get_args_parser

    known = [*get_args_parser()._option_string_actions, "--traceback"]
    for word in argv:
        flag = word.partition("=")[0]
        if flag.startswith("-") and flag not in known:
            raise ConfigError(
                f"there is no flag '{flag}'{nearest(flag, known)} — flags: --cfg job, --multirun, --config-dir, --traceback"
            )


class Parser(argparse.ArgumentParser):
    """argparse's, with mistakes in one line."""

    def error(self, message: str) -> None:
        raise ConfigError(f"{self.prog.removeprefix('sslzoo ')}: {message} (--help says what it takes)")
