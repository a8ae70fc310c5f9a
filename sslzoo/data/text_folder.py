"""Text files in class folders, one item per file."""

import logging
from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import file_labels, files, splits, text_files, tree
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.text import TextData, Texts, file_stamps
from sslzoo.data.token_store import digest
from sslzoo.data.tokenizer import Tokens
from sslzoo.errors import UserError

_log = logging.getLogger("sslzoo")


class TextFolder(TextData):
    """Text files in <class>/, or in train/<class>/, test/<class>/ (see `splits.layout`), each an item (IMDb's layout).

    Missing splits are taken from the training files by a hash of their names. Labels: label, the class folder ("" in
    "unsup" or "unlabeled", which belong to train), and those parsed from file names by labels_from, a pattern (see
    `file_labels`). Files outside class folders are left out. on_error: "skip" leaves out files that are empty or not
    UTF-8, and keeps files that do not match labels_from, without labels.
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        vocab_size: int = 8000,
        max_tokens: int = 128,
        tokens: Tokens = "wordpiece",
        lowercase: bool = True,
        on_error: Literal["raise", "skip"] = "raise",
        labels_from: str | None = None,
        strip_accents: bool = False,
        pack: bool = False,
    ):
        super().__init__(batch, vocab_size, max_tokens, tokens, lowercase, strip_accents, pack)
        self._labels = file_labels.read(labels_from)
        self.path, self.on_error, self.labels_from = path, on_error, labels_from
        self._listed: tuple[Path, dict[str, list[str]], dict[str, dict[str, list[str]]]] | None = None

    def fingerprint(self, split: str) -> str:
        root, names, columns = self._listing()
        return digest(file_stamps(root / name for name in names[split]), columns[split], self.on_error)

    def texts(self, split: str) -> Texts:
        root, names, columns = self._listing()
        found, faults = [], {}
        for i, name in enumerate(names[split]):
            try:
                text = files.read_text(root / name)
            except UserError as error:
                text, faults[i] = "", str(error)
            else:
                if not text.strip():
                    faults[i] = f"{root / name} is empty"
            found.append(text)
        kept = files.drop_faulty(f"{root} ({split})", len(found), faults, self.on_error)
        labels = {key: np.array(values)[kept] for key, values in columns[split].items()}
        return Texts([found[i] for i in kept], [names[split][i] for i in kept], None, labels)

    def _listing(self) -> tuple[Path, dict[str, list[str]], dict[str, dict[str, list[str]]]]:
        """(root, {split: files}, {split: label columns}), cached."""
        if self._listed is None:
            root = files.rooted(self.path)
            names, split, columns = self._list(root)
            rows = {part: [i for i, own in enumerate(split) if own == part] for part in splits.SPLITS}
            self._listed = (
                root,
                {part: [names[i] for i in at] for part, at in rows.items()},
                {part: {key: [values[i] for i in at] for key, values in columns.items()} for part, at in rows.items()},
            )
        return self._listed

    def _list(self, root: Path) -> tuple[list[str], list[str], dict[str, list[str]]]:
        suffixes, unread = text_files.SUFFIXES, text_files.UNREAD
        names = tree.look(root, (*suffixes, *unread)).names()
        names, left_out = files.readable(root, names, suffixes, unread, text_files.MEND)
        found = splits.layout(names, str(root))
        labels = found.first_folders()
        classes = {part for part, label in zip(found.split, labels, strict=True) if label}
        # IMDb has lists of URLs beside its class folders
        left = {i for i, part in enumerate(found.split) if part in classes and not labels[i] and not _free(names[i])}
        notes = found.notes if "train" in classes else found.said()
        if left:
            some = names[min(left)]
            notes = [*notes, f"{root}: {len(left)} .txt files beside folders of classes are left out, such as {some}"]
        kept = [i for i in range(len(names)) if i not in left]
        names, labels, split = ([values[i] for i in kept] for values in (names, labels, found.split))
        columns = {"label": labels} if any(labels) else {}
        if self._labels is not None:
            fields, misfits = self._labels.columns(names, str(root))
            columns |= fields
            notes = [*notes, *file_labels.tolerated(misfits, self.on_error)]
        for note in [*left_out, *notes]:
            _log.warning("%s", note)
        return names, splits.fill(split, names, str(root)).tolist(), columns


def _free(name: str) -> bool:
    """Whether a file is in a folder of unlabelled files."""
    return any(not splits.label(folder) for folder in name.split("/")[:-1])
