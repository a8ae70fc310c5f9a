"""BEST-RQ: predict the random-projection code of each masked frame (Chiu et al. 2022, 2202.01855)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.augment.masking import check_mask
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import indices, take
from sslzoo.nn.metrics import choice_logs, target_rank
from sslzoo.nn.quantize import perplexity
from sslzoo.objectives.base import Loss, Objective


class BestRQ(Objective):
    """A random projection A and a random codebook c, both frozen, map each token's features x to a code, and
    the trunk predicts the codes of masked tokens (eq. 1):

    y = argmin_i | c_i / |c_i| - A x / |A x| |        loss = -1/|M| sum_{t in M} log p(y_t | masked x)

    Masked features are replaced by normal noise with standard deviation `noise`. mixing: what is heard instead of x,
    whose codes are predicted all the same (NEST, 2408.13106, section 2.2; see `augment.utterance_mixing`), or None.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens", "frames"})

    def __init__(
        self,
        encoder,
        data,
        mask: Any,
        entries: int = 8192,
        code_dim: int = 16,
        noise: float = 0.1,
        mixing: nn.Module | None = None,
    ):
        super().__init__()
        check_mask(mask, "seeds", "lengths", "size")
        if entries < 2 or code_dim < 1 or noise < 0:
            raise ConfigError(
                f"best_rq needs entries >= 2, code_dim >= 1, noise >= 0; got {entries}, {code_dim}, {noise}"
            )
        self.mask, self.noise, self.min_tokens, self.mixing = mask, noise, mask.shortest, mixing
        self.sample_rate = data.sample_rate
        self.register_buffer("projection", nn.init.xavier_uniform_(torch.empty(encoder.feature_dim, code_dim)))
        self.register_buffer("codebook", F.normalize(torch.randn(entries, code_dim), dim=1))
        self.head = nn.Linear(encoder.dim, entries)

    @torch.no_grad()
    def codes(self, features: Tensor) -> Tensor:
        """Features [..., C] -> codes, int64 [...]. The nearest unit vector has the largest dot product."""
        projected = F.normalize(features.float() @ self.projection, dim=-1)
        return (projected @ self.codebook.T).argmax(-1)

    def answer(self, encoder, batch) -> tuple[Tensor, Tensor, Tensor]:
        """(mask bool [B, T] on the CPU, logits of the masked tokens [M, entries], their codes [M])."""
        features, lengths = encoder.features(batch.inputs, batch.lengths)
        mask = self.mask(batch.row_seeds, lengths, features.shape[1])
        at, device = indices(mask), features.device
        noise = self.noise * rng.normal(batch.row_seeds, "noise", *features.shape[1:], device=device)
        heard = (
            features
            if self.mixing is None
            else encoder.features(self.mixing(batch, self.sample_rate), batch.lengths)[0]
        )
        masked = torch.where(mask.to(device, non_blocking=True)[..., None], noise, heard)
        tokens, lengths = encoder.project(masked, lengths)
        logits = self.head(take(encoder.contextualize(tokens, lengths).last, at)).float()
        return mask, logits, self.codes(take(features, at))

    def forward(self, encoder, batch, step: int) -> Loss:
        _, logits, codes = self.answer(encoder, batch)

        def logs() -> dict:
            probs = distributed.all_reduce_mean(codes.bincount(minlength=len(self.codebook)).float(), len(codes))
            return {**choice_logs(logits, codes), "code_perplexity": perplexity(probs)}

        return Loss(F.cross_entropy(logits, codes, reduction="sum") / max(len(codes), 1), len(codes), logs)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        mask, logits, codes = self.answer(encoder, batch)
        features, lengths = encoder.features(batch.inputs[:1], batch.lengths[:1])
        shown = {"kind": "masked_frames", "mask": mask[0, : lengths[0]], "rank": target_rank(logits, codes)}
        frames = encoder.frontend.unstack_frames(features[0, : lengths[0]])
        return {**shown, "candidates": len(self.codebook), "frames": frames}
