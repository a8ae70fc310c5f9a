"""GPT: predict the next token (Radford et al. 2018; GPT-2, Radford et al. 2019)."""

import math
from collections.abc import Callable, Sequence
from functools import partial

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from sslzoo import rng
from sslzoo.data.base import CLS
from sslzoo.errors import ConfigError, UserError
from sslzoo.nn.heads import LanguageModelHead
from sslzoo.nn.linear_cross_entropy import LinearCrossEntropy
from sslzoo.nn.masked import indices, take, valid_mask
from sslzoo.nn.metrics import target_rank, token_logs
from sslzoo.objectives.base import Loss, Objective


class GPT(Objective):
    """A causal trunk predicts each token from those before it (2018, eq. 1 and 2; GPT-2, eq. 1):

    loss = -1/N sum_i log p(x_i | x_1, ..., x_{i-1}),  p = softmax(h_{i-1} W^T)

    over all N tokens except the first. The output embedding W is the encoder's input embedding.
    """

    modalities = ("text",)
    needs = frozenset({"tokens", "causal"})
    packs = True
    min_tokens = 2

    def __init__(self, encoder, data):
        super().__init__()
        if encoder.frontend.embedding_dim != encoder.dim:
            raise ConfigError(
                f"gpt names tokens by their embeddings, which are of {encoder.frontend.embedding_dim}, and its trunk gives "
                f"{encoder.dim}: set encoder.frontend.embedding_dim=null"
            )
        self.vocab_size, self.unigram_loss, self.data = data.vocab_size, math.inf, data
        self.head, self.cross_entropy = LanguageModelHead(), LinearCrossEntropy()

    def prepare(self, items: int, epoch_steps: int, seed: int) -> None:
        self.vocab_size = self.data.real_vocab_size  # known once the data is open
        self.unigram_loss = self.data.unigram_entropy

    def forward(self, encoder, batch, step: int) -> Loss:
        hidden, target = encoder(batch.inputs, batch.lengths).last[:, :-1], batch.inputs[:, 1:]
        weight, follows = encoder.frontend.token_embedding.weight, valid_mask(batch.lengths - 1, hidden.shape[1])
        at = indices(follows & (batch.ids[:, 1:] != CLS))  # tokens with a next token in their document
        hidden, target = take(hidden, at), take(target, at)
        total = self.cross_entropy(hidden, weight, target)

        def logs() -> dict:
            return token_logs(partial(self.head, embedding=weight), hidden, target, self.vocab_size, self.unigram_loss)

        return Loss(total / max(len(at), 1), len(at), logs)

    @torch.no_grad()
    def visualize(self, encoder, batch, step: int) -> dict:
        ids, lengths = batch.inputs[:6], batch.lengths[:6]
        scores = self.head(encoder(ids, lengths).last, encoder.frontend.token_embedding.weight)[:, :-1]
        shown = {"prediction": scores.topk(3).indices, "rank": target_rank(scores, ids[:, 1:])}
        others = (batch.ids[len(ids) - 1, 1 : int(lengths[-1])] == CLS).nonzero()  # of a packed row: the first document
        given = max(1, (1 + int(others[0]) if len(others) else int(lengths[-1])) // 2)
        text = generate(encoder, ids[-1:, :given], encoder.frontend.max_tokens - given, temperature=0.8)[0]
        return {"kind": "next_tokens", "ids": ids, "lengths": lengths, **shown, "text": text, "given": given}


def logits(encoder, hidden: Tensor) -> Tensor:
    """Hidden states [..., D] -> logits of the next token [..., vocabulary]."""
    return F.linear(hidden, encoder.frontend.token_embedding.weight).float()


@torch.no_grad()
def generate(
    encoder,
    prompts: Sequence[Tensor] | Tensor,
    steps: int,
    seeds: Tensor | None = None,
    temperature: float = 1.0,
    top_k: int | None = None,
    top_p: float | None = None,
    stop: Callable[[int, Tensor], bool] | None = None,
) -> list[Tensor]:
    """The prompts, each with up to `steps` more tokens, int64 [T] each; encoder in eval mode.

    A token is sampled from the softmax of the logits divided by `temperature`; temperature 0 takes the most likely.
    top_k: sample among the k most likely. top_p: sample among the fewest most likely tokens with this total probability
    (nucleus sampling, Holtzman et al. 2020, 1904.09751). stop: called with (i, the new tokens [n] of text i), true to
    end the text. seeds: int64 [B], one per text; a sample depends on the seed and the position only, not on the other
    texts in the batch.

    Decoding starts at the end of the shortest prompt; for longer prompts, the prompt's token is used instead of a
    sample until it ends. So nothing is padded, and one cache serves all texts.
    """
    sizes = [len(prompt) for prompt in prompts]
    check_generation(sizes, steps, encoder.frontend.max_tokens, temperature, top_k, top_p)
    ids = torch.nn.utils.rnn.pad_sequence(list(prompts), batch_first=True)
    ids = F.pad(ids, (0, steps))
    known = torch.tensor(sizes, device=ids.device)
    if seeds is None:
        seeds = torch.from_numpy(rng.derive_row_seeds(0, "text", rows=np.arange(len(sizes))))
    seeds, cache, ends = seeds.to(ids.device), encoder.cache(), [size + steps for size in sizes]
    stopped = [False] * len(sizes)
    for place in range(min(sizes), max(ends)):
        new = ids[:, 0 if cache is None else cache.position : place]
        encoded = encoder(new, torch.full((len(ids),), new.shape[1]), cache)
        cache, scores = encoded.cache, among_best(logits(encoder, encoded.last[:, -1]), temperature, top_k, top_p)
        # Gumbel-max: the argmax of logits plus Gumbel noise is a sample from their softmax
        draws = rng.uniform(rng.fold_in(seeds, torch.full_like(seeds, place)), "next token", scores.shape[1])
        drawn = (scores - temperature * torch.log(-torch.log(draws))).argmax(-1)
        ids[:, place] = torch.where(place < known, ids[:, place], drawn)
        for row, size in enumerate(sizes):
            if stop is None or stopped[row] or not size <= place < ends[row]:
                continue
            if stop(row, ids[row, size : place + 1]):
                ends[row], stopped[row] = place + 1, True
        if all(end <= place + 1 for end in ends):
            break
    return [row[:end] for row, end in zip(ids, ends, strict=True)]


def among_best(scores: Tensor, temperature: float, top_k: int | None, top_p: float | None) -> Tensor:
    """Logits [B, V] with -inf for tokens excluded by top_k or top_p."""
    if top_k is not None and top_k < scores.shape[1]:
        scores = scores.masked_fill(scores < scores.topk(top_k).values[:, -1:], -math.inf)
    if top_p is not None and temperature > 0:
        best = scores.sort(descending=True).values
        probs = (best / temperature).softmax(-1)
        enough = probs.cumsum(-1) - probs >= top_p  # the more likely tokens reach top_p
        least = best.masked_fill(enough, math.inf).amin(-1, keepdim=True)
        scores = scores.masked_fill(scores < least, -math.inf)
    return scores


def check_generation(sizes: list[int], steps: int, most: int, temperature: float, top_k, top_p) -> None:
    """Raise UserError for prompt sizes or settings that `generate` does not support."""
    if not sizes or not min(sizes):
        raise UserError("there is nothing to go on from: generate needs at least one token")
    room = most - max(sizes)
    if not 0 <= steps <= room:
        raise UserError(
            f"generate steps={steps} more than {max(sizes)} tokens: at most {max(room, 0)} fit in the encoder's {most}"
        )
    if temperature < 0 or (top_k is not None and top_k < 1):
        raise UserError(f"generate needs temperature >= 0 and top_k >= 1, got {temperature} and {top_k}")
    if top_p is not None and not 0 < top_p <= 1:
        raise UserError(f"generate needs top_p above 0 and at most 1, got {top_p}")
