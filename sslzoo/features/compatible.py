"""Other data for a trained encoder: configured to be read as the run's own data was, or refused."""

import inspect
from collections.abc import Collection
from pathlib import Path
from typing import Any

from sslzoo.build import make, target
from sslzoo.data.base import Data
from sslzoo.encoders.base import Encoder
from sslzoo.errors import ConfigError

SETTINGS = {"speech": ("sample_rate",), "image": ("size", "channels"), "text": ()}  # input settings by modality


def agreeing(node: dict, encoder: Encoder, data: Data, where: str, given: Collection[str] = ()) -> tuple[dict, str]:
    """(a data set's config node with the input settings that `encoder` needs (`Encoder.reads`) and, for the others,
    those of the run's own `data`; a line that says what changed, or ""). where: the node's dotted key.

    given: dotted keys of the settings that the user wrote: they are kept unless the encoder needs another value.
    Raises ConfigError if it does.
    """
    asked = {name: getattr(data, name) for name in SETTINGS[encoder.modality] if hasattr(data, name)}
    asked |= {name: value for name, value in encoder.reads.items() if name in SETTINGS[encoder.modality]}
    changed: dict[str, tuple] = {}
    found = _agreed(node, encoder, data, asked, where, given, changed)
    told = ", ".join(f"{name} {new} instead of {old}" for name, (old, new) in changed.items())
    return found, f"{where} is read at {told}, as the run's encoder reads" if told else ""


def agreeing_task(
    task: dict, encoder: Encoder, data: Data, config: dict, given: Collection[str] = ()
) -> tuple[dict, str]:
    """`agreeing` for a task's own data, if it has any: config.data or task.data, which names the settings."""
    if task.get("data") is None:
        return task, ""
    where = "task.data" if config.get("data") is None else "data"
    found, changed = agreeing(task["data"], encoder, data, where, given)
    return {**task, "data": found}, changed


def _agreed(
    node: Any, encoder: Encoder, data: Data, asked: dict, where: str, given: Collection[str], changed: dict
) -> Any:
    if not isinstance(node, dict):
        return node
    found = {
        name: _agreed(value, encoder, data, asked, f"{where}.{name}", given, changed) for name, value in node.items()
    }
    kind = target(node["_target_"], where) if "_target_" in node else None
    if not (isinstance(kind, type) and issubclass(kind, Data)):
        return found
    if getattr(kind, "modality", None) != encoder.modality:  # refused later, by check_compatible
        return found
    takes = inspect.signature(kind).parameters
    for name in [name for name in asked if name in takes]:
        wanted, old, key = asked[name], node.get(name, takes[name].default), f"{where}.{name}"
        if old == wanted:
            continue
        if key in given:
            if name in encoder.reads:
                raise ConfigError(f"{key}={old}, but the run's encoder reads {wanted} — leave out {key}")
            continue
        found[name], changed[name] = wanted, (old, wanted)
    if found.get("channels") != node.get("channels"):  # mean and std are per channel
        found |= {name: list(getattr(data, name)) for name in ("mean", "std") if name in node and hasattr(data, name)}
    if found.get("resolution") is not None and found["resolution"] < found["size"]:
        found["resolution"] = None
    return found


def check_compatible(used: Data, encoder: Encoder, who: str, where: str) -> None:
    """Raise ConfigError if the data set `used` differs in modality or `Encoder.reads` from what the encoder needs. who:
    the reader, where: the config node to change, for the message. (Text data is adjusted: `with_run_tokenizer`.)"""
    said: dict[str, tuple[object, object]] = {"modality": (used.modality, encoder.modality)}
    if encoder.modality != "text":
        said |= {name: (getattr(used, name, None), wanted) for name, wanted in encoder.reads.items()}
    for name, (mine, wanted) in said.items():
        if mine != wanted:
            raise ConfigError(f"{who} reads data of {name} {mine}, but the encoder reads {wanted} — mend {where}")


def with_run_tokenizer(used: Data, data: Data, folder: Path | None) -> Data:
    """`used`, set to read as the run's `data` did: with the tokenizer in the run's `folder`, if any, and texts cut to
    the run's max_tokens."""
    if used.modality == "text":
        used.vocab_size, used.max_tokens = data.vocab_size, min(used.max_tokens, data.max_tokens)
    if folder is not None:
        used.restore(folder)
    return used


def read_as(node: dict, encoder: Encoder, data: Data, folder: Path, given: Collection[str] = ()) -> tuple[Data, str]:
    """(the data set of config.data, read as the encoder needs, with the tokenizer from the run's `folder`; a line that
    says which settings changed, or ""). Raises ConfigError if the encoder cannot read it."""
    node, changed = agreeing(node, encoder, data, "data", given)
    other = make(node)
    check_compatible(other, encoder, "data", "data")
    return with_run_tokenizer(other, data, folder), changed
