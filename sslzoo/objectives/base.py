"""The interface of objectives: a loss of an encoder on a batch."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from sslzoo.data.base import Batch

MOST_ROWS = 16  # rows of a batch that `visualize` returns, at most


def no_logs() -> dict:
    return {}


@dataclass
class Loss:
    """value: the mean over this rank's items, a scalar with gradient; a finite zero if there are none. count: the
    number of items (masked frames, images, tokens); the trainer weights ranks by it, so that the loss is the mean over
    the global batch. logs: returns numbers to log, averaged in the same way; called only at logged steps, on all ranks,
    so it may gather. See `train.guards` for the names that are watched for collapse. features: representations [N, D],
    whose feature_std and feature_rank are logged at logged steps, over all ranks.
    """

    value: Tensor
    count: Tensor | int
    logs: Callable[[], dict[str, Tensor | float]] = no_logs
    features: Tensor | None = None


class Objective(nn.Module):
    """A pretraining method, constructed with the encoder and the data.

    modalities: the supported ones. needs: the capabilities that it requires of an encoder's `offers`.
    learns_targets: whether it predicts `batch.targets`, made beforehand by `sslzoo label`.
    min_batch: minimum number of rows of the global batch.
    min_tokens: minimum number of tokens of a training item; length_setting: its setting that determines this.
    refresh_every: steps between calls of `refresh`, the first before step 0; None for never.
    refreshes_with_features: whether every `refresh` needs features; if not, only that before step 0 gets any.
    batch_terms: what its loss computes jointly over the rows of a batch, besides batch norm, in words: with gradient
    accumulation these see one part of the batch only. "" if the loss is a sum over rows.
    skips_prefix: whether it supports tokens before the first of an utterance, such as a class token.
    packs: whether it supports rows of several documents (`data.pack`), with targets within each token's document.
    head_state: first words of the names of its head's state (a language-model head, a quantiser), which is copied to a
    new run with `init`, if the new objective has the same.
    per_item: buffers with an entry per training item, which a finished run does not store: in eval mode the objective
    must not read them.

    All randomness comes from `batch.row_seeds` through `sslzoo.rng`; all state is in parameters or persistent buffers
    made in `__init__`, or in `prepare` if their size depends on the data. An encoder with stochastic depth draws by the
    row: an objective that encodes several rows of an item next to each other says so (`nn.drop_path.rows_of`).
    """

    modalities: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    learns_targets: bool = False
    min_batch: int = 1
    min_tokens: int = 1
    length_setting: str = "mask.length"
    refresh_every: int | None = None
    refreshes_with_features: bool = True
    batch_terms: str = ""
    skips_prefix: bool = False
    packs: bool = False
    head_state: tuple[str, ...] = ()
    per_item: frozenset[str] = frozenset()

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        raise NotImplementedError

    @property
    def crops(self) -> bool:
        """Whether its views are crops of images that may be larger than `data.size`."""
        return any(getattr(child, "crops", False) for child in self.children())

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        """Called once, before the first step and before a checkpoint is loaded, with the number of training items, the
        steps per epoch and the run's seed, to allocate buffers and raise UserError for unsuitable data."""

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        """Called after each optimiser step, for example to update a teacher."""

    def refresh(self, features: Tensor, index: Tensor) -> list[nn.Parameter]:
        """Called on every rank before every `refresh_every`-th step, with the pooled features of this rank's share
        of the training split, float32 [n, D], and the indices of their items, int64 [n]; both on the CPU, n may be 0.
        Returns the parameters that it reset, whose optimiser state is dropped."""
        return []

    def visualize(self, encoder: nn.Module, batch: Batch, step: int) -> dict:
        """The inputs and predictions on a batch, to be plotted: small tensors and numbers, and `kind`, one of those in
        `report.visualizations`, which draws them. Called in eval mode, on every rank independently with the same
        batch."""
        return {}
