"""A tokenizer that puts texts into a template, so that whatever reads texts reads prompts."""

import hashlib
from collections.abc import Sequence

import numpy as np

from sslzoo.data.base import MASK
from sslzoo.data.tokenizer import Tokenizer
from sslzoo.errors import InputError
from sslzoo.prompts.template import Template


class PromptTokenizer(Tokenizer):
    """A tokenizer that makes of a text, or a pair, the template with the texts in it and `masks` [MASK] at its mask.
    `encode_apart` is as without a template."""

    def __init__(self, tokenizer: Tokenizer, template: Template, masks: int):
        super().__init__(tokenizer.backend)
        self.template, self.masks = template, masks

    @property
    def digest(self) -> str:
        words = (self.saved_digest, self.template.text, self.template.names, self.masks)
        return hashlib.sha256(repr(words).encode()).hexdigest()[:16]

    def encode_batch_counted(
        self, texts: Sequence[str], pairs: Sequence[str] | None = None, max_tokens: int | None = None
    ) -> tuple[list[np.ndarray], int]:
        items = [(text,) for text in texts] if pairs is None else list(zip(texts, pairs, strict=True))
        names = self.template.names
        if items and len(items[0]) != len(names):
            raise InputError(f"the prompt is made of {' and '.join(names)}: give {len(names)} texts an item")
        return self.template.encode(self, items, [[MASK] * self.masks] * len(items), max_tokens)
