"""Bounds of numeric settings, by name: a name means the same in every class of sslzoo."""

import math
import re

from sslzoo.errors import ConfigError

COUNTS = (  # at least 1
    r"depths?|heads|dim|\w+_dim|hidden|width|bottleneck|channels|entries|clusters|negatives|groups|kernel|patch|queue|"
    r"r|n_mels|stack|splits|ahead|epochs|length|frames|vocab_size|max_tokens|sample_rate|accumulate|min_count|hidden_steps"
)
SHARES = r"dropout|\w+_dropout|layer_drop|drop_path|label_smoothing"  # from 0 to less than 1
CHANCES = r"random|zero|noisy|mix"  # from 0 to 1
ABOVE = r"temperature|eps|trust|gumbel|hop_ms|win_ms|max_gb|seconds|max_seconds|scale_from|std|hidden_lr"  # above 0


def check_number(name: str, value, where: str) -> None:
    """Raise ConfigError if a number, or one in a list or mapping, is out of the bounds of the setting `name` or not
    finite. where: the setting's dotted key."""
    if isinstance(value, dict) and "_target_" in value:
        return  # checked as a node of its own
    for number in value if isinstance(value, list) else ():
        check_number(name, number, where)
    for key, number in value.items() if isinstance(value, dict) else ():
        check_number("", number, f"{where}.{key}")
    if isinstance(value, bool) or not isinstance(value, int | float):
        return
    if not math.isfinite(value):
        raise ConfigError(f"{where} must be a finite number, got {value}")
    for names, fits, words in (
        (COUNTS, value >= 1, "at least 1"),
        (SHARES, 0 <= value < 1, "from 0 to less than 1"),
        (CHANCES, 0 <= value <= 1, "from 0 to 1"),
        (ABOVE, value > 0, "above 0"),
    ):
        if not fits and re.fullmatch(names, name):
            raise ConfigError(f"{where} must be {words}, got {value}")
