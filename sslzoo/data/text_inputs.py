"""The data of an imported encoder: a tokenizer without texts."""

from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts
from sslzoo.errors import UserError

NO_ITEMS = "an imported encoder has no data of its own: name some with data=…, or a task that has its own"


class TextInputs(TextData):
    """A tokenizer, loaded from a run by `restore`, for texts passed to an encoder; no splits."""

    has_sentences = True  # its head may have been trained on sentence rows elsewhere

    def __init__(self, batch: ByCount | BySeconds, vocab_size: int, max_tokens: int):
        super().__init__(batch, vocab_size, max_tokens)

    @property
    def unigram_entropy(self) -> float:
        return float("inf")

    def texts(self, split: str) -> Texts:
        raise UserError(NO_ITEMS)

    def fingerprint(self, split: str) -> str:
        self.texts(split)
        return ""
