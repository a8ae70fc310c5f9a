"""LM-BFF (Gao et al. 2021, 2012.15723): few labels, by a prompt with demonstrations that may be searched."""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
import yaml
from torch import Tensor

from sslzoo.adapt.data import Supervised
from sslzoo.adapt.methods import Full
from sslzoo.data.base import MASK
from sslzoo.data.text import TextData
from sslzoo.errors import ConfigError
from sslzoo.prompts import search
from sslzoo.prompts.search import Ask, Labelled
from sslzoo.prompts.template import Template
from sslzoo.run import Run, write_atomic

ROWS = 64  # rows that the language model is asked about at a time
SHOWN = 20  # candidates that are listed with their scores


class LMBFF(Full):
    """Everything learns, and the prompt is searched before if `find` says so: its "template", its "words", or one after
    the other. What was found is written to prompt.yaml in the adaptation's folder, each part once it is found.

    beam, per_class, finalists: see `prompts.search`.
    """

    def __init__(
        self,
        find: list[Literal["template", "words"]] = [],  # noqa: B006 (read, never written)
        beam: int = 8,
        per_class: int = 100,
        finalists: int = 100,
    ):
        if len(set(find)) < len(find) or min(beam, per_class, finalists) < 1:
            raise ConfigError(
                f"method.find is template and words, each once or not at all, got {find}; the other settings are 1 or more"
            )
        self.find, self.beam, self.per_class, self.finalists = find, beam, per_class, finalists

    def check(self, objective: type) -> None:
        if not getattr(objective, "prompted", False):
            raise ConfigError(f"method=lm_bff asks by a prompt, and {objective.__name__} does not: leave out head")

    def settled(self, config: dict, run: Run, folder: Run) -> dict:
        """The config with the prompt that was searched."""
        path = folder.folder / "prompt.yaml"
        done: dict[str, dict] = {}
        for what in self.find:
            said = yaml.safe_load(path.read_text(encoding="utf-8")) if path.exists() else {}
            if what not in said:
                found, candidates = self.searched(what, config, run)
                said = {**done, what: {"prompt": found, "candidates": candidates[:SHOWN]}}
                text = yaml.safe_dump(said, sort_keys=False, allow_unicode=True)
                write_atomic(path, partial(Path.write_text, data=text, encoding="utf-8"))
            config, done = {**config, "prompt": {**config["prompt"], **said[what]["prompt"]}}, said
        return config

    def searched(self, what: str, config: dict, run: Run) -> tuple[dict, list[dict]]:
        """(template, words and labels of the best prompt; the candidates with their scores, best first)."""
        from sslzoo.adapt.job import begun  # it makes methods

        encoder, objective, data, _ = begun(config, run)
        encoder, objective = encoder.eval(), objective.eval()
        objective.verbalizer.check_single("a search of prompts")
        ask, tokenizer = asking(encoder, objective.language_model), data.tokenizer
        train, dev = (labelled(data, part) for part in ("train", "valid"))
        tokens = [several[0][0] for several in objective.verbalizer.tokens]
        given = torch.tensor([tokens])
        words, template = [several[0] for several in objective.verbalizer.words], tokenizer.template
        if what == "template":
            tried: list[tuple[str, float, float]] = []  # template, score on train and on dev
            for text in search.templates(ask, tokenizer, template.names, train, tokens, self.beam, data.max_tokens):
                of = Template(text, template.names)
                on_train, on_dev = (
                    float(search.zero_shot(at_masks(ask, tokenizer, of, part, data.max_tokens), part.labels, given)[0])
                    for part in (train, dev)
                )
                tried.append((text, on_train, on_dev))
            best = sorted(sorted(tried, key=lambda one: -one[1])[: self.finalists], key=lambda one: -one[2])
            shown = [dict(zip(("template", "train", "dev"), one, strict=True)) for one in best]
            return {"template": best[0][0], "words": words, "labels": objective.verbalizer.labels}, shown
        asked = [at_masks(ask, tokenizer, template, part, data.max_tokens) for part in (train, dev)]
        allowed = np.zeros(asked[0].shape[1], bool)
        known = search.whole_words(tokenizer)
        allowed[: len(known)] = known
        rows = []
        for found, on_train, on_dev in search.label_words(
            asked[0], train.labels, asked[1], dev.labels, allowed, self.per_class, self.finalists
        ):
            rows.append({"words": [tokenizer.decode([t]).strip() for t in found], "train": on_train, "dev": on_dev})
        return {"template": template.text, "words": rows[0]["words"], "labels": objective.verbalizer.labels}, rows


def labelled(data: Supervised, part: str) -> Labelled:
    """The texts and labels of a part of a task."""
    split, names = data.labelled_items(part), {id(one): name for name, one in data.pool.splits.items()}
    assert isinstance(data.data, TextData)  # a prompt is applied to no other
    items: list[tuple[str, ...]] = []
    for i in range(len(split)):
        source, place = split.located(i)
        texts = data.data.opened(names[id(source)])
        items.append((texts.texts[place],) if texts.pairs is None else (texts.texts[place], texts.pairs[place]))
    return Labelled(items, split.labels)


def asking(encoder: Any, language_model: Any) -> Ask:
    """A function that asks a language model about tokens of rows."""

    @torch.no_grad()
    def ask(rows: Sequence[np.ndarray], places: Sequence[int]) -> Tensor:
        found = []
        for first in range(0, len(rows), ROWS):
            some = [torch.from_numpy(row) for row in rows[first : first + ROWS]]
            ids = torch.nn.utils.rnn.pad_sequence(some, batch_first=True)
            last = encoder(ids, torch.tensor([len(row) for row in some])).last
            hidden = last[torch.arange(len(some)), torch.tensor(places[first : first + ROWS])]
            found.append(language_model(encoder, hidden).float().log_softmax(-1))
        return torch.cat(found)

    return ask


def at_masks(ask: Ask, tokenizer: Any, template: Template, part: Labelled, max_tokens: int) -> Tensor:
    """Log-probabilities [N, V] at the mask of each item's prompt."""
    rows, _ = template.encode(tokenizer, part.items, [[MASK]] * len(part.items), max_tokens)
    return ask(rows, [int(np.flatnonzero(row == MASK)[0]) for row in rows])
