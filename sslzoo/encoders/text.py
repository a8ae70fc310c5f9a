"""Word piece embedding: the front end of BERT and GPT."""

from typing import Literal

import torch
from torch import Tensor, nn

from sslzoo.data.base import CLS, SEP
from sslzoo.encoders.base import Frontend
from sslzoo.errors import UserError
from sslzoo.nn.linear import Linear


class WordPieces(Frontend):
    """Ids [B, T] -> the same ids as features -> tokens [B, T, D]: the sum of token, position and segment embeddings
    (Devlin et al. 2019, figure 2). The second segment begins after the first separator. segments: 2 for BERT, 0 for
    none (GPT). position: "learned", or "none" if the trunk adds positions (rotary positions).

    embedding_dim: the size E of the embeddings, if set: their sum is then normalised, goes through dropout and is
    projected to D if E differs (ALBERT, Lan et al. 2020, section 3.1; ELECTRA); set the trunk's `input_norm: false`.
    None: E is D, and the trunk normalises. dropout: after the embeddings' norm. bias: whether that norm and projection
    have one.

    packed: whether a row holds several documents, each starting with [CLS]; positions and segments restart in each.
    """

    modality = "text"
    feature_dim = 0
    stride = 1
    counts_positions = True
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
        self.supports_cache = not segments  # segments depend on earlier separators
        for table in (self.token_embedding, self.position_embedding, self.segment_embedding):
            if table is not None:
                nn.init.normal_(table.weight, std=init_std)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, lengths

    def documents(self, features: Tensor) -> Tensor | None:
        return (features == CLS).cumsum(1) if self.packed else None

    def project(self, features: Tensor, lengths: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """start: the position of the first id, after cached ones (see `kv_cache.KVCache`)."""
        tokens = self.embed(features, start)
        return tokens if self.up is None else self.up(tokens), lengths

    def project_prompt(self, prompt: Tensor) -> Tensor:
        """As words at the first places, in the first segment."""
        if self.position_embedding is not None:
            prompt = prompt + self.position_embedding.weight[: len(prompt)]
        if self.segment_embedding is not None:
            prompt = prompt + self.segment_embedding.weight[0]
        if self.norm is not None:
            prompt = self.drop(self.norm(prompt))
        return prompt if self.up is None else self.up(prompt)

    def embed(self, features: Tensor, start: int = 0) -> Tensor:
        """Ids [B, T] -> the sum of their embeddings [B, T, E], normalised if embedding_dim is set."""
        size = start + features.shape[1]
        if size > self.max_tokens:
            raise UserError(
                f"a text of {size} tokens is longer than the encoder's {self.max_tokens}: set data.max_tokens"
            )
        tokens, places = self.token_embedding(features), torch.arange(start, size, device=features.device)
        if self.packed:
            first = torch.where(features == CLS, places, 0).cummax(1).values  # start of each token's document
        if self.position_embedding is not None:
            tokens = tokens + self.position_embedding(places - first if self.packed else places)
        if self.segment_embedding is not None:
            separators = (features == SEP).long()
            before = separators.cumsum(1) - separators
            if self.packed:
                before = before - before.gather(1, first - start)
            tokens = tokens + self.segment_embedding(before.clamp(max=self.segment_embedding.num_embeddings - 1))
        return tokens if self.norm is None else self.drop(self.norm(tokens))
