"""Recognition: predicting a transcript's symbols, which are not aligned with time."""

from collections.abc import Iterable, Iterator
from itertools import groupby
from typing import Any, Literal

import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.augment.spec_augment import SpecAugment
from sslzoo.data.base import Batch
from sslzoo.data.loader import IGNORE
from sslzoo.data.transcripts import BLANK
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import host
from sslzoo.nn.recurrent import LSTMStack
from sslzoo.nn.weighted_sum import WeightedSum
from sslzoo.objectives.base import Loss
from sslzoo.tasks.base import TaskObjective
from sslzoo.tasks.slot_scores import transcript_scores


class CTC(TaskObjective):
    """Connectionist temporal classification (Graves et al. 2006, eq. 8): with p(y | x), the sum over all alignments of
    the symbols y with the tokens of x,

    loss = -1/B sum_b log p(y_b | x_b) / |y_b|

    over the B rows that have an alignment: y_b with a blank between equal neighbours is no longer than x_b. The tokens
    go through a linear layer, LSTM layers in both directions, and a linear layer.

    projection_dim: width of the first layer. recurrent: how many LSTM layers; hidden: states of each in each direction;
    dropout: after each. features: "last", the encoder's last layer, or "layers", a weighted sum of all. augment:
    of the features, in training.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens"})
    kinds = ("transcripts",)

    def __init__(
        self,
        encoder: Any,
        data: Any,
        features: Literal["last", "layers"] = "layers",
        projection_dim: int = 256,
        recurrent: int = 0,
        hidden: int = 256,
        dropout: float = 0.0,
        augment: SpecAugment | None = None,
    ):
        super().__init__()
        if recurrent < 0:
            raise ConfigError(f"objective.recurrent is a number of layers, 0 or more, got {recurrent}")
        self.metric, self.symbols, self.prefix = data.task.metric, data.task.symbols, encoder.prefix
        self.symbols.names = list(data.classes)  # of a trained head: kinds of slots may be in a file
        self.layers = WeightedSum(encoder.depth + 1) if features == "layers" else None
        self.augment = augment
        self.project = nn.Linear(encoder.dim, projection_dim)
        self.network = LSTMStack(projection_dim, hidden, recurrent, dropout=dropout) if recurrent else None
        self.head = nn.Linear(self.network.dim if self.network else projection_dim, len(data.classes))

    def outputs(self, encoder: nn.Module, batch: Batch) -> tuple[Tensor, Tensor]:
        """(logits [B, T, symbols], the number of valid tokens in each row [B] on the host)."""
        encoded = encoder(batch.inputs, batch.lengths)
        mixed = encoded.last if self.layers is None else self.layers(encoded.hidden)
        mixed, lengths = mixed[:, self.prefix :], host(encoded.lengths) - self.prefix
        if self.training and self.augment is not None:
            mixed = self.augment(mixed, lengths, batch.row_seeds)
        mixed = self.project(mixed)
        return self.head(mixed if self.network is None else self.network(mixed, lengths, batch.row_seeds)), lengths

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """[B, T, symbols]."""
        return self.outputs(encoder, batch)[0]

    def losses(self, logits: Tensor, lengths: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """(-log p(y | x) / |y| of each row [B], 0 where there is no alignment; whether there is one [B], on the
        host)."""
        sizes = (labels != IGNORE).sum(1)
        repeats = ((labels[:, 1:] == labels[:, :-1]) & (labels[:, 1:] != IGNORE)).sum(1)
        aligned = (sizes + repeats <= lengths) & (sizes > 0)
        targets = labels.clamp(min=0).to(logits.device, non_blocking=True)
        chances = logits.float().log_softmax(2).transpose(0, 1)
        found = F.ctc_loss(chances, targets, lengths, sizes, BLANK, reduction="none", zero_infinity=True)
        return found * (aligned / sizes.clamp(min=1)).to(found, non_blocking=True), aligned

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        logits, lengths = self.outputs(encoder, batch)
        losses, aligned = self.losses(logits, lengths, batch.targets["label"])
        count = int(aligned.numpy().sum())  # on the host
        return Loss(losses.sum() / max(count, 1), count, lambda: {"alignable": count / len(batch)})

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        said, truth, loss, aligned = [], [], 0.0, 0
        for batch in batches:
            logits, lengths = self.outputs(encoder, batch)
            losses, here = self.losses(logits, lengths, batch.targets["label"])
            loss, aligned = loss + float(losses.sum()), aligned + int(here.sum())
            said += self.read(logits, lengths)
            truth += [self.symbols.decode(row[row != IGNORE].tolist()) for row in batch.targets["label"]]
        rates = transcript_scores(self.symbols.rates, said, truth)
        yield self.metric, rates.pop(self.metric)
        yield from rates.items()
        yield "loss", loss / max(aligned, 1)
        yield "unaligned", len(truth) - aligned  # rows of more symbols than tokens

    def read(self, logits: Tensor, lengths: Tensor) -> list[str]:
        """The text of the likeliest symbol at each token, with repeats taken once (Graves et al. 2006, best path)."""
        best = logits.argmax(2).tolist()
        rows = ([symbol for symbol, _ in groupby(row[:n])] for row, n in zip(best, lengths.tolist(), strict=True))
        return [self.symbols.decode(row) for row in rows]

    def predict(self, encoder: nn.Module, batch: Batch) -> list[str]:
        """The transcript of each row; of phones, their names with spaces between."""
        return self.read(*self.outputs(encoder, batch))

    def chance(self, train: Any, test: Any) -> float:
        """The score of empty transcripts: every symbol is left out."""
        truth = [self.symbols.decode(row.tolist()) for row in test.encoded]
        return transcript_scores([self.metric], [""] * len(truth), truth)[self.metric]
