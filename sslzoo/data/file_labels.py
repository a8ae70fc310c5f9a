"""Labels parsed from file names by a pattern such as {speaker:2}{text:3}{emotion:1}{version}."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

from sslzoo.data import compressed
from sslzoo.errors import ConfigError, UserError

_FIELD = re.compile(r"\{([^{}:]*)(?::([^{}]*))?\}")


class FileLabels:
    """Label columns from the names of files.

    pattern: matches a file's name, without its suffix unless the pattern ends in one; with n slashes, the name and its
    last n folders. {name} is a field of one or more characters, except the punctuation next to it in the pattern ("-"
    in {speaker}-{emotion}); {name:3} is three characters; {name:*} matches any characters. The field _ is ignored.
    Raises ConfigError for an invalid pattern, or one in which the end of a field is ambiguous.
    """

    def __init__(self, pattern: str):
        self.pattern, self.slashes = pattern, pattern.count("/")
        pieces = _FIELD.split(pattern)  # literal, name, size, literal, …
        literals, names, sizes = pieces[::3], pieces[1::3], pieces[2::3]
        self.fields = [name for name in names if name != "_"]
        for literal in literals:
            if "{" in literal or "}" in literal:
                raise self._bad("has a brace that belongs to no field")
        for name, size in zip(names, sizes, strict=True):
            if not name.isidentifier():
                raise self._bad(f"has a field '{name}': a field's name is letters, digits and _")
            if size not in (None, "*") and not re.fullmatch("[1-9][0-9]*", size):
                raise self._bad(f"has {{{name}:{size}}}: after the colon stands a number of characters, or *")
        if twice := sorted({name for name in self.fields if self.fields.count(name) > 1}):
            raise self._bad(f"names '{twice[0]}' twice")
        if not self.fields:
            raise self._bad("names no field: {speaker}_{word}, for example")
        found = re.escape(literals[0])
        for i, (name, size) in enumerate(zip(names, sizes, strict=True)):
            before, after = literals[i], literals[i + 1]
            open_ended = size is None or size == "*"
            if open_ended and not after and i + 1 < len(names) and not (sizes[i + 1] or "*").isdigit():
                raise self._bad(f"does not tell where {{{name}}} ends: give it a length, {{{name}:2}}")
            signs = {sign for sign in before[-1:] + after[:1] if not sign.isalnum()} if size is None else set()
            kind = f"[^{''.join(map(re.escape, sorted(signs | {'/'})))}]"
            body = f"{kind}{{{size}}}" if not open_ended else f"{kind}+"
            found += (f"({body})" if name == "_" else f"(?P<{name}>{body})") + re.escape(after)
        self._with_suffix = bool(re.search(r"\.[A-Za-z]\w*$", literals[-1]))
        self._regex = re.compile(found, re.DOTALL)

    def _bad(self, why: str) -> ConfigError:
        return ConfigError(f"data.labels_from='{self.pattern}' {why}")

    def columns(self, names: Sequence[str], where: str) -> tuple[dict[str, list[str]], str]:
        """The fields [N] of each file (relative to the set's root), "" for files that do not match, and a warning about
        those, or "". Raises UserError, naming `where`, if none matches."""
        columns: dict[str, list[str]] = {field: [] for field in self.fields}
        misfits, first = 0, ""
        for name in names:
            found = self._match(name)
            if found is None:
                misfits, first = misfits + 1, first or name
            for field, values in columns.items():
                values.append("" if found is None else found[field])
        if misfits == len(names):
            raise UserError(
                f"{where}: no file is named as data.labels_from='{self.pattern}' has it; the first is {first} — a "
                f"field {{name}} does not hold the sign beside it, {{name:*}} may"
            )
        said = f"{where}: {misfits} of {len(names)} files are not named as data.labels_from has it, such as {first}"
        return columns, said if misfits else ""

    def _match(self, name: str) -> re.Match | None:
        tail = "/".join(name.split("/")[-1 - self.slashes :])
        path = PurePosixPath(tail)
        stem = tail.removesuffix(path.suffix)
        if path.suffix.lower() in compressed.SUFFIXES:  # both suffixes of "1_pos.txt.gz"
            stem = stem.removesuffix(PurePosixPath(stem).suffix)
        return self._regex.fullmatch(tail if self._with_suffix else stem)


def read(pattern: str | None) -> FileLabels | None:
    """The `FileLabels` of `data.labels_from`, or None if it is not set."""
    return None if pattern is None else FileLabels(pattern)


def tolerated(misfits: str, on_error: str) -> list[str]:
    """The warning about names that do not match, as a list. Raises it as UserError if on_error="raise"."""
    if misfits and on_error == "raise":
        raise UserError(f"{misfits} — mend the pattern, or keep them without labels by data.on_error=skip")
    return [misfits] if misfits else []
