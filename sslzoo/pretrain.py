"""The LightningModule of pretraining, independent of the encoder, objective and optimiser."""

from contextlib import AbstractContextManager, nullcontext
from functools import cached_property

import lightning as L
import torch
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.errors import UserError
from sslzoo.nn.drop_path import rows_of
from sslzoo.nn.finite import FiniteCheck

_NOTHING = 50  # steps without any target, after which a run ends
_NO_WEIGHT = 1e-12  # lower bound of a total weight, to avoid division by 0


class Pretrain(L.LightningModule):
    """A step is an update of the weights, from `parts` micro-batches of the global batch. The loss is the mean over all
    counted elements of the global batch, over ranks and micro-batches. Dropout is seeded by (seed, step, rank, part),
    so that a resumed run has the same draws as an uninterrupted one.

    Between two logged steps nothing is copied from the device: losses and gradient norms stay there until `look`.
    """

    def __init__(self, encoder, objective, optim, seed: int, total_steps: int, log_every: int = 1, parts: int = 1):
        super().__init__()
        self.encoder, self.objective, self.optim = encoder, objective, optim
        self.seed, self.total_steps, self.log_every, self.parts = seed, total_steps, log_every, parts
        self.also_log: list[int] = []  # also log every so many steps, for what callbacks measure
        self.logged: dict[str, float] = {}  # of the last step if it is logged, else empty; for callbacks
        self.features: Tensor | None = None  # of a logged step
        self.skipped = 0  # unreadable items in total; set at the end
        self.part = 0  # of the step; 0 right after an update
        self.sums: list[tuple[list[str], Tensor]] = []  # of a logged step's parts
        self.unseen = FiniteCheck()  # of the steps since the last look
        self.steps, self.counted = 0, 0.0  # of this process; total count over which their losses are means

    @cached_property
    def layer_dropping(self) -> list[nn.Module]:
        """The trunks with layer drop."""
        return [module for module in self.modules() if hasattr(module, "layer_drop_seed")]

    def gathered(self) -> AbstractContextManager:
        """A context in which ranks may call parts of the module on their own: all parameters are whole."""
        return nullcontext()

    def parts_to_save(self) -> tuple[nn.Module, nn.Module]:
        """(encoder, objective) with all their weights. To be called by every rank."""
        return self.encoder, self.objective

    def configure_optimizers(self):
        return self.optim.build(self)

    def logs_at(self, step: int) -> bool:
        measured = any((step + 1) % every == 0 for every in self.also_log)
        return step % self.log_every == 0 or measured or step + 1 == self.total_steps

    def training_step(self, batch, batch_idx: int) -> Tensor:
        step, words = self.global_step, [self.part] if self.part else []
        # only dropout draws from torch's global generator; everything else uses the batch's seeds
        torch.manual_seed(rng.derive_seed(self.seed, "dropout", step, self.global_rank, *words))
        for trunk in self.layer_dropping:
            trunk.layer_drop_seed = rng.derive_seed(self.seed, "layer drop", step)
        with rows_of(batch.row_seeds):
            loss = self.objective(self.encoder, batch, step)
        value, weight = self.weigh(loss)
        if self.part == 0:
            self.logged, self.sums, self.features, self.items = {}, [], None, batch.index[:8].tolist()
        if self.logs_at(step):
            if loss.features is not None:
                found = loss.features.detach()
                self.features = found if self.features is None else torch.cat([self.features, found])
            self.sums.append(self.reduce(loss, weight))
        self.loss = loss.value.detach() if self.part == 0 else self.loss + loss.value.detach()
        self.part += 1
        return value

    def weigh(self, loss) -> tuple[Tensor, Tensor]:
        """(this rank's weighted loss of a part, its weight): the mean over ranks (and over parts, by Lightning) is the
        mean over the global batch, up to a factor that `on_before_optimizer_step` applies."""
        count = torch.as_tensor(loss.count, dtype=torch.float32, device=loss.value.device)
        total = distributed.all_reduce_sum(count)
        if self.part == 0:  # a part may have no targets
            self.first_total, self.total = total.clamp(min=_NO_WEIGHT if self.parts == 1 else 1), _NO_WEIGHT
        self.total = (self.total + total).clamp(min=_NO_WEIGHT)
        self.counted = self.counted + total
        weight = count / self.first_total
        return loss.value * weight * distributed.world_size() * self.parts, weight

    def reduce(self, loss, weight: Tensor) -> tuple[list[str], Tensor]:
        """(names, sums over ranks of the weighted loss and logs). All ranks must log the same names."""
        logs = {"loss": loss.value.detach(), **loss.logs()}
        values = torch.stack([torch.as_tensor(v, dtype=torch.float32, device=weight.device) for v in logs.values()])
        return list(logs), distributed.all_reduce_sum(values.detach() * weight)

    def on_before_optimizer_step(self, optimizer) -> None:
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        if self.parts > 1:
            torch._foreach_mul_(gradients, self.first_total / self.total)
        norm = distributed.whole(torch.nn.utils.get_total_norm(gradients))
        self.unseen.add(self.global_step, self.items, self.loss / self.parts, norm)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None) -> None:
        step = self.global_step
        lr = self.optim.set_rate(optimizer, step, self.total_steps)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.part, self.steps = 0, self.steps + 1
        if self.logs_at(step):
            self.logged = self.look() | {"lr": lr}
        # not in on_train_batch_end: a checkpoint of this step would have the old teacher
        if not getattr(self.trainer.precision_plugin, "skipped", False):
            self.objective.after_step(self.encoder, step, self.total_steps)

    def look(self) -> dict[str, float]:
        """The logs of this step, read from the device (gradient_norm only, if it had no targets). Raises UserError if a
        step since the last look was not finite, naming the first and its items, or if no step so far had targets."""
        if not self.unseen.steps:
            return {}
        names, values = self.sums[0][0] if self.sums else [], self.first_total.new_zeros(0)
        if self.sums:
            values = sum(values for _, values in self.sums) * (self.first_total / self.total)
        # a scaled loss may overflow: the scaler then skips the step, and lowers its scale
        scaled = getattr(self.trainer.precision_plugin, "is_scaled", False) if self._trainer else False
        values = torch.cat([values, torch.stack([self.total, self.counted])])
        self.sums, (norm, (*values, total, counted)) = [], self.unseen.read(values, scaled)
        if not counted and self.steps >= min(_NOTHING, self.total_steps):
            raise UserError(
                f"in {self.steps} steps no item had anything that {type(self.objective).__name__} could learn from, such as "
                "a token to mask or to predict: the items are empty or too short — look at what data is read"
            )
        return (dict(zip(names, values, strict=True)) if total > 2 * _NO_WEIGHT else {}) | {"gradient_norm": norm}
