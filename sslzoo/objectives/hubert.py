"""HuBERT: predict the cluster of each masked frame (Hsu et al. 2021, 2106.07447)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed
from sslzoo.augment.masking import check_mask
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn.gradient import mean_square, scale_gradient
from sslzoo.nn.masked import indices, take
from sslzoo.nn.metrics import choice_logs, target_rank
from sslzoo.nn.quantize import perplexity
from sslzoo.objectives.base import Loss, Objective

NONE = -100  # the label of a frame without a label


class HuBERT(Objective):
    """Labels z_t come from a clustering made beforehand. Spans of frames are masked, and the trunk's output o_t
    predicts the labels of masked frames by its cosine to an embedding e_c of each cluster (eqs. 1 and 3, with
    alpha = 1: unmasked frames do not count):

    p(c | masked x, t) = exp(sim(A o_t, e_c) / tau) / sum_c' exp(sim(A o_t, e_c') / tau)
    loss = -1/|M| sum_{t in M} log p(z_t | masked x, t) + beta |f|^2

    with f the features before normalisation. beta, and feature_grad, which scales the gradient that reaches the
    features, are from the authors' code; neither has an effect on features without parameters. Unlike in fairseq,
    |f|^2 excludes padding, rows keep all their masked frames (fairseq drops some, so that all rows have equally many),
    and a row has at least `mask.min_spans` spans, 1 in the config and 2 in fairseq (matters below 25 frames).
    """

    modalities = ("speech",)
    needs = frozenset({"tokens"})
    batch_terms = "feature penalty"
    learns_targets = True

    def __init__(
        self,
        encoder,
        data,
        mask: Any,
        output_dim: int = 256,
        temperature: float = 0.1,
        feature_penalty: float = 10.0,
        feature_grad: float = 0.1,
    ):
        super().__init__()
        check_mask(mask, "seeds", "lengths", "size")
        if output_dim < 1 or temperature <= 0:
            raise ConfigError(f"hubert needs output_dim >= 1 and temperature > 0, got {output_dim} and {temperature}")
        if data.targets.hop != encoder.stride:
            theirs, ours = (f"{1000 * samples / data.sample_rate:g}" for samples in (data.targets.hop, encoder.stride))
            raise ConfigError(
                f"targets={data.targets.folder} have a label every {theirs} ms, and the encoder a frame every {ours} ms: "
                f"make targets for it with `sslzoo label source=mfcc hop_ms={ours}`, or choose another encoder"
            )
        self.mask, self.temperature = mask, temperature
        self.feature_penalty, self.feature_grad = feature_penalty, feature_grad
        self.min_tokens, self.sample_rate, self.clusters = mask.shortest, data.sample_rate, data.targets.clusters
        self.mask_token = nn.Parameter(torch.rand(encoder.dim))
        self.project = nn.Linear(encoder.dim, output_dim)
        self.embeddings = nn.Parameter(torch.rand(self.clusters, output_dim))

    def labels(self, batch, lengths: Tensor, size: int) -> Tensor:
        """Labels of frames, int64 [B, size], on the CPU. Raises UserError if the numbers of labels and frames of a row
        differ by more than one."""
        labels = batch.targets["codes"]
        difference = ((labels != NONE).sum(1) - lengths).numpy()
        if (abs(difference) > 1).any():
            worst = int(abs(difference).argmax())
            frames = int(lengths.numpy()[worst])
            raise UserError(
                f"the targets of item {batch.index.tolist()[worst]} are of another length: {difference[worst] + frames} "
                f"labels for {frames} frames — make them with `sslzoo label` for this encoder's frames"
            )
        return F.pad(labels, (0, max(size - labels.shape[1], 0)), value=NONE)[:, :size]

    def logits(self, hidden: Tensor) -> Tensor:
        """The trunk's output [M, D] -> cosine to every cluster, divided by the temperature [M, C] (eq. 3)."""
        projected = F.normalize(self.project(hidden).float(), dim=1)
        return projected @ F.normalize(self.embeddings.float(), dim=1).T / self.temperature

    def heard(self, batch) -> Tensor:
        """What the encoder hears of a batch, [B, N]."""
        return batch.inputs

    def answer(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        """(features, lengths, masked frames with labels bool [B, T] on the CPU, their logits [M, C], their labels
        [M])."""
        features, lengths = encoder.features(self.heard(batch), batch.lengths)
        features = scale_gradient(features, self.feature_grad)
        mask = self.mask(batch.row_seeds, lengths, features.shape[1])
        labels = self.labels(batch, lengths, features.shape[1])
        loss_mask = mask & (labels != NONE)
        at, device = indices(loss_mask), features.device
        tokens, lengths = encoder.project(features, lengths)
        tokens = torch.where(mask.to(device, non_blocking=True)[..., None], self.mask_token.to(tokens.dtype), tokens)
        logits = self.logits(take(encoder.contextualize(tokens, lengths).last, at))
        return features, lengths, loss_mask, logits, take(labels, at).to(device, non_blocking=True)

    def forward(self, encoder, batch, step: int) -> Loss:
        features, lengths, loss_mask, logits, labels = self.answer(encoder, batch)
        value = F.cross_entropy(logits, labels, reduction="sum") / max(len(labels), 1)
        if self.feature_penalty and features.requires_grad:
            value = value + self.feature_penalty * mean_square(features, lengths)

        def logs() -> dict:
            probs = distributed.all_reduce_mean(labels.bincount(minlength=self.clusters).float(), len(labels))
            return {
                **choice_logs(logits, labels),
                "label_perplexity": perplexity(probs),
                "masked": loss_mask.sum() / lengths.sum(),
            }

        return Loss(value, len(labels), logs)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        _, lengths, loss_mask, logits, labels = self.answer(encoder, batch)
        shown = {"kind": "masked_frames", "mask": loss_mask[0, : lengths[0]], "rank": target_rank(logits, labels)}
        wave = {"waveform": batch.inputs[0, : batch.lengths[0]], "sample_rate": self.sample_rate}
        return {**shown, "candidates": self.clusters, **wave}
