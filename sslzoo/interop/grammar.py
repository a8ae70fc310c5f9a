"""SOURCE:WHAT in place of a run. Imports nothing, as command lines are searched for it."""

OWN = "class"  # class:module.Class
UNTRAINED = "untrained"  # untrained:RUN
PREFIXES = ("hf", "torchaudio", "torchvision", "timm", "fairseq", OWN, UNTRAINED)  # see `sources.SOURCES`


def is_source(text: str) -> bool:
    """Whether a text names an encoder of another library, such as hf:FOLDER."""
    prefix, colon, what = text.partition(":")
    return prefix in PREFIXES and bool(colon) and bool(what)
