"""What an objective is: a loss over an encoder and a batch."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import Tensor, nn

from sslzoo.data.base import Batch

MOST_ROWS = 16  # of a batch, in `visualize`


def no_logs() -> dict:
    return {}


@dataclass
class Loss:
    """value: the mean over this rank's items, a scalar with gradient; a finite zero where there is none. count: how
    many items that is (masked frames, images, tokens); the trainer weighs ranks by it, so that the loss is the
    mean over the global batch. logs: makes numbers to write down, averaged in the same way; it is called at logged
    steps alone (on all ranks, so it may gather). See `train.guards` for the names that are watched for collapse.
    features: representations [N, D] whose health is measured at logged steps, over all ranks.
    """

    value: Tensor
    count: Tensor | int
    logs: Callable[[], dict[str, Tensor | float]] = no_logs
    features: Tensor | None = None


class Objective(nn.Module):
    """A pretraining method. Made with the encoder and the data, neither of which it stores.

    modalities: those it is defined for. needs: what it asks of an encoder's `offers`.
    learns_targets: whether it learns `batch.targets`, made beforehand by `sslzoo label`.
    min_batch: rows of the global batch that its loss needs at least.
    min_tokens: tokens that a training item needs at least; length_setting: the setting of its own that says so.
    refresh_every: steps between calls of `refresh`, the first before step 0; None for never.
    batch_terms: in words, what its loss computes over the rows of a batch together, beside batch norm: under gradient
    accumulation each part does so by itself. "" where the loss is a sum over rows.
    packs: whether a row may be several documents (`data.pack`): what it asks of a token is within the token's document.
    head_state: the first words of the names of its head's state, with which a run of an objective that has the same begins
    where `init` names this one's run: a language-model head.
    per_item: buffers with an entry for each training item, which a finished run does not keep.

    Everything random comes from `batch.row_seeds` through `sslzoo.rng`; every byte of state is a
    parameter or a persistent buffer made in `__init__`, or in `prepare` where the data gives its size.
    """

    modalities: tuple[str, ...]
    needs: frozenset[str] = frozenset()
    learns_targets: bool = False
    min_batch: int = 1
    min_tokens: int = 1
    length_setting: str = "mask.length"
    refresh_every: int | None = None
    batch_terms: str = ""
    packs: bool = False
    head_state: tuple[str, ...] = ()
    per_item: frozenset[str] = frozenset()

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        raise NotImplementedError

    @property
    def crops(self) -> bool:
        """Whether views of its batches are cropped, from images that may be larger than `data.size`."""
        return any(getattr(child, "crops", False) for child in self.children())

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        """Called once, before the first step or a checkpoint is loaded, with the items of the training split,
        the steps of an epoch and the run's seed: to size a buffer, to refuse what cannot be."""

    def after_step(self, encoder: nn.Module, step: int, total_steps: int) -> None:
        """Called once the optimiser has stepped: a teacher's average, a queue."""

    def refresh(self, features: Tensor, index: Tensor) -> list[nn.Parameter]:
        """Called on every rank before every `refresh_every`-th step, with the pooled features of this rank's share
        of the training split, float32 [n, D], and the places in the split that they are of, int64 [n]; both on the
        CPU, n may be 0. Returns the parameters that it made anew: the optimiser forgets them."""
        return []

    def visualize(self, encoder: nn.Module, batch: Batch, step: int) -> dict:
        """What was asked and what was answered on this batch: small tensors and numbers, and `kind`, which says what
        they are; `report.visualizations` lists the kinds and draws them. Called in eval mode, on every rank alone
        with the same batch."""
        return {}
