"""Training on prompts of several tasks at once, which differ in the words that stand for their labels."""

from functools import partial

import torch.nn.functional as F
from torch import nn

from sslzoo.data.base import Batch
from sslzoo.nn.masked import take
from sslzoo.nn.metrics import choice_logs
from sslzoo.objectives.base import Loss
from sslzoo.prompts.objectives import PromptClassification
from sslzoo.prompts.scoring import mask_indices


class MixedPrompts(PromptClassification):
    """The words of any task's labels at the masks of its prompts, by maximum likelihood over the whole vocabulary, as
    T0 is trained (Sanh et al. 2022, 2110.08207, section 5); with one mask a row, over the rows b of a batch:

    loss = -1/B sum_b log softmax(lm(h_mask,b))_{w_b},  w = batch.targets["word"]

    It scores and predicts as `PromptClassification` does, with the prompt that it is given.
    """

    def forward(self, encoder: nn.Module, batch: Batch, step: int) -> Loss:
        last = encoder(batch.inputs, batch.lengths).last
        at = self.language_model.positions(mask_indices(batch.ids, 1))
        logits = self.language_model(encoder, take(last, at)).float()
        words = batch.targets["word"].to(logits.device, non_blocking=True)
        return Loss(F.cross_entropy(logits, words), len(words), partial(choice_logs, logits, words))
