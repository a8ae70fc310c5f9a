"""Early exit: a classifier on every layer of a transformer, and rows of a batch that leave at the first one that is
sure enough, by its entropy (DeeBERT) or because several agree (PABEE)."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo.data.base import Batch
from sslzoo.encoders.ragged import rows_apart
from sslzoo.encoders.transformer import Transformer
from sslzoo.errors import ConfigError
from sslzoo.nn.dropout import SeededDropout
from sslzoo.nn.metrics import choice_logs
from sslzoo.objectives.base import Loss
from sslzoo.tasks.base import TaskObjective
from sslzoo.tasks.metrics import REGRESSION, score

Memory = tuple[Tensor, ...]  # what a criterion keeps of each row between layers, [n] each


class Exit(nn.Module):
    """The classifier of one layer: W f + c of the layer's vector f [B, D], with dropout of its input; pooler: a dense
    layer with tanh before it, as BERT's. number: of the layer, for draws of its own."""

    def __init__(self, dim: int, outputs: int, pooler: bool, dropout: float, number: int):
        super().__init__()
        self.pooler = nn.Linear(dim, dim) if pooler else None
        self.dropout = SeededDropout(dropout, f"dropout of exit {number}")
        self.head = nn.Linear(dim, outputs)

    def forward(self, vector: Tensor, row_seeds: Tensor) -> Tensor:
        """[B, D], int64 [B] -> [B, outputs]."""
        if self.pooler is not None:
            vector = torch.tanh(self.pooler(vector))
        return self.head(self.dropout(vector, row_seeds))

    @property
    def learns(self) -> bool:
        return self.head.weight.requires_grad


@dataclass
class Outputs:
    """A split's labels [N] and the output of every layer's classifier, float32 [L, N, outputs], on the CPU."""

    labels: np.ndarray
    logits: Tensor


class ExitTask(TaskObjective):
    """The base of DeeBERT and PABEE.

    criterion: the name of the buffer that decides when a row leaves. It is chosen after training, on validation, unless
    it is a setting: of its `candidates`, the one with the fewest layers whose score is at most `max_drop` below the
    full model's. Until then no row leaves early.
    """

    modalities = ("image", "speech", "text")
    criterion: str
    calibrates = True

    def __init__(self, encoder: Any, data: Any, pooler: bool, dropout: float, max_drop: float, limit: float | None):
        super().__init__()
        if not 0 <= dropout < 1:
            raise ConfigError(f"objective.dropout must be at least 0 and below 1, got {dropout}")
        if max_drop < 0:
            raise ConfigError(f"objective.max_drop must be at least 0, got {max_drop}")
        if not isinstance(getattr(encoder, "trunk", None), Transformer):
            raise ConfigError(
                f"{type(self).__name__} is for transformers, and this encoder ({type(encoder).__name__}) has none: choose "
                "another head"
            )
        self.metric, self.max_drop, self.chooses = data.task.metric, max_drop, limit is None
        self.regresses = data.task.kind == "regression"
        outputs = 1 if self.regresses else len(data.classes)
        self.exits = nn.ModuleList(
            Exit(encoder.dim, outputs, pooler, dropout, number) for number in range(1, encoder.depth + 1)
        )
        value = self.never if limit is None else limit
        precise = torch.float64 if isinstance(value, float) else torch.int64
        self.register_buffer(self.criterion, torch.tensor(value, dtype=precise))

    @property
    def never(self) -> float:
        """The value of the criterion with which no row leaves before the last layer."""
        raise NotImplementedError

    @property
    def candidates(self) -> list[float]:
        """Values of the criterion to look at, from the full model to the fewest layers."""
        raise NotImplementedError

    def vector(self, encoder: Any, hidden: Tensor, lengths: Tensor) -> Tensor:
        """What the classifier of a layer reads of its hidden states [n, T, D] after `finish`: [n, D]."""
        raise NotImplementedError

    def combined(self, losses: list[tuple[int, Tensor]]) -> Tensor:
        """The loss of the classifiers that learn, (number of the layer from 1, its own loss) each."""
        raise NotImplementedError

    def leaving(self, logits: Tensor, memory: Memory | None, limit: float) -> tuple[Tensor, Memory]:
        """(which rows leave after this layer, bool [n]; what is kept of all rows for the next), of its classifier's
        logits [n, outputs] and of what was kept (None at the first layer). Each row on its own."""
        raise NotImplementedError

    @property
    def limit(self) -> float:
        """The criterion's value."""
        return getattr(self, self.criterion).item()

    @property
    def chosen_by(self) -> str:
        """The mean score of the layers that learn: it serves every value of the criterion, which is chosen after."""
        return "exits"

    def exit_logits(self, encoder: Any, batch: Batch) -> list[Tensor]:
        """The output of every layer's classifier on all rows, [B, outputs] each."""
        encoded = encoder(batch.inputs, batch.lengths)
        hidden = [*map(encoder.trunk.finish, encoded.hidden[1:-1]), encoded.last]
        vectors = [self.vector(encoder, x, encoded.lengths) for x in hidden]
        return [head(x, batch.row_seeds) for head, x in zip(self.exits, vectors, strict=True)]

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        found = [(i, x) for i, x in enumerate(self.exit_logits(encoder, batch), start=1) if self.exits[i - 1].learns]
        labels = batch.targets["label"].to(found[-1][1].device, non_blocking=True)
        value = self.combined([(number, self.loss_of(logits, labels)) for number, logits in found])
        if self.regresses:
            return Loss(value, len(labels))
        return Loss(value, len(labels), partial(choice_logs, found[-1][1], labels))

    def loss_of(self, logits: Tensor, labels: Tensor) -> Tensor:
        """A classifier's own loss, the mean over rows."""
        if self.regresses:
            return F.mse_loss(logits[:, 0].float(), labels)
        return F.cross_entropy(logits, labels)

    def leave(self, encoder: Any, batch: Batch, limit: float | None = None) -> tuple[Tensor, Tensor]:
        """Run the blocks on a batch whose rows leave, one by one, while the others go on: (the logits of each row's
        last classifier [B, outputs], the number of layers that it ran, int64 [B] on the CPU). limit: the criterion's
        value, None for its own. Only in eval mode."""
        limit = self.limit if limit is None else limit
        tokens, lengths = encoder.embed(batch.inputs, batch.lengths)
        apart = None if encoder.trunk.causal else rows_apart(lengths, tokens.shape[1], tokens.device)
        if apart is None:
            return self._through(encoder, tokens, lengths, batch.row_seeds, limit)
        parts = [
            self._through(encoder, tokens[i : i + 1, :n], lengths[i : i + 1], batch.row_seeds[i : i + 1], limit)
            for i, n in enumerate(apart)
        ]
        logits, layers = zip(*parts, strict=True)
        return torch.cat(logits), torch.cat(layers)

    def _through(
        self, encoder: Any, tokens: Tensor, lengths: Tensor, seeds: Tensor, limit: float
    ) -> tuple[Tensor, Tensor]:
        trunk, state = encoder.trunk, encoder.trunk.prepare(tokens, lengths)
        rows = torch.arange(len(tokens))
        memory: Memory | None = None
        found: Tensor | None = None
        layers = torch.full((len(tokens),), trunk.depth)
        for number, head in enumerate(self.exits):
            state = trunk.block(number, state)
            logits = head(self.vector(encoder, trunk.finish(state.x), state.lengths), seeds)
            found = logits.new_zeros(len(tokens), logits.shape[1]) if found is None else found
            found[rows.to(found.device)] = logits  # a row that goes on is written again
            if number + 1 == trunk.depth:
                break
            gone, memory = self.leaving(logits, memory, limit)
            gone = gone.cpu()
            layers[rows[gone]] = number + 1
            if bool(gone.all()):
                break
            if bool(gone.any()):
                stay = (~gone).nonzero()[:, 0]
                rows, seeds, state = rows[stay], seeds[stay.to(seeds.device)], state.select(stay).trimmed()
                memory = tuple(kept[stay.to(kept.device)] for kept in memory)
        assert found is not None  # there is a layer
        return found, layers

    def layers_of(self, logits: Tensor, limit: float) -> Tensor:
        """The number of layers that each row runs, int64 [N], of every layer's outputs [L, N, outputs]: as `leave`."""
        memory, layers = None, torch.full((logits.shape[1],), len(logits))
        for number in range(1, len(logits)):
            gone, memory = self.leaving(logits[number - 1], memory, limit)
            layers[gone & (layers == len(logits))] = number
        return layers

    def logits(self, encoder: nn.Module, batch: Batch) -> Tensor:
        """[B, outputs], where each row left."""
        return self.leave(encoder, batch)[0]

    def outputs(self, encoder: nn.Module, batches: Iterable[Batch]) -> Outputs:
        """What every layer says of a split."""
        labels, found = [], []
        for batch in batches:
            labels.append(batch.targets["label"].numpy(force=True))
            found.append(torch.stack(self.exit_logits(encoder, batch)).float().cpu())
        return Outputs(np.concatenate(labels), torch.cat(found, 1))

    def predictions(self, logits: Tensor) -> np.ndarray:
        """Class numbers or values [N] of [N, outputs]."""
        return logits[:, 0].double().numpy() if self.regresses else logits.argmax(1).numpy()

    def scored(self, found: Outputs, limit: float) -> tuple[float, float, np.ndarray]:
        """(the score of rows that leave by a value of the criterion, the mean number of layers that they run, their
        predictions)."""
        layers = self.layers_of(found.logits, limit)
        said = self.predictions(found.logits[layers - 1, torch.arange(len(layers))])
        return score(self.metric, found.labels, said), float(layers.double().mean()), said

    def layer_scores(self, found: Outputs) -> list[float]:
        """The score of each layer's classifier on all rows."""
        return [score(self.metric, found.labels, self.predictions(logits)) for logits in found.logits]

    def evaluate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> Iterator[tuple[str, float]]:
        """Also: layers, the mean number that a row runs; last_layer, the full model's score; exits, the mean score of
        the layers that learn, and loss, the mean of their losses."""
        found = self.outputs(encoder, batches)
        value, layers, said = self.scored(found, self.limit)
        yield self.metric, value
        more = REGRESSION if self.regresses else ("accuracy", *(["f1"] if "f1" in self.metric else []))
        for metric in more:
            if metric != self.metric:
                yield metric, score(metric, found.labels, said)
        scores, labels = self.layer_scores(found), torch.from_numpy(found.labels)
        learning = [i for i, head in enumerate(self.exits) if head.learns] or list(range(len(self.exits)))
        yield "layers", layers
        yield "last_layer", scores[-1]
        yield "exits", float(np.mean([scores[i] for i in learning]))
        yield "loss", float(np.mean([float(self.loss_of(found.logits[i], labels)) for i in learning]))

    def predict(self, encoder: nn.Module, batch: Batch) -> list:
        logits = self.logits(encoder, batch)
        return logits[:, 0].tolist() if self.regresses else logits.argmax(1).tolist()

    def chance(self, train: Any, test: Any) -> float:
        centre = train.labels.mean() if self.regresses else np.bincount(train.labels).argmax()
        return score(self.metric, test.labels, np.full_like(test.labels, centre))

    def calibrate(self, encoder: nn.Module, batches: Iterable[Batch], split: Any) -> None:
        if not self.chooses or not self.exits[0].learns:
            return
        found = self.outputs(encoder, batches)
        full, *_ = self.scored(found, self.never)
        kept = [(layers, limit) for limit in self.candidates for value, layers, _ in [self.scored(found, limit)]
                if value >= full - self.max_drop]  # fmt: skip
        getattr(self, self.criterion).fill_(min(kept)[1])
