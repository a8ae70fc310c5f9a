"""Training a pattern's model on a few labels, with masked-language modelling on texts without labels."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.augment.masking import TokenMask
from sslzoo.data.base import PAD, Batch, maskable
from sslzoo.data.loader import IGNORE
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.objectives.base import Loss
from sslzoo.objectives.bert import replaced
from sslzoo.prompts.language_model import LanguageModel
from sslzoo.prompts.objectives import PromptClassification
from sslzoo.prompts.prompt import Prompt

UNLABELLED = "unlabelled"  # first word of the keys of `Batch.targets` with unlabelled items


class PatternTraining(PromptClassification):
    """A pattern's model of PET (Schick & Schuetze 2021, 2001.07676, section 3.2):

    loss = (1 - alpha) L_CE + alpha L_MLM

    with alpha = 1e-4. L_CE is the loss of `PromptClassification`; L_MLM is BERT's loss, the mean over the masked
    pieces, on the unlabelled items in `batch.targets`, int64 [B, T] each, padded with -100. These are prompts, too,
    whose mask for the label is neither chosen nor predicted. Without unlabelled items the loss is L_CE.

    mask_prob: the share of pieces that are masked.
    """

    batch_terms = "share of masked tokens"

    def __init__(
        self,
        encoder: Any,
        data: Any,
        language_model: LanguageModel,
        prompt: Prompt,
        alpha: float = 1e-4,
        mask_prob: float = 0.15,
    ):
        if language_model.causal:
            raise ConfigError(
                "PET masks words of unlabelled texts, and this run's language model reads from left to right: choose a "
                "run of objective=bert, or method=prompt"
            )
        if not 0 <= alpha < 1:
            raise ConfigError(f"alpha is a weight of at least 0 and below 1, got {alpha}")
        super().__init__(encoder, data, language_model, prompt)
        self.alpha, self.mask, self.vocab_size = alpha, TokenMask(mask_prob), data.real_vocab_size

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        labelled = super().forward(encoder, batch, step)
        unlabelled = [x for name, x in batch.targets.items() if name.startswith(UNLABELLED)]
        if not unlabelled or not self.alpha:
            return labelled
        total, masked = self.language_model_loss(encoder, batch, unlabelled)
        # the trainer weights ranks by their rows, but the second term is a mean over masked pieces
        counts = torch.tensor([labelled.count, masked], dtype=torch.float32, device=total.device)
        counts = distributed.all_reduce_sum(counts)
        auxiliary = total * (counts[0] / counts[1].clamp(min=1)) / max(int(labelled.count), 1)
        value = (1 - self.alpha) * labelled.value + self.alpha * auxiliary

        def logs() -> dict[str, Tensor | float]:
            return {**labelled.logs(), "mlm_loss": auxiliary.detach()}

        return Loss(value, labelled.count, logs)

    def language_model_loss(self, encoder: nn.Module, batch: Batch, unlabelled: list[Tensor]) -> tuple[Tensor, int]:
        """(the summed loss of the masked pieces of unlabelled items [B, T_k], their number)."""
        size = max(x.shape[1] for x in unlabelled)
        ids = torch.cat([F.pad(x, (0, size - x.shape[1]), value=IGNORE) for x in unlabelled])
        lengths = (ids != IGNORE).sum(1)
        ids = ids.masked_fill(ids == IGNORE, PAD)
        places = torch.arange(len(unlabelled)).repeat_interleave(len(batch))
        seeds = rng.fold_in(batch.row_seeds.repeat(len(unlabelled)), places)
        chosen = self.mask(seeds, valid_mask(lengths, size) & maskable(ids))
        corrupted, at = replaced(ids, chosen, seeds, self.vocab_size), indices(chosen)
        device = batch.inputs.device
        hidden = take(encoder(corrupted.to(device, non_blocking=True), lengths).last, at)
        target = take(ids, at).to(device, non_blocking=True)
        logits = self.language_model(encoder, hidden).float()
        return F.cross_entropy(logits, target, reduction="sum"), len(at)
