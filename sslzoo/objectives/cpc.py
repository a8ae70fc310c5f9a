"""CPC: distinguish future tokens from others of the utterance (van den Oord et al. 2018, 1807.03748)."""

import math
from collections.abc import Callable, Iterator
from functools import partial
from itertools import islice

import torch
from torch import Tensor, nn

from sslzoo.errors import ConfigError
from sslzoo.nn.masked import valid_mask
from sslzoo.nn.metrics import target_rank
from sslzoo.nn.negatives import sample_negatives
from sslzoo.objectives.base import Loss, Objective


class CPC(Objective):
    """Tokens z_t go through a causal trunk, whose output at t is the context c_t. With a matrix W_k for each step
    k = 1 .. `ahead`, c_t scores the token k steps later (eq. 3) against N - 1 others (InfoNCE, eq. 4), averaged
    over steps and positions:

    f_k(z, c_t) = exp(z^T W_k c_t)        loss = -log( f_k(z_{t+k}, c_t) / sum_{z' in X} f_k(z', c_t) )

    X is z_{t+k} and `negatives` others of the utterance (the paper's "current sequence only", table 2; it
    does not give their number; 128 is common in later work on speech). They are drawn once per target token,
    for all steps k, from all other tokens with replacement: short utterances have duplicates, and `chance`
    counts each token once.

    Tokens must not depend on later input: with Waveform, a strictly causal encoder has `norm: layer` and
    `normalize_input: false` (as in conf/encoder/cpc.yaml), since the other settings use means over the utterance. So
    does Spectrogram, but its standardised frames reveal only the mean and scale of each band.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens", "causal"})
    length_setting = "ahead"

    def __init__(self, encoder, data, ahead: int = 12, negatives: int = 128):
        super().__init__()
        if ahead < 1 or negatives < 1:
            raise ConfigError(f"cpc needs ahead >= 1 and negatives >= 1, got {ahead} and {negatives}")
        self.ahead, self.negatives = ahead, negatives
        self.min_tokens, self.sample_rate = ahead + 1, data.sample_rate
        self.predict = nn.ModuleList(nn.Linear(encoder.dim, encoder.dim, bias=False) for _ in range(ahead))

    def candidates(self, seeds: Tensor, lengths: Tensor, size: int, device=None) -> Tensor:
        """For each token as the target, the indices of itself and of its negatives, int64 [B, T, 1 + negatives]."""
        own = torch.arange(size, device=device).view(1, -1, 1).expand(len(seeds), -1, 1)
        return torch.cat([own, sample_negatives(seeds, lengths, size, self.negatives, device=device)], dim=2)

    def scores(self, tokens: Tensor, context: Tensor, candidates: Tensor) -> Iterator[Tensor]:
        """Yield for k = 1, 2, … log f_k of the candidates [B, T - k, 1 + negatives], the target first."""
        size = tokens.shape[1]
        for k, predict in enumerate(self.predict[: size - 1], start=1):
            # score all tokens, then gather: needs less memory than gathering the candidates' vectors
            every = predict(context[:, : size - k]) @ tokens.transpose(1, 2)
            yield every.float().gather(2, candidates[:, k:])

    def ask(self, encoder, batch) -> tuple[Tensor, Tensor, Callable[[], Iterator[Tensor]]]:
        """(number of valid tokens in each row [B], candidates, function that yields the scores of each step)."""
        tokens, lengths = encoder.embed(batch.inputs, batch.lengths)
        context = encoder.contextualize(tokens, lengths).last
        candidates = self.candidates(batch.row_seeds, lengths, tokens.shape[1], tokens.device)
        return lengths, candidates, partial(self.scores, tokens, context, candidates)

    def forward(self, encoder, batch, step: int) -> Loss:
        lengths, candidates, scores = self.ask(encoder, batch)
        # on the CPU: for each k, the number of tokens in each row with a token k steps later
        valid = [(lengths - k).clamp(min=0) for k in range(1, min(self.ahead, candidates.shape[1] - 1) + 1)]
        count = sum(int(left.numpy().sum()) for left in valid)
        total = (
            torch.stack([p.sum() for p in self.predict.parameters()]).sum() * 0.0
        )  # so that parameters get gradients without targets
        for left, logits in zip(valid, scores(), strict=True):
            total = total - (logits.log_softmax(2)[..., 0] * valid_mask(left, logits.shape[1], logits.device)).sum()
        return Loss(total / max(count, 1), count, lambda: self.logs(candidates, scores, valid, count))

    @torch.no_grad()
    def logs(self, candidates: Tensor, scores: Callable[[], Iterator[Tensor]], valid: list[Tensor], count: int) -> dict:
        """Accuracy, and chance: of guessing among the distinct candidates of each token."""
        size = candidates.shape[1]
        once = torch.zeros(len(candidates), size, size, device=candidates.device).scatter_(2, candidates, 1.0)
        guess_accuracy = 1 / once.sum(2)
        right = chance = guess_accuracy.new_zeros(())
        for k, (left, logits) in enumerate(zip(valid, scores(), strict=True), start=1):
            loss_mask = valid_mask(left, size - k, logits.device)
            right = right + ((logits[..., 0] > logits[..., 1:].amax(2)) & loss_mask).sum()
            chance = chance + (guess_accuracy[:, k:] * loss_mask).sum()
        return {
            "accuracy": right / max(count, 1),
            "chance": chance / max(count, 1),
            "uniform_loss": math.log(1 + self.negatives),
        }

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        lengths, _, scores = self.ask(encoder, batch)
        ahead, rank = min(self.ahead, int(lengths[0]) - 1), torch.full((int(lengths[0]),), -1)
        for logits in islice(scores(), max(ahead - 1, 0), ahead):
            rank[ahead:] = target_rank(logits[0, : len(rank) - ahead])
        shown = {"kind": "future_frames", "ahead": ahead, "rank": rank, "candidates": 1 + self.negatives}
        return shown | {"waveform": batch.inputs[0, : batch.lengths[0]], "sample_rate": self.sample_rate}
