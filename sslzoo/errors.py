"""What a user did wrong, said in one line that names the mend."""

from collections.abc import Iterable
from difflib import get_close_matches


class UserError(Exception):
    """Something that the user can mend. `sslzoo` prints it as one line and exits with `code`.

    `code` is 1 for what failed (data, disk, divergence) and 2 for a wrong command or config.
    """

    code = 1


class ConfigError(UserError):
    """A config that cannot be built; found before any data is touched."""

    code = 2


class InputError(UserError, ValueError):
    """Something given to an encoder in Python that is empty, not finite, or of another size than it takes."""


class InputTypeError(UserError, TypeError):
    """Something given to an encoder in Python that is of another type than it takes."""


class Stopped(UserError):
    """A run that was told to stop, and goes on when its command is given again."""


def nearest(word: object, words: Iterable[object]) -> str:
    """ " — did you mean 'x'?" for the word in `words` that is most like `word`, or ""."""
    found = get_close_matches(str(word), [str(w) for w in words], n=1, cutoff=0.5)
    return f" — did you mean '{found[0]}'?" if found else ""


def one_line_error(error: Exception) -> str:
    """An error in one line."""
    text = str(error).strip()
    if "Traceback (most recent call last)" in text:  # from a loader's worker, with all of its stack
        text = text.splitlines()[-1].partition(": ")[2]
    text = " ".join(text.split()) or type(error).__name__
    if isinstance(error, UserError | OSError | MemoryError):
        return text
    return f"{type(error).__name__}: {text} (unexpected; --traceback shows where)"
