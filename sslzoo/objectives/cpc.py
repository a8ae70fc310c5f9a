"""CPC: tell the tokens that are to come from others of the utterance (van den Oord et al. 2018, 1807.03748)."""

import math
from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor, nn

from sslzoo.data.base import valid
from sslzoo.errors import ConfigError
from sslzoo.objectives.base import Loss, Objective
from sslzoo.parts.mel import LogMel
from sslzoo.parts.negatives import others


class CPC(Objective):
    """Tokens z_t go through a causal trunk, whose output at t, the context c_t, scores every token k steps on
    with a matrix W_k for each of `ahead` steps (eq. 3), and must prefer the one that comes to N - 1 others
    (InfoNCE, eq. 4), averaged over steps and positions:

    f_k(z, c_t) = exp(z^T W_k c_t)        loss = -log( f_k(z_{t+k}, c_t) / sum_{z' in X} f_k(z', c_t) )

    X is z_{t+k} and `negatives` others of the utterance (the paper's "current sequence only", table 2; it
    does not say how many; 128 is what later work on speech draws). They are drawn once a token, for all the
    steps at which it is the right one, from all tokens but that one, with replacement: in an utterance of
    fewer tokens some come twice, and `chance` counts each once.

    A token must not know what comes after it: over Waveform, a strictly causal encoder has `norm: layer` and
    `normalize_input: false` (as in conf/encoder/cpc.yaml), for the others take means over the utterance. So
    does Spectrogram, whose standardised frames tell of the future no more than the mean and scale of a band.
    """

    modalities = ("speech",)
    needs = frozenset({"tokens", "causal"})
    set_by = "ahead"

    def __init__(self, encoder, data, ahead: int = 12, negatives: int = 128):
        super().__init__()
        if ahead < 1 or negatives < 1:
            raise ConfigError(f"cpc needs ahead >= 1 and negatives >= 1, got {ahead} and {negatives}")
        self.ahead, self.negatives = ahead, negatives
        self.min_tokens, self.sample_rate = ahead + 1, data.sample_rate
        self.predict = nn.ModuleList(nn.Linear(encoder.dim, encoder.dim, bias=False) for _ in range(ahead))

    def candidates(self, keys: Tensor, lengths: Tensor, size: int) -> Tensor:
        """For each token as the one to be found the places of itself and of the others, int64 [B, T, 1 + negatives]."""
        own = torch.arange(size, device=keys.device).view(1, -1, 1).expand(len(keys), -1, 1)
        return torch.cat([own, others(keys, lengths, size, self.negatives)], dim=2)

    def scores(self, tokens: Tensor, context: Tensor, candidates: Tensor) -> Iterator[Tensor]:
        """For each step k from 1 on: log f_k [B, T - k, 1 + negatives] of candidates, the right one first."""
        size = tokens.shape[1]
        for k, predict in enumerate(self.predict[: size - 1], start=1):
            # of all tokens, then picked: smaller than a copy of each candidate's vector
            every = predict(context[:, : size - k]) @ tokens.transpose(1, 2)
            yield every.float().gather(2, candidates[:, k:])

    def ask(self, encoder, batch) -> tuple[Tensor, Tensor, Iterator[Tensor]]:
        """Valid tokens of each row [B], candidates and the scores of each step."""
        tokens, lengths = encoder.embed(batch.inputs, batch.lengths)
        context = encoder.contextualize(tokens, lengths).last
        candidates = self.candidates(batch.keys, lengths, tokens.shape[1])
        return lengths, candidates, self.scores(tokens, context, candidates)

    def forward(self, encoder, batch, step: int) -> Loss:
        lengths, candidates, scores = self.ask(encoder, batch)
        size = candidates.shape[1]
        once = torch.zeros(len(batch), size, size, device=lengths.device).scatter_(2, candidates, 1.0)
        guess = 1 / once.sum(2)
        total, right, chance, count = guess.new_zeros(4)
        for k, logits in enumerate(scores, start=1):
            there = valid(lengths - k, size - k)
            total = total - logits.log_softmax(2)[..., 0][there].sum()
            right = right + (logits[..., 0] > logits[..., 1:].amax(2))[there].sum()
            chance, count = chance + guess[:, k:][there].sum(), count + there.sum()
        n = count.clamp(min=1)  # utterances to validate on may be too short for every step
        logs = {"accuracy": right / n, "chance": chance / n, "uniform_loss": math.log(1 + self.negatives)}
        return Loss(total / n, count, logs)

    @torch.no_grad()
    def show(self, encoder, batch, step: int) -> dict:
        lengths, _, scores = self.ask(encoder, batch)
        size = int(lengths[0])
        ahead, place = min(self.ahead, size - 1), torch.full((size,), -1)
        for logits in islice(scores, max(ahead - 1, 0), ahead):
            found = logits[0, : size - ahead]
            place[ahead:] = (found[:, 1:] >= found[:, :1]).sum(1).cpu()
        mels, count = LogMel(self.sample_rate)(batch.inputs[:1].float().cpu(), batch.lengths[:1].cpu())
        return {
            "kind": "frames",
            "title": f"Where each token came among {1 + self.negatives}, {ahead} tokens before it was heard",
            "frames": mels[0, : int(count)],
            "mask": torch.zeros(size, dtype=torch.bool),
            "place": place,
            "candidates": 1 + self.negatives,
        }
