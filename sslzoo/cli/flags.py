"""Checking the flags of a command line. Imports no torch."""

import argparse
import re
from pathlib import Path
from typing import NoReturn

from sslzoo import allowed
from sslzoo.cli.terminal import modules_last
from sslzoo.compare.process import override
from sslzoo.errors import ConfigError, nearest
from sslzoo.hints import meant

VALUED = (
    "--config-dir",
    "-cd",
    "--config-name",
    "-cn",
    "--config-path",
    "-cp",
    "--cfg",
    "-c",
    "--package",
    "-p",
    "--info",
    "-i",
    "--experimental-rerun",
)
TEXTS = (
    "name",
    "run",
    "root",
    "out",
    "init",
    "targets",
    "baselines",
    "submit",
    "data_root",
)  # settings that are names or paths
OWN_GRAMMAR = r"""(?i:null)$|$|['"\[{]|(choice|range|interval|glob|sort|shuffle|tag|str|int|float|bool)\("""


def config_folders(argv: list[str]) -> list[Path]:
    """The user's config folders, from --config-dir and -cd."""
    return folders_and_rest(argv)[0]


def folders_and_rest(argv: list[str]) -> tuple[list[Path], list[str]]:
    """(the user's config folders, the words without them)."""
    folders, rest, words = [], [], iter(argv)
    for word in words:
        name, equal, value = word.partition("=")
        if name in ("--config-dir", "-cd"):
            folders.append(Path(value if equal else next(words, ".")))
        else:
            rest.append(word)
    return folders, rest


def use_folders(folders: list[Path]) -> None:
    """Allow and find the modules that lie in the user's config folders.
    Raises ConfigError for one that is no folder."""
    for folder in folders:
        if not folder.is_dir():
            raise ConfigError(f"--config-dir {folder} is not a folder")
        allowed.add(allowed.held_by(folder))
    modules_last(folders)


def without_allowed(argv: list[str]) -> list[str]:
    """The words without --allow MODULE and --allow=MODULE, whose modules are allowed (`allowed.check`)."""
    found, named, place = [], [], 0
    while place < len(argv):
        flag, equal, value = argv[place].partition("=")
        if flag != "--allow":
            found.append(argv[place])
        else:
            value = value if equal else argv[place + 1] if place + 1 < len(argv) else ""
            place += not equal
            if not re.fullmatch(r"[A-Za-z_]\w*(,[A-Za-z_]\w*)*", value):
                raise ConfigError(f"--allow takes a module's name, such as --allow mypackage; got '{value}'")
            named += value.split(",")
        place += 1
    allowed.add(named)
    return found


def check_flags(argv: list[str]) -> None:
    """Raise ConfigError for an unknown flag, where Hydra's parser would print its whole usage."""
    from hydra._internal.utils import get_args_parser

    known = [*get_args_parser()._option_string_actions, "--traceback"]
    for word in argv:
        flag = word.partition("=")[0]
        if flag.startswith("-") and flag not in known:
            if hint := meant(flag.lstrip("-"), None):
                raise ConfigError(f"there is no flag '{flag}'{hint} (settings are KEY=VALUE, without dashes)")
            raise ConfigError(
                f"there is no flag '{flag}'{nearest(flag, known)} — flags: --cfg job, --multirun, --config-dir, --allow, --traceback"
            )


def check_blanks(argv: list[str]) -> None:
    """Raise ConfigError for words that are split by a blank beside `=`, and other words that are not settings."""
    place = 0
    while place < len(argv):
        word = argv[place]
        if word.startswith("-"):
            place += 1 + (word in VALUED)
            continue
        key, equal, value = word.partition("=")
        after = argv[place + 1] if place + 1 < len(argv) else ""
        last = argv[place + 2] if place + 2 < len(argv) else ""
        if equal and key and not value and after and "=" not in after and not after.startswith("-"):
            meant = f"{key}={after}"
        elif not equal and after.startswith("="):
            meant = f"{key}={after.removeprefix('=') or last}"
        elif not equal and not key.startswith("~"):
            raise ConfigError(f"'{word}' is no setting: write key=value, or quote a value with blanks ('key=a b')")
        else:
            place += 1
            continue
        raise ConfigError(f"a blank stands beside '=': write {meant}")


def as_texts(argv: list[str]) -> list[str]:
    """Overrides with names of runs and paths quoted for Hydra, as they may have digits, commas, blanks or non-ASCII
    letters. Values with quotes, brackets or Hydra functions are unchanged, as is `null`."""
    sweep, found = bool({"-m", "--multirun"} & set(argv)), []
    for word in argv:
        key, _, value = word.partition("=")
        name = key.lstrip("+")
        if word.startswith("-") or not (name in TEXTS or name.endswith(".path")) or re.match(OWN_GRAMMAR, value):
            found.append(word)
            continue
        parts = value.split(",") if sweep else [value]
        found.append(f"{key}=" + ",".join(override("", part)[1:] for part in parts))
    return found


class Parser(argparse.ArgumentParser):
    """An ArgumentParser with errors in one line."""

    def error(self, message: str) -> NoReturn:
        raise ConfigError(f"{self.prog.removeprefix('sslzoo ')}: {message} (--help says what it takes)")
