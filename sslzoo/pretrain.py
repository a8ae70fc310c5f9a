"""Pretraining: an encoder, an objective and an optimiser, made elsewhere; no method is named here."""

import lightning as L
import torch
from torch import Tensor

from sslzoo import draws
from sslzoo.errors import UserError
from sslzoo.parts import ranks


class Pretrain(L.LightningModule):
    """One step: the objective's loss on a batch, weighed so that ranks together minimise its mean over the
    global batch. Dropout is seeded by (seed, step, rank), so that a continued run draws what an
    uninterrupted one draws.
    """

    def __init__(self, encoder, objective, optim, seed: int, total_steps: int):
        super().__init__()
        self.encoder, self.objective, self.optim = encoder, objective, optim
        self.seed, self.total_steps = seed, total_steps
        self.logged: dict[str, float] = {}  # of the last step; for callbacks
        self.batch_index: Tensor | None = None

    def configure_optimizers(self):
        return self.optim.build(self)

    def training_step(self, batch, batch_idx: int) -> Tensor:
        step = self.global_step
        # dropout alone draws from torch's own generator; everything else from the batch's keys
        torch.manual_seed(draws.key(self.seed, "dropout", step, self.global_rank))
        self.batch_index = batch.index
        loss = self.objective(self.encoder, batch, step)
        value, weight = self.weigh(loss)
        self.logged = self.reduce(loss, weight)
        return value

    def weigh(self, loss) -> tuple[Tensor, Tensor]:
        """This rank's loss, so that the mean over ranks is the mean over the global batch, and its share."""
        count = torch.as_tensor(loss.count, dtype=torch.float32, device=loss.value.device)
        share = count / ranks.total(count)
        return loss.value * share * ranks.world(), share

    def reduce(self, loss, share: Tensor) -> dict[str, float]:
        """The global loss and logs. A rank logs the same names as every other."""
        logs = {"loss": loss.value.detach(), **loss.logs}
        values = torch.stack([torch.as_tensor(v, dtype=torch.float32, device=share.device) for v in logs.values()])
        return dict(zip(logs, ranks.total(values.detach() * share).tolist(), strict=True))

    def on_before_optimizer_step(self, optimizer) -> None:
        norm = torch.nn.utils.get_total_norm([p.grad for p in self.parameters() if p.grad is not None])
        if not bool(torch.isfinite(norm)):
            items = ", ".join(map(str, self.batch_index[:8].tolist()))
            raise UserError(
                f"the gradient is not finite at step {self.global_step} (loss {self.logged['loss']:.4g}, batch of items "
                f"{items}, …): stopped before the update — try a lower optim.lr or trainer.gradient_clip=1"
            )
        self.logged["gradient_norm"] = float(norm)

    def optimizer_step(self, epoch, batch_idx, optimizer, optimizer_closure=None) -> None:
        step = self.global_step
        lr = self.optim.set_rate(optimizer, step, self.total_steps)
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        self.logged["lr"] = lr
        # here, and not in a callback after the batch, whose work a checkpoint of this step would miss
        self.objective.after_step(self.encoder, step, self.total_steps)
