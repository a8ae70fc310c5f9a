"""ELECTRA: detect tokens replaced by a small generator (Clark et al. 2020, 2003.10555)."""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from sslzoo import distributed, rng
from sslzoo.augment.masking import check_mask
from sslzoo.data.base import MASK, maskable
from sslzoo.errors import ConfigError
from sslzoo.nn.heads import LanguageModelHead
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.objectives.base import MOST_ROWS, Loss, Objective


class ELECTRA(Objective):
    """A generator predicts masked tokens, samples replacements from its predictions, and the encoder predicts for each
    token whether it is original (section 2; m: the masked positions, D: the encoder's probability of "original"):

    loss = 1/|m| sum_{i in m} -log p_G(x_i | masked x)
           + weight / n sum_t -[x'_t = x_t] log D(x', t) - [x'_t != x_t] log(1 - D(x', t))

    A sampled token that equals the original counts as original. No gradient passes through the sampling. The generator
    uses the encoder's embeddings (section 3.2), so encoder.frontend.embedding_dim must be set.

    generator: a trunk without input norm, a quarter to half as wide as the encoder's. mask: chooses the masked
    positions. keep: the share of those where the generator sees the original token; 0 in the paper, 0.15 in the
    authors' code.
    """

    modalities = ("text",)
    needs = frozenset({"tokens"})
    packs = True
    batch_terms = "share of masked tokens"

    def __init__(
        self,
        encoder,
        data,
        generator: nn.Module,
        mask: Any,
        weight: float = 50.0,
        keep: float = 0.0,
        eps: float = 1e-12,
    ):
        super().__init__()
        check_mask(mask, "seeds", "allowed")
        frontend = encoder.frontend
        if frontend.norm is None:
            raise ConfigError(
                "electra shares its encoder's embeddings with the generator, which needs some of a size of their own: set "
                "encoder.frontend.embedding_dim and encoder.trunk.input_norm=false, or encoder=electra_small"
            )
        if getattr(generator, "position", None) is not None or generator.causal:
            raise ConfigError("objective.generator must be a trunk with position: null and causal: false")
        if weight < 0 or not 0 <= keep < 1:
            raise ConfigError(f"electra needs weight >= 0 and 0 <= keep < 1, got {weight} and {keep}")
        size = frontend.embedding_dim
        self.mask, self.weight, self.keep, self.data = mask, weight, keep, data
        self.vocab_size = data.vocab_size
        self.generator = generator
        self.generator_embed = nn.Linear(size, generator.dim)
        self.generator_dense, self.generator_norm = nn.Linear(generator.dim, size), nn.LayerNorm(size, eps)
        self.generator_bias = nn.Parameter(torch.zeros(data.vocab_size))
        self.dense, self.out = nn.Linear(encoder.dim, encoder.dim), nn.Linear(encoder.dim, 1)
        for layer in (self.generator_embed, self.generator_dense, self.dense, self.out):
            nn.init.normal_(layer.weight, std=0.02)
            nn.init.zeros_(layer.bias)
        self.head = LanguageModelHead()

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        self.vocab_size = self.data.real_vocab_size  # known once the data is open; larger ids are never sampled

    def masked(self, ids: Tensor, lengths: Tensor, seeds: Tensor) -> tuple[Tensor, Tensor]:
        """Ids [B, T] -> the generator's input [B, T] and the masked positions, bool [B, T]; all on the CPU."""
        chosen = self.mask(seeds, valid_mask(lengths, ids.shape[1]) & maskable(ids))
        kept = rng.uniform(seeds, "keep", ids.shape[1]) < self.keep
        return ids.masked_fill(chosen & ~kept, MASK), chosen

    def generate(self, encoder, ids: Tensor, lengths: Tensor, at: Tensor) -> Tensor:
        """The generator's logits [M, V] at positions `at` [M]."""
        tokens = self.generator_embed(encoder.frontend.embed(ids))
        hidden = take(self.generator(tokens, lengths, documents=encoder.frontend.documents(ids))[-1], at)
        hidden = self.generator_norm(F.gelu(self.generator_dense(hidden)))
        return self.head(hidden, encoder.frontend.token_embedding.weight, self.generator_bias)

    @torch.no_grad()
    def sample(self, logits: Tensor, seeds: Tensor) -> Tensor:
        """Sample an id from the softmax of each row of logits [M, V], among the ids in use, int64 [M]; seeds [M]."""
        probs = logits[:, : self.vocab_size].float().softmax(1).double().cumsum(1)
        draw = rng.uniform(seeds, "sample", 1, device=logits.device).double() * probs[:, -1:]
        return torch.searchsorted(probs, draw)[:, 0].clamp(max=self.vocab_size - 1)

    def discriminate(self, encoder, ids: Tensor, lengths: Tensor) -> Tensor:
        """Logits [B, T] that a token was replaced."""
        return self.out(F.gelu(self.dense(encoder(ids, lengths).last)))[..., 0]

    def play(self, encoder, batch) -> tuple:
        """(masked positions [M], the generator's logits there [M, V], the ids with its samples [B, T], which of them
        are replaced, bool [B, T], the encoder's logits of "replaced" [B, T])."""
        device, size = batch.inputs.device, batch.inputs.shape[1]
        ids, chosen = self.masked(batch.ids, batch.lengths, batch.row_seeds)
        at = indices(chosen)
        guesses = self.generate(encoder, ids.to(device, non_blocking=True), batch.lengths, at)
        drawn = self.sample(guesses, rng.fold_in(batch.row_seeds[at // size], at % size))
        corrupted = batch.inputs.flatten().index_copy(0, at.to(device, non_blocking=True), drawn).view_as(batch.inputs)
        return at, guesses, corrupted, corrupted != batch.inputs, self.discriminate(encoder, corrupted, batch.lengths)

    def forward(self, encoder, batch, step: int) -> Loss:
        at, guesses, _, replaced, logits = self.play(encoder, batch)
        target = take(batch.inputs, at)
        masked = F.cross_entropy(guesses.float(), target, reduction="sum")
        valid = valid_mask(batch.lengths, logits.shape[1], logits.device)
        errors = F.binary_cross_entropy_with_logits(logits.float(), replaced.float(), reduction="none")
        tokens = int(batch.lengths.numpy().sum())
        # the trainer weights ranks by their tokens, but this term is a mean over masked tokens
        totals = distributed.all_reduce_sum(torch.tensor([tokens, len(at)], dtype=torch.float32, device=logits.device))
        share = totals[0] / totals[1].clamp(min=1)
        value = (masked * share + self.weight * (errors * valid).sum()) / max(tokens, 1)

        def logs() -> dict:
            right = (guesses.argmax(1) == target).sum()
            return {
                "generator": (masked * share / max(tokens, 1)).detach(),
                "generator_accuracy": right * share / max(tokens, 1),
                "discriminator": (errors * valid).sum().detach() / max(tokens, 1),
                "accuracy": (((logits > 0) == replaced) & valid).sum() / max(tokens, 1),
                "replaced": (replaced & valid).sum() / max(tokens, 1),
            }

        return Loss(value, tokens, logs)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        at, _, corrupted, _, _ = self.play(encoder, batch)
        mask = torch.zeros(batch.ids.numel(), dtype=torch.bool)
        mask[at] = True
        shown = {
            "ids": batch.inputs,
            "lengths": batch.lengths,
            "mask": mask.view_as(batch.ids),
            "prediction": corrupted,
        }
        return {"kind": "masked_tokens", **{name: x[: MOST_ROWS // 2] for name, x in shown.items()}}
