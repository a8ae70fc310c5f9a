"""Error rates of recognised transcripts, over a whole corpus: edits divided by the length of the references."""

from collections.abc import Sequence


def _rate(kind: str, said: Sequence[str], truth: Sequence[str]) -> float:
    from torchmetrics.functional.text import char_error_rate, word_error_rate  # as slow to import as lightning

    return float(
        {"cer": char_error_rate, "wer": word_error_rate, "per": word_error_rate}[kind](list(said), list(truth))
    )


def error_rates(kinds: Sequence[str], said: Sequence[str], truth: Sequence[str]) -> dict[str, float]:
    """{name: rate}: wer over words, cer over characters with spaces, per over phones, which are words here; 0 is the
    best, and a rate may be above 1. said, truth: transcripts, of which `truth` has at least one symbol in all."""
    return {kind: _rate(kind, said, truth) for kind in kinds}
