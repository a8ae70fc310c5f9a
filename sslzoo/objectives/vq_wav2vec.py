"""vq-wav2vec: wav2vec on tokens of a learned inventory (Baevski et al. 2020, 1910.05453)."""

import math
from typing import Any, Literal

import torch
from torch import Tensor

from sslzoo import distributed, rng
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.nn.quantize import GumbelQuantizer, KMeansQuantizer, perplexity
from sslzoo.objectives.base import Loss
from sslzoo.objectives.wav2vec import Wav2Vec, binary_loss


class VQWav2Vec(Wav2Vec):
    """Tokens z are replaced by codes q(z) before the aggregator, and codes are what is told apart (section 3):

    loss = L_wav2vec(q(z)) + [ |sg(z) - q|^2 + gamma |z - sg(q)|^2 for k-means ]

    quantizer: "gumbel", straight through a Gumbel softmax whose temperature falls from `gumbel[0]` by the factor
    `gumbel[2]` per step to `gumbel[1]` (section 3.1), or "kmeans", the nearest entry (section 3.2), with gamma the
    `commitment`. groups: parts of a token that are quantised each by themselves, with codebooks of their own.
    """

    def __init__(
        self,
        encoder,
        data,
        ahead: int = 12,
        negatives: int = 10,
        quantizer: Literal["gumbel", "kmeans"] = "gumbel",
        groups: int = 2,
        entries: int = 320,
        gumbel: list[float] = [2.0, 0.5, 0.999995],  # noqa: B006 (read, never written)
        commitment: float = 0.25,
    ):
        super().__init__(encoder, data, ahead, negatives)
        if groups < 1 or entries < 2 or len(gumbel) != 3 or commitment < 0:
            raise ConfigError(
                f"vq_wav2vec needs groups >= 1, entries >= 2, three numbers gumbel, commitment >= 0; got {groups}, "
                f"{entries}, {gumbel}, {commitment}"
            )
        self.gumbel, self.commitment = gumbel, commitment
        kind = {"gumbel": GumbelQuantizer, "kmeans": KMeansQuantizer}[quantizer]
        self.quantizer: Any = kind(encoder.dim, encoder.dim, groups, entries)
        self.batch_terms = "codebook loss" if quantizer == "kmeans" else ""

    def quantized(self, tokens: Tensor, lengths: Tensor, seeds: Tensor, step: int):
        """(codes [B, T, D], zero at padding; the mean probabilities of entries [groups, entries]; the entries chosen
        for valid tokens [M, groups]; the codebook's loss, 0 for Gumbel)."""
        at = indices(valid_mask(lengths, tokens.shape[1]))
        z, device = take(tokens, at), tokens.device
        if isinstance(self.quantizer, KMeansQuantizer):
            found, probs, chosen, apart = self.quantizer(z, self.commitment)
            loss = distributed.all_reduce_mean(apart.sum(), len(apart))
        else:
            start, end, decay = self.gumbel
            frames = rng.fold_in(seeds[at // tokens.shape[1]], at % tokens.shape[1])  # a seed per token
            noise = self.quantizer.noise(frames, device)
            found, probs, chosen = self.quantizer(z, noise, max(start * decay**step, end))
            loss = found.new_zeros(())
        empty = found.new_zeros(tokens.shape[0] * tokens.shape[1], found.shape[1])
        whole = empty.index_copy(0, at.to(device, non_blocking=True), found)
        return whole.view(*tokens.shape[:2], -1), probs, chosen, loss

    def forward(self, encoder, batch, step: int) -> Loss:
        tokens, lengths = encoder.embed(batch.inputs, batch.lengths)
        codes, probs, _, codebook = self.quantized(tokens, lengths, batch.row_seeds, step)
        context = encoder.contextualize(codes, lengths).last
        candidates = self.candidates(batch.row_seeds, lengths, tokens.shape[1], tokens.device)
        steps = range(1, min(self.ahead, candidates.shape[1] - 1) + 1)
        valid = [(lengths - k).clamp(min=0) for k in steps]
        nothing = torch.stack([p.sum() for p in self.predict.parameters()]).sum() * 0.0
        total, count = binary_loss(self.scores(codes, context, candidates), valid)

        def logs() -> dict:
            choice = self.logs(candidates, lambda: self.scores(codes, context, candidates), valid, count)
            uniform = (1 + self.negatives) * math.log(2)
            return {
                **choice,
                "uniform_loss": uniform + codebook.detach(),
                "code_perplexity": perplexity(probs).detach(),
            }

        return Loss((nothing + total) / max(count, 1) + codebook, count, logs)

    def ask(self, encoder, batch):
        tokens, lengths = encoder.embed(batch.inputs, batch.lengths)
        codes = self.quantized(tokens, lengths, batch.row_seeds, 0)[0]
        context = encoder.contextualize(codes, lengths).last
        candidates = self.candidates(batch.row_seeds, lengths, tokens.shape[1], tokens.device)
        return lengths, candidates, lambda: self.scores(codes, context, candidates)
