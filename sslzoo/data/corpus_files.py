"""Lists the files of a text corpus, by split."""

import logging
from pathlib import Path

import numpy as np

from sslzoo.data import compressed, duplicates, files, splits, text_files, tree
from sslzoo.data.base import SPLITS
from sslzoo.data.text import file_stamps

JSON_LINES = compressed.packed(".jsonl")
_log = logging.getLogger("sslzoo")


def is_json_lines(name: str) -> bool:
    return compressed.kind(name) in (".jsonl", ".json")


def listed(path: str, given: dict[str, str] | None) -> tuple[Path, dict[str, list[str]]]:
    """(folder, {split: files in it}), of splits that have their own files. given: the file of each split, or None."""
    if given:
        root = files.rooted(path)
        file_stamps(root / file for file in given.values())  # raises UserError if one is missing
        return root, {name: [file] for name, file in given.items()}
    if Path(path).is_file():
        return Path(path).parent, {"train": [Path(path).name]}
    root = files.rooted(path)
    suffixes, unread = (*text_files.SUFFIXES, *JSON_LINES), text_files.UNREAD
    names = tree.look(root, (*suffixes, *unread)).names()
    names, left_out = files.readable(root, names, suffixes, unread, text_files.MEND)
    found = splits.layout(names, str(root))
    split = found.split if set(found.split) != {"train"} else splits.by_file(names, str(root)) or found.split
    sizes = np.array([size for _, size, _ in file_stamps(root / name for name in names)])
    twice = duplicates.across_splits(root, names, np.array(split), sizes) if len(set(split)) > 1 else []
    for note in [*left_out, *found.said(), *twice]:
        _log.warning("%s", note)
    pairs = list(zip(names, split, strict=True))
    return root, {part: [name for name, own in pairs if own == part] for part in SPLITS if part in split}
