"""Commands that run others: `sslzoo compare` and `sslzoo bench`. torch is imported only inside them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from sslzoo.cli.compose import composed, of_the_task, several_runs, with_head
from sslzoo.cli.flags import config_folders
from sslzoo.cli.importing import with_imported

if TYPE_CHECKING:
    from sslzoo.compare.process import Command


def compare(argv: list[str]) -> None:
    """many objectives or seeds under one protocol: sslzoo compare comparison=demo"""

    def work(config: dict, choices: dict) -> None:
        from sslzoo.compare.run import compare as go

        root = str(config["root"])
        go(config, Path(root), commands_of(argv, root, launcher_words()))

    composed("compare", argv, work)


def bench(argv: list[str]) -> None:
    """every task that the data at hand has labels for, in one table: sslzoo bench run=RUN data_root=FOLDER"""

    def work(config: dict, choices: dict) -> None:
        from sslzoo.bench.command import run_bench

        run_bench(config, commands_of(argv, str(config["root"])))

    composed("bench", several_runs(argv), work)


def launcher_words() -> list[str]:
    """The words of the running command that choose a launcher of Hydra's, other than the one that waits, and set it."""
    from hydra.core.hydra_config import HydraConfig

    hydra = HydraConfig.get()
    if hydra.runtime.choices["hydra/launcher"] == "basic":
        return []
    return [
        word for word in hydra.overrides.hydra if word.lstrip("+~").startswith(("hydra/launcher", "hydra.launcher"))
    ]


def commands_of(argv: list[str], root: str, launcher: Sequence[str] = ()) -> "Command":
    """What runs commands with the config folders of the command line `argv`, on runs in `root`.
    launcher: see `Command`."""
    from sslzoo.compare.process import Command

    flags = [word for folder in config_folders(argv) for word in ("--config-dir", str(folder))]

    def words(command: str, overrides: list[str]) -> list[str]:
        if command == "adapt":
            return with_head(of_the_task([*flags, *overrides]))[len(flags) :]
        return with_imported(command, [f"root={root}", *overrides])[1:]

    return Command(config_folders(argv), words, launcher)
