"""Errors of the user: one-line messages that name the fix."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """An error that the user can fix. `sslzoo` prints it as one line and exits with `code`.

    `code` is 1 for failures (data, disk, divergence) and 2 for a wrong command or config.
    """

    code = 1


class ConfigError(UserError):
    """A config that cannot be built; raised before any data is read."""

    code = 2


class InputError(UserError, ValueError):
    """An encoder's input in Python that is empty, not finite, or of a wrong size."""


class InputTypeError(UserError, TypeError):
    """An encoder's input in Python of a wrong type."""


class Stopped(UserError):
    """A run was stopped by a signal or a callback; the same command resumes it."""


def nearest(word: object, words: Iterable[object]) -> str:
    """ " — did you mean 'x'?" for the closest match of `word` in `words`, or ""."""
    found = get_close_matches(str(word), [str(w) for w in words], n=1, cutoff=0.5)
    return f" — did you mean '{found[0]}'?" if found else ""


def one_line_error(error: Exception) -> str:
    """An error in one line."""
    text = str(error).strip()
    if "Traceback (most recent call last)" in text:  # from a loader worker, with its stack
        text = text.splitlines()[-1].partition(": ")[2]
    text = " ".join(text.split()) or type(error).__name__
    if isinstance(error, UserError | OSError | MemoryError):
        return text
    return f"{type(error).__name__}: {text} (unexpected; --traceback shows where)"
