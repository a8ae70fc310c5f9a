"""`sslzoo analyze`: analyse finished runs and write the findings to a file."""

from collections.abc import Collection
from dataclasses import asdict
from pathlib import Path

from sslzoo import build
from sslzoo.analysis.base import Analysis, Subject
from sslzoo.data.base import SPLITS
from sslzoo.disk import remove_unfinished
from sslzoo.errors import ConfigError
from sslzoo.features.compatible import read_as
from sslzoo.features.device import chosen_device
from sslzoo.lock import sole_writer
from sslzoo.progress import bars
from sslzoo.run import Run, write_json


def run_analyze(config: dict, given: Collection[str] = ()) -> tuple[Path, list[list[str]]]:
    """Analyse config.run, print the summary, and return the path of the findings and the commands to suggest next.
    given: dotted keys of the settings that the user wrote."""
    data = config.get("data")
    for name, node in (("analysis", config["analysis"]), ("data", data)):
        if node is not None:
            build.check(node, name)
    if config["split"] not in SPLITS:
        raise ConfigError(f"split must be one of {', '.join(SPLITS)}, got {config['split']}")
    device, root = chosen_device(config["device"]), Path(str(config["root"]))
    analysis: Analysis = build.make(config["analysis"])
    run = Run.find(str(config["run"]), root)
    subject, other = subject_of(run, config["split"], device), None
    if config["other"] is not None:
        if not analysis.takes_other:
            raise ConfigError(f"{type(analysis).__name__.lower()} is of one run: leave out other=…")
        other = subject_of(Run.find(str(config["other"]), root), config["split"], device)
    analysis.check(subject, other)
    read_from(subject, data, given)
    if other is not None:
        read_from(other, data or build.described(run)["data"], given)
    with bars() as progress:
        found = analysis(subject, other, progress)
    path = run.analyses / f"{found.name}.json"
    with sole_writer(run.analyses, name=found.name):
        remove_unfinished(run.analyses)
        settings = {"analysis": config["analysis"], "split": config["split"], "data": data}
        figures = [asdict(figure) for figure in found.figures]
        write_json(path, {**found.numbers, "figures": figures, "settings": settings})
    print(found.summary)
    return path, analysis.next_steps(subject)


def subject_of(run: Run, split: str, device: str) -> Subject:
    """The subject of an analysis: a run's encoder and data."""
    encoder, data = build.load_encoder(run)
    return Subject(run.folder, encoder, data, split, device)


def read_from(subject: Subject, node: dict | None, given: Collection[str]) -> None:
    """Replace a subject's data by those of a config node, if given, with the input settings of its encoder."""
    if node is not None:
        subject.data, changed = read_as(node, subject.encoder, subject.data, subject.folder, given)
        if changed:
            print(changed)
