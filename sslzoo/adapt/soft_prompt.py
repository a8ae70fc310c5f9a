"""Prompt tuning (Lester et al. 2021, 2104.08691): embeddings that learn stand before those of the input."""

from typing import Literal

import torch
from torch import Tensor, nn

from sslzoo.adapt.methods import Method, frozen, transformer_of
from sslzoo.data.base import SPECIALS
from sslzoo.encoders.base import Encoder, Frontend
from sslzoo.encoders.sequence import SequenceEncoder
from sslzoo.errors import ConfigError

COMMONEST = 5000  # words to start from (section 3.2); vocabularies are ordered by frequency
DEVIATION = 0.02  # where there are no words


class SoftPrompt(nn.Module):
    """Embeddings [length, E] that learn."""

    def __init__(self, embeddings: Tensor):
        super().__init__()
        self.embeddings = nn.Parameter(embeddings)

    def forward(self) -> Tensor:
        """[length, E]."""
        return self.embeddings


class PromptTuning(Method):
    """Tokens that learn stand before the item's own, for the trunk alone: what it makes of them is left out of the
    hidden states, so that heads and pooling see the item's tokens as without a prompt. The encoder is frozen. A text's
    prompt is embedded as words are, at the first places, which leaves fewer for the text; prompts of frames and patches
    are given to the trunk as they are (as 2203.12119 does for patches, section 3.2).

    length: tokens of the prompt. At 20, an encoder of 768 has 15,360 parameters in it. start: what they begin as: the
    embeddings of "words", drawn without replacement from the 5,000 commonest of the vocabulary (section 3.2), the
    "mean" of the vocabulary's, or "normal", of deviation 0.02. None: words where the encoder has a vocabulary, else
    normal.
    """

    def __init__(self, length: int = 20, start: Literal["words", "mean", "normal"] | None = None):
        self.length, self.start = length, start

    def __call__(self, encoder: Encoder) -> Encoder:
        transformer_of(encoder, "Prompt tuning")
        if not isinstance(encoder, SequenceEncoder):
            raise ConfigError(f"Prompt tuning is for SequenceEncoder, and this encoder is {type(encoder).__name__}")
        most = encoder.reads.get("max_tokens")
        if isinstance(most, int):
            room = most - self.length
            if room < 3:  # [CLS], a piece, [SEP]
                raise ConfigError(
                    f"method.length={self.length} leaves no room for a text in the {most} positions of this encoder: "
                    f"choose {most - 3} or less"
                )
            encoder.reads = {**encoder.reads, "max_tokens": room}
        frozen(encoder)
        encoder.prompt = SoftPrompt(self.first(encoder.frontend))
        return encoder.train()

    def first(self, frontend: Frontend) -> Tensor:
        """The embeddings to begin with, [length, E]."""
        table = getattr(frontend, "token_embedding", None)
        start = self.start or ("normal" if table is None else "words")
        if start == "normal":
            return DEVIATION * torch.randn(self.length, getattr(frontend, "embedding_dim", frontend.dim))
        if table is None:
            raise ConfigError(
                f"method.start={start} is for texts, and this encoder has no words: set method.start=normal"
            )
        words = table.weight.detach()[SPECIALS:]
        if start == "mean":
            return words.mean(0).repeat(self.length, 1)
        words = words[:COMMONEST]
        if len(words) < self.length:
            raise ConfigError(f"method.length={self.length} is more than the {len(words)} words of the vocabulary")
        return words[torch.randperm(len(words))[: self.length]].clone()
