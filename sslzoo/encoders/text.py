"""Word pieces: the front end that makes BERT and GPT of the trunk."""

import torch
from torch import Tensor, nn

from sslzoo.data.base import SEP
from sslzoo.encoders.base import Frontend
from sslzoo.errors import UserError


class WordPieces(Frontend):
    """Ids [B, T] -> the same ids as features -> tokens [B, T, D]: the sum of embeddings of the piece, its
    place and its segment (Devlin et al. 2019, figure 2). The second segment begins after the first
    separator. segments: 2 for BERT, 0 for none (GPT)."""

    modality = "text"
    feature_dim = 0
    stride = 1

    def __init__(self, dim: int, vocab_size: int, max_tokens: int, segments: int = 2, init_std: float = 0.02):
        super().__init__()
        self.dim, self.max_tokens = dim, max_tokens
        self.token_embedding = nn.Embedding(vocab_size, dim)
        self.position_embedding = nn.Embedding(max_tokens, dim)
        self.segment_embedding = nn.Embedding(segments, dim) if segments else None
        self.supports_cache = not segments  # a segment depends on the separators before
        for table in (self.token_embedding, self.position_embedding, *([self.segment_embedding] if segments else [])):
            nn.init.normal_(table.weight, std=init_std)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, lengths

    def project(self, features: Tensor, lengths: Tensor, start: int = 0) -> tuple[Tensor, Tensor]:
        """start: the place of the first id, where others came before (see `transformer.KVCache`)."""
        size = start + features.shape[1]
        if size > self.max_tokens:
            raise UserError(
                f"a text of {size} tokens is longer than the encoder's {self.max_tokens}: set data.max_tokens"
            )
        tokens = self.token_embedding(features) + self.position_embedding(
            torch.arange(start, size, device=features.device)
        )
        if self.segment_embedding is not None:
            separators = (features == SEP).long()
            after = (separators.cumsum(1) - separators).clamp(max=self.segment_embedding.num_embeddings - 1)
            tokens = tokens + self.segment_embedding(after)
        return tokens, lengths
