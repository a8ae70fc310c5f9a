"""Templates: a text with fields and a mask, which turns an item into a cloze question. Data, never code."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from sslzoo.data.tokenizer import Tokenizer
from sslzoo.errors import ConfigError, nearest

_BRACES = re.compile(r"\{([^{}]*)\}")
_SPACED = ("byte_bpe", "unigram")  # tokenizers whose words begin with the space before them


@dataclass(frozen=True)
class Piece:
    """A part of a template up to a mask, a separator or the end: words of the template, `texts`, and between them
    `fields`, the numbers of the item's texts; there is one text more than fields. after: "mask", "sep" or "end"."""

    texts: tuple[str, ...]
    fields: tuple[int, ...]
    after: str


class Template:
    """A text such as "{sentence1}? {mask}, {sentence2}" (Gao et al. 2021, 2012.15723, table 1; Schick and Schuetze
    2021, 2001.07676, section 3). In braces: the names of the item's texts; "mask", once, where words are predicted;
    "sep", the tokenizer's separator of two texts.

    names: of the item's texts, in order. Raises ConfigError for a field that is not among them, or a text without a
    mask.
    """

    def __init__(self, text: str, names: Sequence[str]):
        self.text, self.names = text, tuple(names)
        there = ", ".join(f"{{{name}}}" for name in (*names, "mask", "sep"))
        parts = _BRACES.split(text)
        inside = parts[1::2]
        if any(brace in part for part in parts[::2] for brace in "{}"):
            raise ConfigError(f"prompt.template={text!r} has a brace without its other: its fields are {there}")
        for name in inside:
            if name not in (*names, "mask", "sep"):
                raise ConfigError(
                    f"prompt.template has {{{name}}}, a field that this data lacks; there are {there}"
                    f"{nearest(name, names)}"
                )
        if inside.count("mask") != 1:
            raise ConfigError(
                "prompt.template needs {mask} once, where a word is predicted, such as "
                f"'{{{names[0]}}} It was {{mask}}.'; got {text!r}"
            )
        if not set(inside) & set(names):
            raise ConfigError(f"prompt.template={text!r} has none of the item's texts in it; there are {there}")
        self.pieces = list(_pieces(parts, self.names))
        self.slots = sum(len(piece.fields) for piece in self.pieces)

    def encode(
        self,
        tokenizer: Tokenizer,
        items: Sequence[Sequence[str]],
        fillings: Sequence[Sequence[int]],
        max_tokens: int | None = None,
    ) -> tuple[list[np.ndarray], int]:
        """(ids int64 [T] of each item, with special tokens; how many items were cut).

        items: the texts of each item. fillings: the ids that stand at the mask of each item: masks, or the tokens of a
        word. An item of more than `max_tokens` loses the ends of its own texts, the longest first, and nothing of the
        template. Raises ConfigError if the template alone leaves them no room.
        """
        joined = [[_joined(p, item, tokenizer.kind in _SPACED) for item in items] for p in self.pieces]
        encoded = [tokenizer.encode_batch_offsets([text for text, _ in texts]) for texts in joined]
        found, cut = [], 0
        for place, filling in enumerate(fillings):
            ids, owner, slots = [np.array(tokenizer.before, np.int64)], [np.full(len(tokenizer.before), -1)], 0
            after = {"mask": filling, "sep": tokenizer.between, "end": tokenizer.after}
            for piece, texts, tokens in zip(self.pieces, joined, encoded, strict=True):
                ids += [tokens[place][0], np.array(after[piece.after], np.int64)]
                owner += [_owners(tokens[place][1], texts[place][1], slots), np.full(len(after[piece.after]), -1)]
                slots += len(piece.fields)
            whole, owners = np.concatenate(ids), np.concatenate(owner)
            kept = self._fitting(owners, max_tokens)
            cut += len(kept) < len(whole)
            found.append(whole[kept])
        return found, cut

    def _fitting(self, owners: np.ndarray, max_tokens: int | None) -> np.ndarray:
        """The places [T'] of the tokens to keep. owners [T]: the field of each token, -1 for the template."""
        if max_tokens is None or len(owners) <= max_tokens:
            return np.arange(len(owners))
        own = int((owners < 0).sum())
        self._check(own, max_tokens)
        kept = owners < 0
        lengths = _shared(np.bincount(owners[~kept], minlength=self.slots).tolist(), max_tokens - own)
        for slot, length in enumerate(lengths):
            kept[np.flatnonzero(owners == slot)[:length]] = True
        return np.flatnonzero(kept)

    def check_room(self, tokenizer: Tokenizer, filling: Sequence[int], max_tokens: int, beside: str = "") -> None:
        """Raise ConfigError if the template's own tokens leave no room for the item's texts. beside: what else has to
        be read with it, for the message."""
        [ids], _ = self.encode(tokenizer, [[""] * len(self.names)], [filling])
        self._check(len(ids), max_tokens, beside)

    def _check(self, own: int, max_tokens: int, beside: str = "") -> None:
        if own + self.slots > max_tokens:
            raise ConfigError(
                f"prompt.template has {own} tokens of its own, which leave no room for texts in the {max_tokens} that the "
                f"encoder reads{beside}: shorten it, or raise task.data.max_tokens if the encoder has more positions"
            )

    @property
    def spaced(self) -> bool:
        """Whether the word at the mask follows a space."""
        return self.text.partition("{mask}")[0][-1:].isspace()

    @property
    def ends_with_mask(self) -> bool:
        """Whether nothing follows the mask, so that a causal model sees the whole text there."""
        return len(self.text.rstrip()) == self.text.index("{mask}") + len("{mask}")


def _pieces(parts: list[str], names: tuple[str, ...]) -> Iterable[Piece]:
    texts, fields = [parts[0]], []
    for name, text in zip(parts[1::2], parts[2::2], strict=True):
        if name in names:
            fields.append(names.index(name))
            texts.append(text)
        else:
            yield Piece(tuple(texts), tuple(fields), name)
            texts, fields = [text], []
    yield Piece(tuple(texts), tuple(fields), "end")


def _joined(piece: Piece, item: Sequence[str], spaced: bool) -> tuple[str, list[tuple[int, int]]]:
    """(a piece with the item's texts in it, the (start, stop) characters of each). spaced: the space before a mask
    belongs to the word that stands there."""
    text, spans = piece.texts[0], []
    for field, after in zip(piece.fields, piece.texts[1:], strict=True):
        spans.append((len(text), len(text) + len(item[field])))
        text += item[field] + after
    return text.rstrip() if spaced and piece.after == "mask" else text, spans


def _owners(offsets: np.ndarray, spans: list[tuple[int, int]], first: int) -> np.ndarray:
    """The field [T] of each token, by its last character (it may begin with the space before), -1 for the template's.
    offsets [T, 2], spans: (start, stop) characters of tokens and fields. first: the number of the first field."""
    last, found = np.maximum(offsets[:, 1] - 1, offsets[:, 0]), np.full(len(offsets), -1)
    for number, (start, stop) in enumerate(spans, start=first):
        found[(last >= start) & (last < stop)] = number
    return found


def _shared(lengths: list[int], room: int) -> list[int]:
    """How many tokens of each text are kept, `room` in all: the longest are cut to one length."""
    most = next(n for n in range(max(lengths), -1, -1) if sum(min(x, n) for x in lengths) <= room)
    left, found = room - sum(min(x, most) for x in lengths), []
    for length in lengths:
        more = length > most and left > 0
        found.append(min(length, most) + more)
        left -= more
    return found
