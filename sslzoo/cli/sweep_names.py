"""Names of the folders of a sweep and its jobs: from the settings that differ, in characters that need no shell quotes,
without a time stamp, so that the same command again continues the sweep."""

import hashlib
import re

UNNAMED = ".sweep"  # for Hydra's files of a sweep whose jobs have folders elsewhere
UNSEEN = ("name", "root", "metric", "trainer.workers", "trainer.progress")  # not part of a sweep's name
COLUMNS = ("status", "loss", "val_loss", "valid", "minutes", "error")  # of the table, besides the varied settings
PARTS = ("recipe", "experiment", "objective", "data", "encoder")  # choices that are in a sweep's name


def key_of(word: str) -> str:
    return word.partition("=")[0]


def bare(word: str) -> str:
    """The key without Hydra's prefixes + and ~ and its @package."""
    return key_of(word).lstrip("+~").partition("@")[0]


def is_swept(word: str) -> bool:
    """Whether an override gives several values."""
    from hydra.core.override_parser.overrides_parser import OverridesParser
    from hydra.errors import HydraException

    try:
        return OverridesParser.create().parse_override(word).is_sweep_override()
    except HydraException:
        return False  # Hydra will report it


def name(command: str, fixed: list[str], swept: list[str]) -> str:
    """The folder of a sweep under root: its given name, or one made of the shared choices and the varied keys."""
    values = dict(word.split("=", 1) for word in fixed if "=" in word)
    given = values.get("name", "null").strip("'\"")
    if command != "pretrain" or any(key_of(word) == "name" for word in swept) or "${" in given:
        return UNNAMED
    if given != "null":
        return given
    shared = sorted(w for w in fixed if bare(w) not in UNSEEN and not key_of(w).startswith("hydra"))
    keys = list(short(swept).values()) or ["search"]
    parts = [values[part] for part in PARTS if values.get(part, "null") != "null"]
    parts += ["by", *keys[:4], *(["more"] if len(keys) > 4 else [])]
    return "-".join([*(safe(part) for part in parts), digest("\n".join([*shared, *map(key_of, swept)]))])


def short(words: list[str]) -> dict[str, str]:
    """{key: short name}, its last part if this is unique."""
    keys = list(dict.fromkeys(bare(word) for word in words))
    last = [re.split(r"[./]", key)[-1] for key in keys]
    return {
        key: end if last.count(end) == 1 and end not in COLUMNS else key.replace("/", ".")
        for key, end in zip(keys, last, strict=True)
    }


def safe(text: str) -> str:
    """A text as part of a folder's name that needs no shell quotes; with a hash added if it had to be changed."""
    text = text.strip("'\"")
    plain = re.sub(r"[^A-Za-z0-9_.+=-]+", "_", text).strip("_")
    return plain if plain == text and len(plain) <= 60 else f"{plain[:60]}-{digest(text)}"


def digest(text: str) -> str:
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()[:6]


def job_name(words: list[str]) -> str:
    """The folder of a job within its sweep's: lr=0.001-seed=1."""
    names = short(words)
    parts = [safe(f"{names[bare(w)]}={w.partition('=')[2]}") for w in words]
    text = "-".join(parts)
    return text if len(text) <= 150 else f"{text[:140]}-{digest(text)}"
