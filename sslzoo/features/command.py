"""`sslzoo extract`: from a composed config and a finished run to a folder of features."""

from collections.abc import Collection
from pathlib import Path

from sslzoo import build
from sslzoo.data.base import SPLITS
from sslzoo.errors import ConfigError
from sslzoo.features import ranks
from sslzoo.features.compatible import read_as
from sslzoo.features.device import chosen_device
from sslzoo.features.extract import FORMATS, extract
from sslzoo.lock import sole_writer
from sslzoo.progress import bars
from sslzoo.run import Run


def run_extract(config: dict, given: Collection[str] = ()) -> Path:
    """Write the features of config.split of config.data, by default the run's data, and return the folder. given:
    dotted keys of the settings that the user wrote."""
    node = config.get("data")
    if node is not None:
        build.check(node, "data")
    for key, among in (("split", SPLITS), ("what", ("tokens", "items")), ("format", FORMATS)):
        if config[key] not in among:
            raise ConfigError(f"{key} must be one of {', '.join(among)}, got {config[key]}")
    device, run = chosen_device(config["device"]), Run.find(config["run"], Path(str(config["root"])))
    encoder, data = build.load_encoder(run)
    if node is not None:
        data, changed = read_as(node, encoder, data, run.folder, given)
        if changed:
            print(changed)
    out = Path(str(config["out"]))
    writer = sole_writer(out.absolute().parent, ranks.number() == 0, out.name)
    with ranks.joined(), writer, bars() as progress:
        extract(
            encoder, data, config["split"], out, config["layer"], config["what"], device, progress, config["format"]
        )
    return out
