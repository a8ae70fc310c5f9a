"""GPT: name the next token (Radford et al. 2018; GPT-2, Radford et al. 2019)."""

import math
from functools import partial

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
    """A causal trunk reads a text, and each token is guessed from those before it (2018, eq. 1 and 2; GPT-2, eq. 1):

    loss = -1/N sum_i log p(x_i | x_1, ..., x_{i-1}),  p = softmax(h_{i-1} W^T)

    over all N tokens that have one before them. The output embedding W is the encoder's input embedding.
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
        at = indices(follows & (batch.ids[:, 1:] != CLS))  # tokens that have one after them in their document
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
        others = (batch.ids[len(ids) - 1, 1 : int(lengths[-1])] == CLS).nonzero()  # of a packed row the first document
        given = max(1, (1 + int(others[0]) if len(others) else int(lengths[-1])) // 2)
        text = generate(encoder, ids[-1:, :given], encoder.frontend.max_tokens - given, temperature=0.8)[0]
        return {"kind": "next_tokens", "ids": ids, "lengths": lengths, **shown, "text": text, "given": given}


def logits(encoder, hidden: Tensor) -> Tensor:
    """Hidden states [..., D] -> scores of what comes next [..., vocabulary]."""
    return F.linear(hidden, encoder.frontend.token_embedding.weight).float()


@torch.no_grad()
def generate(
    encoder, ids: Tensor, steps: int, seed: int = 0, temperature: float = 1.0, top_k: int | None = None
) -> Tensor:
    """Texts of one length [B, T] with `steps` more tokens each, [B, T + steps]; encoder in eval mode.

    A token is drawn from the softmax of the logits divided by `temperature`, among the `top_k` best if that is
    given; at temperature 0 it is the best. What is drawn depends on `seed`, the row and the place alone.
    """
    room = encoder.frontend.max_tokens - ids.shape[1]
    if not ids.shape[1]:
        raise UserError("there is nothing to go on from: generate needs at least one token")
    if not 0 <= steps <= room:
        raise UserError(
            f"generate steps={steps} more than {ids.shape[1]} tokens: at most {max(room, 0)} fit in the encoder's "
            f"{encoder.frontend.max_tokens}"
        )
    if temperature < 0 or (top_k is not None and top_k < 1):
        raise UserError(f"generate needs temperature >= 0 and top_k >= 1, got {temperature} and {top_k}")
    seeds = torch.tensor([rng.derive_seed(seed, "text", row) for row in range(len(ids))], device=ids.device)
    cache = encoder.cache()
    for _ in range(steps):
        new = ids if cache is None else ids[:, cache.position :]
        encoded = encoder(new, torch.full((len(ids),), new.shape[1]), cache)
        cache, scores = encoded.cache, logits(encoder, encoded.last[:, -1])
        if top_k is not None and top_k < scores.shape[1]:
            scores = scores.masked_fill(scores < scores.topk(top_k).values[:, -1:], -math.inf)
        # the largest of logits with Gumbel noise is a draw from their softmax
        place = rng.fold_in(seeds, torch.full_like(seeds, ids.shape[1]))
        noise = -torch.log(-torch.log(rng.uniform(place, "next token", scores.shape[1])))
        ids = torch.cat([ids, (scores + temperature * noise).argmax(-1, keepdim=True)], dim=1)
    return ids
