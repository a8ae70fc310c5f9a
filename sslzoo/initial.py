"""Initialising a run with the weights of a finished run's encoder and head (init=RUN)."""

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor

from sslzoo import allowed, compat, own, weights
from sslzoo.errors import ConfigError, UserError
from sslzoo.nodes import target, with_defaults
from sslzoo.run import Run, check_signed, sha256

CODES, MAKES_CODES = "sslzoo.encoders.codes.Codes", "sslzoo.objectives.vq_wav2vec.VQWav2Vec"
QUANTIZERS = {"gumbel": "GumbelQuantizer", "kmeans": "KMeansQuantizer"}
TOKENIZER = "tokenizer.json"  # in a run on text
MEND = "delete {}/DONE, and run its `sslzoo pretrain` again"  # advice for a damaged file of a run


def described(run: Run) -> dict:
    """The content of a finished run's encoder.json; afterwards the user's classes in it can be imported."""
    run.check_finished()
    saved = compat.translate(json.loads(run.encoder.read_text(encoding="utf-8")))
    tokenizer = run.folder / TOKENIZER
    if "tokenizer" in saved and not (tokenizer.exists() and sha256(tokenizer) == saved["tokenizer"]):
        raise UserError(
            f"{tokenizer} is not the tokenizer that the run's encoder was trained with, so that its ids mean other texts: put "
            "the run's own back, or delete the run and train it again"
        )
    mine = {top: folder for top, folder in saved.get("own", {}).items() if not within(folder, run.folder)}
    for path in (run.encoder, run.objective):
        if path.exists():
            allowed.check(json.loads(path.read_text(encoding="utf-8")), str(path), mine)
    own.find_again(saved.get("own", {}), run.folder)
    return saved


def within(folder: str, run: Path) -> bool:
    """Whether a folder lies in that of the runs: it came with them, and its modules are not the user's own."""
    return run.resolve().parent in (Path(folder).resolve(), *Path(folder).resolve().parents)


def restore(module: torch.nn.Module, tensors: dict[str, Tensor], absent: Collection[str]) -> None:
    """Load tensors by name. Raises RuntimeError if any are missing, except those in `absent`."""
    mine = module.state_dict()
    module.load_state_dict({**{name: mine[name] for name in absent}, **tensors})


def pinned(init: str | None, root: Path, objective: Any = None) -> dict | None:
    """The setting `init` as stored in a run's config: the run, the signature of its encoder's weights and, if the node
    `objective` inherits the run's head, that of its objective's weights."""
    if init is None:
        return None
    if not isinstance(init, str):
        raise ConfigError(f"init must be the folder or the name of a run, got {init!r}")
    run = Run.find(init, root)
    described(run)
    check_signed(run.weights, MEND.format(run.folder))
    found = {"run": str(run.folder), "weights": weights.signature(run.weights)}
    if inherits(objective, run):
        check_signed(run.objective_weights, MEND.format(run.folder))
        found["head"] = weights.signature(run.objective_weights)
    return found


def with_codes(encoder: Any, root: Path, planned: Mapping[Path, dict] = MappingProxyType({})) -> Any:
    """The encoder's node as stored in a run's config: where its front end takes the codes of a run (`encoders.codes`),
    with that run's front end, quantiser and signatures. planned: configs of runs that are not there yet, by folder.
    Raises ConfigError for a run of another objective."""
    frontend = encoder.get("frontend") if isinstance(encoder, dict) else None
    if not isinstance(frontend, dict) or frontend.get("_target_") != CODES or frontend.get("run") is None:
        return encoder
    if (later := planned.get(Path(frontend["run"]))) is not None and not Run(Path(frontend["run"])).done:
        run, theirs, objective = Run(Path(frontend["run"])), later["encoder"], later["objective"]
        signatures = None
    else:
        run = Run.find(str(frontend["run"]), root)
        theirs = described(run)["encoder"]
        objective = json.loads(run.objective.read_text(encoding="utf-8"))["objective"] if run.objective.exists() else {}
        signatures = [weights.signature(path) for path in (run.weights, run.objective_weights)] if objective else []
    if objective.get("_target_") != MAKES_CODES:
        raise ConfigError(
            f"encoder.frontend.run={run.folder} makes no codes: it must be a run of objective=vq_wav2vec or "
            "vq_wav2vec_kmeans"
        )
    dim = theirs["trunk"]["dim"]
    quantizer = {"_target_": f"sslzoo.nn.quantize.{QUANTIZERS[objective.get('quantizer', 'gumbel')]}"}
    quantizer |= {"inputs": dim, "dim": dim, "groups": objective["groups"], "entries": objective["entries"]}
    taken = {"run": str(run.folder), "signatures": signatures, "waves": theirs["frontend"], "quantizer": quantizer}
    return {**encoder, "frontend": {**frontend, **taken}}


def inherits(objective: Any, run: Run) -> list[str]:
    """The parts of a head (`Objective.head_state`) that an objective's node shares with the run's objective, to be
    initialised from it."""
    if not (isinstance(objective, dict) and "_target_" in objective and run.objective.exists()):
        return []
    before = compat.translate(json.loads(run.objective.read_text(encoding="utf-8"))["objective"])
    ours, theirs = (getattr(target(node["_target_"], "objective"), "head_state", ()) for node in (objective, before))
    return [name for name in ours if name in theirs]


def inherit_head(objective: torch.nn.Module, node: dict, run: Run) -> None:
    """Load the parts of the head that `objective`, built from `node`, shares with the run's objective."""
    found, heads = weights.load(run.objective_weights, MEND.format(run.folder)), inherits(node, run)
    mine = objective.state_dict()
    names = [name for name in mine if name.split(".")[0] in heads]
    for name in names:
        if name not in found or found[name].shape != mine[name].shape:
            theirs = list(found[name].shape) if name in found else "nothing"
            raise ConfigError(
                f"the head of init={run.folder} has another size: its {name} is {theirs}, and this objective's "
                f"{list(mine[name].shape)} — set the objective's settings to those of its config.yaml"
            )
    restore(objective, {name: found[name] for name in names}, objective.state_dict().keys() - set(names))


def initial(config: dict) -> Run | None:
    """The run that config.init names, or None. Raises ConfigError if its encoder differs from config.encoder, UserError
    if its weights have changed."""
    if config.get("init") is None:
        return None
    run = Run(Path(config["init"]["run"]))
    differ = differences(with_defaults(described(run)["encoder"]), with_defaults(config["encoder"]))
    if differ:
        raise ConfigError(
            f"init={run.folder} has another encoder ({differ}): set encoder=… to the one of that run's config.yaml"
        )
    heads = config["init"].get("head")
    if weights.signature(run.weights) != config["init"]["weights"] or (
        heads is not None and weights.signature(run.objective_weights) != heads
    ):
        raise UserError(f"init={run.folder} has other weights than those that this run was to begin with")
    return run


def differences(old: dict, new: dict, free: Collection[str] = ()) -> str:
    """The settings in which two configs differ, except those in `free`, in words; "" if none."""

    def flat(node, path=""):
        if not isinstance(node, dict):
            return {path: node}
        return {
            k: v for name, value in node.items() for k, v in flat(value, f"{path}.{name}" if path else name).items()
        }

    old, new = flat(old), flat(new)
    differ = sorted(k for k in old.keys() | new.keys() if old.get(k) != new.get(k) and k not in free)
    shown = ", ".join(f"{k}: {old.get(k, 'absent')} -> {new.get(k, 'absent')}" for k in differ[:4])
    return shown + (f" and {len(differ) - 4} more" if len(differ) > 4 else "")
