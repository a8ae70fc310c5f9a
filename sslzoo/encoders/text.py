"""Word pieces: the front end that makes BERT and GPT of the trunk."""

import torch
from torch import Tensor, nn

from sslzoo.data.base import SEP
from sslzoo.encoders.base import Front
from sslzoo.errors import UserError


class WordPieces(Front):
    """Ids [B, T] -> the same ids as features -> tokens [B, T, D]: the sum of embeddings of the piece, its
    place and its segment (Devlin et al. 2019, figure 2). The second segment begins after the first
    separator. segments: 2 for BERT, 0 for none (GPT)."""

    modality = "text"
    feature_dim = 0
    stride = 1

    def __init__(self, dim: int, vocab_size: int, max_tokens: int, segments: int = 2, init_std: float = 0.02):
        super().__init__()
        self.dim, self.max_tokens = dim, max_tokens
        self.pieces = nn.Embedding(vocab_size, dim)
        self.places = nn.Embedding(max_tokens, dim)
        self.segments = nn.Embedding(segments, dim) if segments else None
        self.resumes = not segments  # a segment depends on the separators before
        for table in (self.pieces, self.places, *([self.segments] if segments else [])):
            nn.init.normal_(table.weight, std=init_std)

    def features(self, inputs: Tensor, lengths: Tensor) -> tuple[Tensor, Tensor]:
        return inputs, lengths

    def project(self, features: Tensor, lengths: Tensor, first: int = 0) -> tuple[Tensor, Tensor]:
        """first: the place of the first id, where others came before (see `transformer.Cache`)."""
        size = first + features.shape[1]
        if size > self.max_tokens:
            raise UserError(
                f"a text of {size} tokens is longer than the encoder's {self.max_tokens}: set data.max_tokens"
            )
        tokens = self.pieces(features) + self.places(torch.arange(first, size, device=features.device))
        if self.segments is not None:
            separators = (features == SEP).long()
            after = (separators.cumsum(1) - separators).clamp(max=self.segments.num_embeddings - 1)
            tokens = tokens + self.segments(after)
        return tokens, lengths
