"""How a task is put to a language model: a template and the words of its labels."""

from collections.abc import Sequence
from typing import Any

from sslzoo.data.base import MASK, Data
from sslzoo.data.text import TextData
from sslzoo.errors import ConfigError
from sslzoo.prompts.template import Template
from sslzoo.prompts.tokenizer import PromptTokenizer
from sslzoo.prompts.verbalizer import Verbalizer, in_order, tokens_of


class Prompt:
    """template: see `Template`. words: for each label a word, or a list of words whose scores are averaged. labels:
    those that the words are given for; None for the task's own, sorted. For a regression: two words, for the values in
    `labels`, or for the lowest and the highest that the data may have.

    patterns: several prompts, {template: …} and, where they are others, {words: …}, for methods that train a model of
    each; see `adapt.pet`.
    """

    def __init__(
        self,
        template: str | None = None,
        words: list[str | list[str]] | None = None,
        labels: list[str] | None = None,
        patterns: list[Any] | None = None,
    ):
        if template is None or not words:
            raise ConfigError(
                "this task has no prompt: set prompt.template, such as '{text} It was {mask}.', and prompt.words, one for "
                "each label (`sslzoo list prompts` shows the tasks that have one)"
            )
        self.template, self.labels, self.patterns = template, labels, patterns
        self.words = [[word] if isinstance(word, str) else list(word) for word in words]

    def applied(self, data: Data, positions: int | None = None, demonstrated: bool = False) -> None:
        """Let `data`, whose tokenizer is set, read its texts in the template. positions: the encoder's, which the
        prompt shares with a demonstration of each label if `demonstrated`. Raises ConfigError for a template that does
        not fit the data or its `max_tokens`, or a word that its vocabulary does not know."""
        if not isinstance(data, TextData):
            raise ConfigError(f"a prompt is made of texts, and {type(data).__name__} has none: choose a table of texts")
        template = Template(self.template, data.text_names)
        tokens = tokens_of(self.words, data.tokenizer, template.spaced)
        masks = max(len(ids) for several in tokens for ids in several)
        if demonstrated and positions is not None:
            data.max_tokens = min(data.max_tokens, positions // (1 + len(self.words)))
        beside = f" beside a demonstration of each of {len(self.words)} labels" if demonstrated else ""
        template.check_room(data.tokenizer, [MASK] * masks, data.max_tokens, beside)
        data.use(PromptTokenizer(data.tokenizer, template, masks))

    def verbalizer(self, classes: Sequence[str], tokenizer: PromptTokenizer) -> Verbalizer:
        """The words of a task's classes. Raises ConfigError if labels and words do not go together."""
        words = in_order(self.words, self.labels, classes)
        return Verbalizer(classes, words, tokens_of(words, tokenizer, tokenizer.template.spaced))
