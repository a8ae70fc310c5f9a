"""Word pieces: the front end that makes BERT and GPT of the trunk."""

from typing import Literal

import torch
from torch import Tensor, nn

from sslzoo.data.base import CLS, SEP
from sslzoo.encoders.base import Frontend
from sslzoo.errors import UserError
from sslzoo.nn.linear import Linear


class WordPieces(Frontend):
    """Ids [B, T] -> the same ids as features -> tokens [B, T, D]: the sum of embeddings of the piece, its
    place and its segment (Devlin et al. 2019, figure 2). The second segment begins after the first
    separator. segments: 2 for BERT, 0 for none (GPT). position: "learned", or "none" where the trunk places tokens
    itself (rotary positions).

    embedding_dim: the size E of the embeddings where it is one of their own: their sum is normalised, dropped with
    chance `dropout` and projected to D, if that is another (ALBERT, Lan et al. 2020, section 3.1; ELECTRA); the trunk
    then does not normalise its input (`input_norm: false`). None: E is D, and the trunk normalises. bias: whether that
    norm and projection have one.

    packed: whether rows are several documents, each of which begins with [CLS]; places and segments begin anew in each.
    """

    modality = "text"
    feature_dim = 0
    stride = 1
    offers = frozenset({"documents"})

    def __init__(
        self,
        dim: int,
        vocab_size: int,
        max_tokens: int,
        segments: int = 2,
        init_std: float = 0.02,
        embedding_dim: int | None = None,
        dropout: float = 0.0,
        eps: float = 1e-12,
        position: Literal["learned", "none"] = "learned",
        bias: bool = True,
    ):
        super().__init__()
        size = embedding_dim or dim
        self.dim, self.max_tokens, self.embedding_dim = dim, max_tokens, size
        self.reads = {"vocab_size": vocab_size, "max_tokens": max_tokens}
        self.token_embedding = nn.Embedding(vocab_size, size)
        self.position_embedding = nn.Embedding(max_tokens, size) if position == "learned" else None
        self.segment_embedding = nn.Embedding(segments, size) if segments else None
        self.norm = nn.LayerNorm(size, eps, bias=bias) if embedding_dim else None
        self.drop = nn.Dropout(dropout)
        self.up = Linear(size, dim, bias) if size != dim else None
        if self.up is not None:
            nn.init.normal_(self.up.weight, std=init_std)
            if bias:
                nn.init.zeros_(self.up.bias)
        self.supports_cache = not segments  # a segment depends on the separators before
        for table in (self.token_embedding, self.position_embedding, self.segment_embedding):
            if table is not None:
                nn.init.normal_(table.weight, std=init_std)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, lengths

    def documents(self, features: Tensor) -> Tensor | None:
        return (features == CLS).cumsum(1) if self.packed else None

    def project(self, features: Tensor, lengths: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """start: the place of the first id, where others came before (see `transformer.KVCache`)."""
        tokens = self.embed(features, start)
        return tokens if self.up is None else self.up(tokens), lengths

    def embed(self, features: Tensor, start: int = 0) -> Tensor:
        """Ids [B, T] -> the sum of their embeddings [B, T, E], normalised if E is a size of its own."""
        size = start + features.shape[1]
        if size > self.max_tokens:
            raise UserError(
                f"a text of {size} tokens is longer than the encoder's {self.max_tokens}: set data.max_tokens"
            )
        tokens, places = self.token_embedding(features), torch.arange(start, size, device=features.device)
        if self.packed:
            first = torch.where(features == CLS, places, 0).cummax(1).values  # of the document that a token is of
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding(places - first if self.packed else places)
        if self.segment_embedding is not None:
            separators = (features == SEP).long()
            before = separators.cumsum(1) - separators
            if self.packed:
                before = before - before.gather(1, first - start)
            tokens = tokens + self.segment_embedding(before.clamp(max=self.segment_embedding.num_embeddings - 1))
        return tokens if self.norm is None else self.drop(self.norm(tokens))
