"""Questions about paragraphs: SQuAD 1.1's JSON (1606.05250), which XQuAD shares."""

import json
from pathlib import Path

from sslzoo.data import files, labels, splits
from sslzoo.data.base import SPLITS
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts, check_files, file_stamps
from sslzoo.data.token_store import digest
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import UserError


class Squad(TextData):
    """Pairs of a question and its paragraph. Label: answer, the first that is given.

    files: the file of each split, relative to `path`; valid and test, where they are not named, are whole
    articles of train, by a hash of their titles.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        files: dict[str, str],
        vocab_size: int = 8000,
        max_tokens: int = 384,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        strip_accents: bool = False,
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents)
        check_files(files)
        self.path, self.files = path, dict(files)

    def fingerprint(self, split: str) -> str:
        path = files.rooted(self.path) / self.files.get(split, self.files["train"])
        return digest(file_stamps([path]), split, sorted(self.files.items()))

    def texts(self, split: str) -> Texts:
        path = files.rooted(self.path) / self.files.get(split, self.files["train"])
        titles, rows = _rows(path)
        own = [name for name in SPLITS[1:] if name in self.files]
        if split not in self.files or split == "train":
            filled = splits.fill(["train"] * len(titles) + own, [*titles, *own], str(path))
            rows = [row for row, name in zip(rows, filled, strict=False) if name == split]
        names, questions, contexts, answers = (list(column) for column in zip(*rows, strict=True))
        return Texts(questions, names, contexts, {"answer": labels.column(answers)})


def _rows(path: Path) -> tuple[list[str], list[tuple[str, str, str, str]]]:
    """The title of each question's article; and its id, the question, its paragraph and its answer."""
    titles, rows = [], []
    try:
        for article in json.loads(files.read_text(path))["data"]:
            for paragraph in article["paragraphs"]:
                for item in paragraph["qas"]:
                    answer = item["answers"][0]["text"] if item["answers"] else ""
                    titles.append(article["title"] if "title" in article else paragraph["context"])
                    rows.append((f"{path.name}: {item['id']}", item["question"], paragraph["context"], answer))
    except (ValueError, KeyError, TypeError) as error:
        raise UserError(f"{path} is not SQuAD's JSON: {type(error).__name__} {error}") from error
    if not rows:
        raise UserError(f"{path} has no questions")
    return titles, rows
