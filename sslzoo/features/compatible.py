"""Other data for a trained encoder: whether it fits, and read as the run's own data was."""

from pathlib import Path

from sslzoo.data.base import Data
from sslzoo.errors import ConfigError


def check_compatible(used: Data, data: Data, who: str, where: str) -> None:
    """Refuse a data set `used`, the config's node `where`, that is not of the shape of the run's `data`."""
    for name in ("modality", "sample_rate", "size", "channels"):
        mine, theirs = getattr(used, name, None), getattr(data, name, None)
        if mine != theirs:
            raise ConfigError(
                f"{who} reads data of {name} {mine}, but the encoder was trained on {theirs} — mend {where}"
            )


def with_run_tokenizer(used: Data, data: Data, folder: Path | None) -> Data:
    """`used`, set to read as the run's `data` did: with the tokenizer in the run's `folder`, if there is
    one, and texts no longer than those."""
    if used.modality == "text":
        used.vocab_size, used.max_tokens = data.vocab_size, min(used.max_tokens, data.max_tokens)
    if folder is not None:
        used.restore(folder)
    return used
