"""`sslzoo label`: from a composed config to a folder of labels."""

import errno
import json
import os
from collections.abc import Collection
from pathlib import Path

from sslzoo import build, compat
from sslzoo.config import fingerprint
from sslzoo.data.base import Data
from sslzoo.disk import remove_unfinished
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError, UserError
from sslzoo.features import ranks
from sslzoo.features.compatible import agreeing, check_compatible
from sslzoo.features.device import chosen_device
from sslzoo.label.make import label
from sslzoo.label.sources import Cepstra, Layer
from sslzoo.lock import sole_writer
from sslzoo.progress import bars
from sslzoo.run import Run, checked_name

NUMBERS = {"clusters": 2, "sample": 1, "iterations": 1, "seed": 0, "hop_ms": 10, "workers": 0}  # lower bounds
HOP_MS = 20


def run_label(config: dict, choices: dict[str, str], given: Collection[str] = ()) -> tuple[Path, dict, bool]:
    """Make labels, unless they exist: (their folder, the content of label.json, whether they existed). given: dotted
    keys of the settings that the user wrote."""
    config = _checked(config)
    device = chosen_device(config["device"])
    run = encoder = data = None
    node = config["data"]
    named = [] if config["data"] is None else [str(choices.get("data"))]
    if config["run"] is not None:
        run = Run.find(str(config["run"]), Path(str(config["root"])))
        encoder, data = build.load_encoder(run)
        if config["data"] is not None:
            config["data"], changed = agreeing(config["data"], encoder, data, "data", given)
            if changed:
                print(changed)
        node = config["data"] or compat.translate(json.loads(run.encoder.read_text(encoding="utf-8")))["data"]
    source, data = _parts(config, encoder, data, device)
    made_from = {"source": source.name}
    if run is not None:
        made_from |= {"run": run.folder.name, "layer": source.layer, "sha256": _signature(run)}
    learned = {key: config[key] for key in ("clusters", "sample", "iterations", "seed")}
    about = {"source": {**made_from, "hop": source.hop}, "data": node, **learned}
    if (name := config["name"]) is None:  # labels-mfcc-spoken-1a2b3c, or labels-<run>-l6-1a2b3c
        kind = ["mfcc"] if run is None else [run.folder.name, f"l{source.layer}"]
        name = "-".join(["labels", *kind, *named, fingerprint(about)])
    folder = Path(str(config["root"])) / checked_name(name)
    if (folder / "label.json").exists():
        info = json.loads((folder / "label.json").read_text(encoding="utf-8"))
        if differ := sorted(key for key in about if info.get(key) != about[key]):
            shown = ", ".join(f"{key}: {info.get(key)} -> {about[key]}" for key in differ)
            raise ConfigError(f"{folder} holds other labels ({shown}) — choose another name=… or delete it")
        return folder, info, True
    if folder.exists() and not folder.is_dir():
        raise UserError(f"{folder} is not a folder — choose another name=…")
    if Run(folder).config.exists():
        raise ConfigError(f"{folder} is a run — choose another name=…")
    try:  # fail before hours of computing
        folder.parent.mkdir(parents=True, exist_ok=True)
        if not os.access(folder.parent, os.W_OK):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
    except OSError as error:
        raise UserError(f"cannot write in {folder.parent}: {error.strerror} — choose another root=…") from error
    with bars() as progress:
        more = {key: config[key] for key in ("against", "workers")}
        with ranks.joined() as (rank, _), sole_writer(folder, first=rank == 0):
            if rank == 0:
                remove_unfinished(folder)
            return folder, label(source, data, folder, **learned, **more, progress=progress, about=about), False


def planned_targets(config: dict, encoder: Encoder | None = None, data: Data | None = None) -> dict:
    """{clusters, hop, sample_rate} of the labels that a config will make, without opening data. Raises ConfigError.

    encoder, data: those of config.run if it is not trained yet; else they are built from its folder.
    """
    config = _checked(config)
    if config["run"] is not None and encoder is None:
        run = Run.find(str(config["run"]), Path(str(config["root"])))
        run.check_finished()
        saved = compat.translate(json.loads(run.encoder.read_text(encoding="utf-8")))
        encoder, data = build.make(saved["encoder"]), build.make(saved["data"])
    if encoder is not None and config["data"] is not None:
        config["data"], _ = agreeing(config["data"], encoder, data, "data")
    source, data = _parts(config, encoder, data, "cpu")
    return {"clusters": config["clusters"], "hop": source.hop, "sample_rate": data.sample_rate}


def summary(info: dict) -> str:
    """The labels in a few lines, one per split."""
    source = info["source"]
    what = "mfcc" if source["source"] == "mfcc" else f"{source['run']} {source['source']}"
    lines = [f"{info['clusters']} clusters of {what}, {info['rate']:g} labels a second, fitted on train"]
    for name, of in info["splits"].items():
        lines.append(
            f"  {name:5}  {of['items']} items  {of['labels']} labels  inertia {of['inertia']:.5g}  "
            f"used {of['used']}  perplexity {of['perplexity']:.1f}"
        )
        if "against" in of:
            pnmi = "-" if of["pnmi"] is None else f"{of['pnmi']:.3f}"
            kind = of["against"]
            purity = f"{kind} purity {of['phone_purity']:.3f}  cluster purity {of['cluster_purity']:.3f}"
            lines[-1] += f"  {purity}  PNMI {pnmi}"
    return "\n".join(lines)


def _checked(config: dict) -> dict:
    """The config, with `data` None by default. Raises ConfigError for settings that contradict each other."""
    config = {"data": None, **config}
    source, run = config["source"], config["run"]
    if source not in (None, "mfcc"):
        raise ConfigError(f"there is no source={source}: set source=mfcc, or run={source} layer=… for those of a run")
    if (source is None) == (run is None):
        also = "only one of " if source else ""
        raise ConfigError(f"labels are of cepstra or of a run: set {also}source=mfcc or run=… layer=…")
    for key, least in NUMBERS.items():
        if not build.fits(config[key], int) or config[key] < least:
            raise ConfigError(f"{key} must be a whole number from {least}, got {config[key]!r}")
    if config["sample"] < config["clusters"]:
        raise ConfigError(f"sample={config['sample']} frames make no {config['clusters']} clusters: set a larger one")
    if run is None and config["layer"] is not None:
        raise ConfigError("layer is one of a run's: leave it out with source=mfcc")
    if run is None and config["data"] is None:
        raise ConfigError("source=mfcc needs data: set data=… (`sslzoo list data`)")
    if run is not None and not build.fits(config["layer"], int):
        raise ConfigError(f"layer must be a number from 0, the trunk's input, to its depth; got {config['layer']}")
    if run is not None and config["hop_ms"] != HOP_MS:
        raise ConfigError("hop_ms is of source=mfcc: a run's labels are as far apart as its encoder's frames")
    if config["data"] is not None:
        build.check(config["data"], "data")
    return config


def _parts(config: dict, encoder: Encoder | None, data: Data | None, device: str) -> tuple[Cepstra | Layer, Data]:
    """(the source of features, the data to label)."""
    mine = data if config["data"] is None else build.make(config["data"])
    if mine.modality != "speech":
        raise ConfigError(f"labels are of frames of speech, and the data is {mine.modality}: choose other data=…")
    if config["run"] is None:
        return Cepstra(mine.sample_rate, config["hop_ms"], device), mine
    if mine is not data and data is not None:
        check_compatible(mine, encoder, "data", "data")
    return Layer(encoder, config["layer"], device), mine


def _signature(run: Run) -> str:
    return Path(f"{run.weights}.sha256").read_text(encoding="utf-8").split()[0]
