"""The encoders that a bench asks: finished runs, or encoders of other libraries, imported as runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from sslzoo import build
from sslzoo.errors import ConfigError
from sslzoo.interop.grammar import UNTRAINED, is_source
from sslzoo.interop.importing import import_run
from sslzoo.nodes import make
from sslzoo.report.record import group, read
from sslzoo.run import Run


@dataclass(frozen=True)
class Asked:
    """An encoder of a bench. row: its row in the table, of runs that differ in their seed alone."""

    run: Run
    row: str
    modality: str
    offers: frozenset[str]


def encoders(named: Any, root: Path, untrained: bool) -> list[Asked]:
    """The encoders that a config's `run` names, a name or a list of them; untrained: and each before its first step.
    Raises UserError for one that is not there or not finished."""
    names = [named] if isinstance(named, str) else named
    if not isinstance(names, list) or not names or not all(isinstance(name, str) for name in names):
        raise ConfigError(
            f"run is a finished run, SOURCE:WHAT, or a list of them, such as run=[RUN,hf:FOLDER]; got {named}"
        )
    runs = [import_run(name, root)[0] if is_source(name) else Run.find(name, root) for name in names]
    runs = list({run.folder.resolve(): run for run in runs}.values())
    if len({run.name for run in runs}) < len(runs):
        raise ConfigError(f"two of the runs have one name: {', '.join(str(run.folder) for run in runs)}")
    for run in runs:
        build.described(run)
    groups = group([read(run, pictures=False) for run in runs])
    rows = {record.run.folder: row for row, members in groups.items() for record in members}
    if untrained:
        for run in [run for run in runs if learns(run)]:
            before = import_run(f"{UNTRAINED}:{run.folder}", root)[0]
            if before.folder not in rows:
                runs.append(before)
                rows[before.folder] = f"{rows[run.folder]}, {UNTRAINED}"
    found = []
    for run in runs:
        with torch.device("meta"):
            encoder = make(build.described(run)["encoder"])
        found.append(Asked(run, rows[run.folder], encoder.modality, frozenset(encoder.offers)))
    return found


def learns(run: Run) -> bool:
    """Whether an encoder has parameters, and is not one of initial ones itself."""
    with torch.device("meta"):
        encoder = make(build.described(run)["encoder"])
    return any(True for _ in encoder.parameters()) and not run.name.endswith(f"-{UNTRAINED}")
