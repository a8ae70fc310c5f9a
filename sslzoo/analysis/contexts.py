"""The same word form in different contexts: how much a word's vector depends on its context, by layer."""

from collections import defaultdict

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo.analysis.base import Analysis, Figure, Findings, Lines, Matrix, Subject, need_text, rounded, spread
from sslzoo.data.base import SPECIALS, UNK
from sslzoo.data.loader import collate, ordered_batches
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.frozen import TOKENS
from sslzoo.progress import Progress

AROUND = 6  # words of context shown on either side

Occurrence = tuple[int, int, int]  # the item, and start and stop of a word's pieces in it


def word_spans(ids: np.ndarray, goes_on: np.ndarray) -> list[tuple[int, int]]:
    """(start, stop) of each word's pieces in an item. ids: int64 [T]. goes_on: bool [V], whether an id continues a
    word."""
    found: list[tuple[int, int]] = []
    inside = False
    for place, i in enumerate(ids.tolist()):
        if i < SPECIALS:
            inside = False
        elif inside and goes_on[i]:
            found[-1] = (found[-1][0], place + 1)
        else:
            found.append((place, place + 1))
            inside = True
    return found


def self_similarity(vectors: Tensor) -> Tensor:
    """The mean cosine between occurrences of one word (Ethayarajh 2019, 1909.00512, definition 1). [L, N, D] -> [L]."""
    cosines = cosine_matrix(vectors)
    n = vectors.shape[1]
    return (cosines.sum((1, 2)) - n) / (n * (n - 1))


def cosine_matrix(vectors: Tensor) -> Tensor:
    """Cosines [L, N, N] of vectors [L, N, D]; the diagonal is exactly 1."""
    unit = F.normalize(vectors.double(), dim=2)
    cosines = unit @ unit.mT
    cosines.diagonal(dim1=1, dim2=2).fill_(1.0)
    return cosines


class Contexts(Analysis):
    """Cosines between the vectors of one word form in different texts, by layer, beside those between different words:
    how much of a vector is due to the word, to its context, and to what all vectors share (1909.00512, sections 3.3 and
    4).

    A word's vector is the mean of its pieces' vectors. word: the form to draw; null for the `drawn` forms whose vectors
    differ most in the last layer, often words of several meanings. occurrences: number of texts in which a form must
    occur; as many are read. forms: number of forms to measure, evenly spaced by rank of frequency. items: number of
    texts to search.
    """

    def __init__(
        self, word: str | None = None, occurrences: int = 12, forms: int = 100, drawn: int = 2, items: int = 20000
    ):
        if occurrences < 2 or min(forms, drawn, items) < 1:
            raise ConfigError(
                "analysis=contexts needs occurrences of 2 or more, and forms, drawn and items of 1 or more"
            )
        self.word, self.occurrences, self.forms, self.drawn, self.items = word, occurrences, forms, drawn, items

    def check(self, subject: Subject, other: Subject | None) -> None:
        need_text(subject, "analysis=contexts")

    def __call__(self, subject: Subject, other: Subject | None, progress: Progress) -> Findings:
        tokenizer = subject.tokenizer
        texts = {int(i): subject.opened.read(int(i)).numpy() for i in spread(len(subject.opened), self.items)}
        found = occurrences(texts, tokenizer)
        wanted = None
        if self.word is not None:
            pieces = tokenizer.encode_apart([self.word])[0]
            wanted = tokenizer.decode(pieces).strip()
            if len(word_spans(pieces, tokenizer.is_continuation)) != 1 or UNK in pieces:
                raise UserError(f"'{self.word}' is not one word to the run's tokenizer: it reads '{wanted}'")
            if len(found.get(wanted, ())) < self.occurrences:
                raise UserError(
                    f"'{wanted}' is in {len(found.get(wanted, ()))} texts of {subject.split}, and {self.occurrences} "
                    "are needed: set another analysis.word, a smaller analysis.occurrences, split=train or data=…"
                )
        forms = sorted((f for f in found if len(found[f]) >= self.occurrences), key=lambda f: (-len(found[f]), f))
        if not forms:
            most = max(map(len, found.values()), default=0)
            raise UserError(
                f"no word of {subject.split} is in {self.occurrences} texts (the most frequent is in {most}): "
                "set a smaller analysis.occurrences, split=train or data=…"
            )
        chosen = [forms[i] for i in spread(len(forms), self.forms)]
        if wanted is not None and wanted not in chosen:
            chosen.append(wanted)
        taken = {f: [found[f][i] for i in spread(len(found[f]), self.occurrences)] for f in chosen}
        vectors = word_vectors(subject, texts, [o for f in chosen for o in taken[f]], progress)
        of_form = dict(zip(chosen, vectors.split(self.occurrences, 1), strict=True))
        alike = {f: self_similarity(x) for f, x in of_form.items()}
        mean = torch.stack(list(alike.values())).mean(0)
        # between different words, one occurrence each: what all vectors share
        apart = self_similarity(torch.stack([x[:, 0] for x in of_form.values()], 1)) if len(chosen) > 1 else None
        layers = [str(i) for i in range(len(mean))]
        series = {"the same word": rounded(mean)} | ({} if apart is None else {"different words": rounded(apart)})
        lines = Lines("mean cosine by layer", layers, series)
        said = f"Of {len(chosen)} word forms, each in {self.occurrences} texts. What is above the cosine of different "
        said += "words is of the word; what is below 1 is of its context."
        figures = [Figure("One word in many contexts", said, lines=[lines])]
        shown = [wanted] if wanted else sorted(chosen, key=lambda f: float(alike[f][-1]))[: self.drawn]
        figures += [self._figure(subject, texts, f, taken[f], of_form[f]) for f in shown]
        summary = [
            f"{len(chosen)} word forms, each in {self.occurrences} texts of {subject.split}; mean cosine by layer"
        ]
        summary += [f"  {name:15}  " + "  ".join(f"{v:.2f}" for v in values) for name, values in series.items()]
        summary += [f"  {f:15}  " + "  ".join(f"{v:.2f}" for v in alike[f].tolist()) for f in shown]
        words = {f: {"texts": len(found[f]), "self_similarity": rounded(alike[f])} for f in chosen}
        numbers = {"layers": layers, "occurrences": self.occurrences, "words": words, **series}
        return Findings("contexts" if wanted is None else f"contexts-{wanted}", "\n".join(summary), figures, numbers)

    def _figure(self, subject: Subject, texts: dict, form: str, taken: list[Occurrence], vectors: Tensor) -> Figure:
        """The cosine matrices of one form. Texts are sorted by the leading eigenvector of the last layer's centred
        matrix, which puts similar ones beside each other."""
        cosines = cosine_matrix(vectors)
        last = cosines[-1] - cosines[-1].mean(0, keepdim=True)
        leading = torch.linalg.eigh(last - last.mean(1, keepdim=True))[1][:, -1]
        leading = leading * torch.sign(leading[leading.abs().argmax()])  # an eigenvector's sign is arbitrary
        order = torch.argsort(leading, stable=True)
        ordered = cosines[:, order][:, :, order]
        matrices = [Matrix(f"layer {i}", rounded(x)) for i, x in enumerate(ordered)]
        legend = [context(subject, texts, taken[i]) for i in order.tolist()]
        return Figure(f"‘{form}’ in {len(taken)} texts: cosines", "", matrices, legend=legend)


def occurrences(texts: dict[int, np.ndarray], tokenizer) -> dict[str, list[Occurrence]]:
    """{word form: occurrences} in texts of token ids: the first in each text, equal texts counted once; forms with
    other characters than letters are left out."""
    goes_on, forms = tokenizer.is_continuation, {}
    found: dict[str, list[Occurrence]] = defaultdict(list)
    seen: set[bytes] = set()
    for item, ids in texts.items():
        if ids.tobytes() in seen:
            continue
        seen.add(ids.tobytes())
        here = set()
        for start, stop in word_spans(ids, goes_on):
            pieces = tuple(ids[start:stop].tolist())
            if pieces not in forms:
                forms[pieces] = tokenizer.decode(pieces).strip()
            form = forms[pieces]
            if form.isalpha() and form not in here:
                here.add(form)
                found[form].append((item, start, stop))
    return dict(found)


def word_vectors(subject: Subject, texts: dict, wanted: list[Occurrence], progress: Progress) -> Tensor:
    """[L, N, D], for each occurrence the mean over its pieces."""
    by_item: dict[int, list[int]] = defaultdict(list)
    for number, (item, _, _) in enumerate(wanted):
        by_item[item].append(number)
    items = np.array(sorted(by_item))
    lengths, done = np.array([len(texts[i]) for i in items]), 0
    found: list[Tensor] = [torch.empty(0)] * len(wanted)
    for rows in ordered_batches(lengths, np.arange(len(items)), TOKENS):
        batch = collate([(torch.from_numpy(texts[int(items[row])]), row, -1, {}) for row in rows])
        planes, _ = subject.frozen.tokens(batch)
        for row, tokens in zip(rows, planes, strict=True):
            for number in by_item[int(items[row])]:
                _, start, stop = wanted[number]
                found[number] = tokens[start:stop].mean(0)
        done += len(rows)
        progress(f"features of {subject.name}", done, len(items))
    return torch.stack(found, 1)


def context(subject: Subject, texts: dict, at: Occurrence) -> str:
    """An occurrence in brackets, with the words around it."""
    (item, start, stop), tokenizer = at, subject.tokenizer
    ids = texts[item]
    spans = word_spans(ids, tokenizer.is_continuation)
    here = next(n for n, span in enumerate(spans) if span[0] == start)
    first, last = max(0, here - AROUND), min(len(spans) - 1, here + AROUND)
    parts = [
        tokenizer.decode(ids[a:b]).strip() for a, b in ((spans[first][0], start), (start, stop), (stop, spans[last][1]))
    ]
    cut = ("… " if first else "", " …" if last < len(spans) - 1 else "")
    return f"{cut[0]}{parts[0]} [{parts[1]}] {parts[2]}{cut[1]}".strip()
