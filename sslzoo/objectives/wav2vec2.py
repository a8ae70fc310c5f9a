"""wav2vec 2.0: identify the quantised features of masked frames (Baevski et al. 2020, 2006.11477)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import rng
from sslzoo.augment.masking import check_mask
from sslzoo.errors import ConfigError
from sslzoo.nn.dropout import SeededDropout
from sslzoo.nn.gradient import mean_square, scale_gradient
from sslzoo.nn.masked import indices, take
from sslzoo.nn.metrics import choice_logs, target_rank
from sslzoo.nn.negatives import sample_negatives
from sslzoo.nn.quantize import GumbelQuantizer, perplexity
from sslzoo.objectives.base import Loss, Objective


class Wav2Vec2(Objective):
    """Spans of frames are masked; at each masked frame the trunk's output c_t must identify the frame's quantised
    features q_t among those of `negatives` other masked frames of the utterance (eqs. 2 to 4):

    L_m = -log( exp(sim(c_t, q_t) / k) / sum_{q ~ Q_t} exp(sim(c_t, q) / k) )
    L_d = (G V - sum_g exp(H(p_g))) / (G V)             loss = L_m + alpha L_d + beta |z|^2

    with sim the cosine, z the features before normalisation. The Gumbel temperature falls from `gumbel[0]` by the
    factor `gumbel[2]` per step to `gumbel[1]`. feature_grad scales the gradient that reaches the features
    (section 4.2).

    Unlike in fairseq: p_g is the mean over all ranks, not per rank; |z|^2 excludes padding; rows keep all their masked
    frames (fairseq drops some, so that all rows have equally many); and a row has at least `mask.min_spans` spans, 1 in
    the config and 2 in fairseq (matters below 31 frames).
    """

    modalities = ("speech",)
    needs = frozenset({"tokens"})
    batch_terms = "diversity of codes and feature penalty"
    head_state = ("mask_token", "quantizer", "project_context", "project_code")

    def __init__(
        self,
        encoder,
        data,
        mask: Any,
        negatives: int = 100,
        temperature: float = 0.1,
        code_dim: int = 256,
        output_dim: int = 256,
        groups: int = 2,
        entries: int = 320,
        gumbel: list[float] = [2.0, 0.5, 0.999995],  # noqa: B006 (read, never written)
        diversity: float = 0.1,
        feature_penalty: float = 10.0,
        feature_grad: float = 0.1,
        feature_dropout: float = 0.1,
    ):
        super().__init__()
        check_mask(mask, "seeds", "lengths", "size")
        if negatives < 1 or temperature <= 0:
            raise ConfigError(f"wav2vec2 needs negatives >= 1 and temperature > 0, got {negatives} and {temperature}")
        self.mask, self.negatives, self.temperature, self.gumbel = mask, negatives, temperature, gumbel
        self.diversity, self.feature_penalty, self.feature_grad = diversity, feature_penalty, feature_grad
        self.min_tokens, self.sample_rate = mask.shortest, data.sample_rate
        self.mask_token = nn.Parameter(torch.rand(encoder.dim))
        self.quantizer = GumbelQuantizer(encoder.feature_dim, code_dim, groups, entries)
        self.drop = SeededDropout(feature_dropout, "feature dropout")
        self.project_context = nn.Linear(encoder.dim, output_dim)
        self.project_code = nn.Linear(code_dim, output_dim)

    def gumbel_temperature(self, step: int) -> float:
        start, end, decay = self.gumbel
        return max(start * decay**step, end)

    def distractors(self, seeds: Tensor, mask: Tensor, device=None) -> Tensor:
        """For each masked frame, in the order of `indices(mask)`, the indices among masked frames of `negatives` others
        of its utterance, int64 [M, K] on `device`."""
        counts = mask.sum(1)
        row = indices(mask) // mask.shape[1]
        first = (counts.cumsum(0) - counts)[row]
        own = torch.arange(len(row)) - first
        most = int(counts.numpy().max())
        # the only masked frame of an utterance gets itself as negatives, which `contrast` masks out
        places = sample_negatives(seeds, counts, most, self.negatives, device=device)
        return first[:, None].to(places.device, non_blocking=True) + take(places, row * most + own)

    def contrast(self, context: Tensor, codes: Tensor, distractors: Tensor) -> Tensor:
        """context, codes [M, D], distractors [M, K] -> logits [M, 1 + K], the target code first."""
        context, codes = F.normalize(context.float(), dim=1), F.normalize(codes.float(), dim=1)
        wrong = codes[distractors]
        logits = torch.einsum("md,mkd->mk", context, torch.cat([codes[:, None], wrong], dim=1)) / self.temperature
        # mask out distractors with the same code as the target
        same = (wrong == codes[:, None]).all(-1)
        return logits.masked_fill(F.pad(same, (1, 0)), float("-inf"))

    def answer(self, encoder, batch, step: int):
        """(features, lengths, mask on the CPU, logits, the codes' mean probabilities)."""
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        features = scale_gradient(features, self.feature_grad)
        mask = self.mask(batch.row_seeds, lengths, features.shape[1])
        at, device = indices(mask), features.device
        tokens, lengths = encoder.project(features, lengths)
        tokens = torch.where(mask.to(device, non_blocking=True)[..., None], self.mask_token.to(tokens.dtype), tokens)
        context = self.project_context(take(encoder.contextualize(tokens, lengths).last, at))
        frames = rng.fold_in(batch.row_seeds[at // mask.shape[1]], at % mask.shape[1])  # a seed per frame
        target = self.drop(take(encoder.normalize(features), at), frames)
        noise = self.quantizer.noise(frames, device)
        codes, probs, _ = self.quantizer(target, noise, self.gumbel_temperature(step))
        distractors = self.distractors(batch.row_seeds, mask, device)
        return features, lengths, mask, self.contrast(context, self.project_code(codes), distractors), probs

    def forward(self, encoder, batch, step: int) -> Loss:
        features, lengths, mask, logits, probs = self.answer(encoder, batch, step)
        loss = -logits.log_softmax(1)[:, 0].sum() / max(len(logits), 1)
        codes = perplexity(probs)
        most = probs.numel()
        value = loss + self.diversity * (most - codes) / most
        if self.feature_penalty and features.requires_grad:
            value = value + self.feature_penalty * mean_square(features, lengths)

        def logs() -> dict:
            choice = choice_logs(logits, None, chance=1 / (1 + self.negatives))
            return {
                "contrastive": loss.detach(),
                "accuracy": choice["accuracy"],
                "chance": choice["chance"],
                "code_perplexity": codes.detach(),
                "masked": mask.sum() / lengths.sum(),
            }

        return Loss(value, len(logits), logs)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        _, lengths, mask, logits, _ = self.answer(encoder, batch, step)
        shown = {"kind": "masked_frames", "mask": mask[0, : lengths[0]], "rank": target_rank(logits)}
        wave = {"waveform": batch.inputs[0, : batch.lengths[0]], "sample_rate": self.sample_rate}
        return {**shown, "candidates": logits.shape[1], **wave}
