"""Retrieval of translations across two languages, by layer."""

from pathlib import Path

import numpy as np
import torch.nn.functional as F
from torch import Tensor

from sslzoo.analysis.base import Analysis, Figure, Findings, Lines, Subject, need_text, rounded, spread
from sslzoo.data import delimited
from sslzoo.data.base import UNK
from sslzoo.errors import ConfigError, UserError, nearest
from sslzoo.progress import Progress


def reciprocal_rank(source: Tensor, target: Tensor) -> Tensor:
    """The mean over i of 1 / rank of target i among all targets by cosine to source i; among ties, the translation is
    ranked last. source, target: [L, N, D] -> [L]."""
    a, b = (F.normalize(x.double(), dim=2) for x in (source, target))
    cosine = a @ b.mT
    own = cosine.diagonal(dim1=1, dim2=2)[..., None]
    return (1 / (cosine >= own).sum(2).double()).mean(1)


class Retrieval(Analysis):
    """The mean reciprocal rank of translations, in both directions and at each layer, by the mean of a text's token
    vectors: as they are, and after subtracting each language's mean vector, which carries most of the information on
    the language (Libovický et al. 2019, 1911.03310, section 3).

    pairs: a .tsv or .csv file with one pair per row. source, target: its columns; null for the first two. columns:
    their names, for a table without a header. items: maximum number of pairs, evenly spaced.
    """

    def __init__(
        self,
        pairs: str,
        source: str | None = None,
        target: str | None = None,
        columns: list[str] | None = None,
        items: int = 1000,
    ):
        if Path(pairs).suffix.lower() not in delimited.SUFFIXES:
            raise ConfigError(f"analysis.pairs must be a .tsv or .csv file of two columns, got {pairs}")
        if items < 2:
            raise ConfigError(f"analysis.items must be 2 or more, got {items}")
        self.pairs, self.columns, self.names, self.items = Path(pairs), columns, (source, target), items

    def check(self, subject: Subject, other: Subject | None) -> None:
        need_text(subject, "analysis=retrieval")

    def read(self) -> tuple[tuple[str, str], list[tuple[str, str]]]:
        """The names of the two columns, and the pairs. Raises UserError if a column, text or pair is missing."""
        found: list[tuple[str, str]] = []
        names = self.names
        for line, row in delimited.table(self.pairs, self.columns):
            where = f"{self.pairs}, line {line}"
            if isinstance(row, str):
                raise UserError(f"{where}: {row}")
            if len(row) < 2:
                raise UserError(f"{where}: a pair has two columns, and there is {', '.join(row)}")
            first, second = (name or default for name, default in zip(names, row, strict=False))
            for name in (first, second):
                if name not in row:
                    raise UserError(f"{self.pairs} has no column '{name}', but {', '.join(row)}{nearest(name, row)}")
            names = (first, second)
            if not row[first].strip() or not row[second].strip():
                raise UserError(f"{where}: '{first if not row[first].strip() else second}' is empty")
            found.append((row[first], row[second]))
        if len(found) < 2:
            raise UserError(f"{self.pairs} has {len(found)} pairs below its header: 2 or more are needed")
        return (str(names[0]), str(names[1])), [found[i] for i in spread(len(found), self.items)]

    def __call__(self, subject: Subject, other: Subject | None, progress: Progress) -> Findings:
        (one, two), pairs = self.read()
        tokenizer, most = subject.tokenizer, subject.data.max_tokens
        planes, lost, unknown = [], 0, []
        for side in range(2):
            ids, cut = tokenizer.encode_batch_counted([pair[side] for pair in pairs], None, most)
            lost += cut
            unknown.append(float((np.concatenate(ids) == UNK).mean()))
            planes.append(subject.texts(ids, progress))
        series = {}
        for name, (a, b) in {
            "as they are": planes,
            "means taken away": [x - x.mean(1, keepdim=True) for x in planes],
        }.items():
            series[f"{one} to {two}, {name}"] = reciprocal_rank(a, b)
            series[f"{two} to {one}, {name}"] = reciprocal_rank(b, a)
        chance = sum(1 / (i + 1) for i in range(len(pairs))) / len(pairs)
        layers = subject.frozen.layers
        best = {name: int(values.argmax()) for name, values in series.items()}
        summary = [f"{len(pairs)} pairs of {self.pairs.name}: mean reciprocal rank by layer, chance {chance:.3f}"]
        summary += [f"  {name}: " + "  ".join(f"{v:.3f}" for v in values.tolist()) for name, values in series.items()]
        if lost:
            summary.append(f"  {lost} of {2 * len(pairs)} texts are longer than {most} tokens and lost their end")
        if max(unknown) > 0.05:
            rest = ", ".join(f"{100 * share:.0f} % of {name}" for share, name in zip(unknown, (one, two), strict=True))
            summary.append(f"  the run's vocabulary does not know {rest}")
        told = "; ".join(
            f"{name} {values[best[name]]:.3f} at layer {layers[best[name]]}" for name, values in series.items()
        )
        lines = Lines("mean reciprocal rank by layer", layers, {name: rounded(x) for name, x in series.items()})
        said = f"Of {len(pairs)} pairs; an order by chance has {chance:.3f}. The best: {told}."
        numbers = {
            "pairs": len(pairs),
            "chance": chance,
            "layers": layers,
            "mrr": lines.series,
            "cut_texts": lost,
            "unknown": dict(zip((one, two), unknown, strict=True)),
        }
        return Findings("retrieval", "\n".join(summary), [Figure("Translations found", said, lines=[lines])], numbers)
