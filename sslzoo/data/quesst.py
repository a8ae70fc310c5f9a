"""QUESST 2014, query by example, in the layout of its download."""

from pathlib import Path
from typing import Literal

import numpy as np

from sslzoo.data import files
from sslzoo.data.audio import AudioData
from sslzoo.data.base import Split
from sslzoo.data.index import Check, Listing
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.errors import UserError

PARTS = {"train": "utterances", "valid": "dev", "test": "eval"}  # documents are train, for they are of both


class Quesst14(AudioData):
    """QUESST 2014 (Anguera et al. 2014): Audio/, dev_queries/, eval_queries/ and scoring/, with
    language_key_{utterances,dev,eval}.lst, lines of a file and its language, and
    groundtruth_quesst14_{dev,eval}/quesst14_{dev,eval}.rttm, whose LEXEME lines say which query is in which document.

    train holds the documents, valid the queries of dev, test those of eval. Labels: query, the name of a query;
    queries, of a document, the names of those that are in it, joined by blanks. language: of all of these; None: any.
    SUPERB's is nnenglish, English of non-natives. (s3prl lowers all of it by 3 dB, which is not done here.)
    """

    def __init__(
        self,
        path: str,
        batch: ByCount | BySeconds,
        sample_rate: int = 16000,
        max_seconds: float | None = None,
        min_seconds: float = 0.1,
        on_error: Literal["raise", "skip"] = "raise",
        check: Check | None = None,
        language: str | None = "nnenglish",
    ):
        super().__init__(path, batch, sample_rate, max_seconds, min_seconds, on_error, check)
        self.language = language

    def listing(self) -> Listing:
        root = files.rooted(self.path, "quesst14Database")
        names, split, read = [], [], []
        for part, word in PARTS.items():
            path = root / "scoring" / f"language_key_{word}.lst"
            if not path.exists():
                raise UserError(f"there is no {path}, which QUESST 2014 has{files.elsewhere(path)}")
            found = list(self._listed(path))
            if not found:
                raise UserError(f"{path} lists no file of the language '{self.language}': set data.language")
            names += found
            split += [part] * len(found)
            read.append(path)
        stems = [Path(name).stem for name in names]
        said: dict[str, list[str]] = {}
        for word in ("dev", "eval"):
            path = root / "scoring" / f"groundtruth_quesst14_{word}" / f"quesst14_{word}.rttm"
            if not path.exists():
                raise UserError(
                    f"there is no {path}, which says in which documents the queries are{files.elsewhere(path)}"
                )
            asked = {stem for stem, part in zip(stems, split, strict=True) if PARTS[part] == word}
            for line in files.lines(path):
                fields = line.split()
                if len(fields) > 2 and fields[0] == "LEXEME":
                    for query in asked.intersection(fields[2:]):
                        said.setdefault(fields[1], []).append(query)
            read.append(path)
        columns = {
            "query": [stem if part != "train" else "" for stem, part in zip(stems, split, strict=True)],
            "queries": [
                " ".join(sorted(set(said.get(stem, [])))) if part == "train" else ""
                for stem, part in zip(stems, split, strict=True)
            ],
        }
        return Listing(root, names, np.array(split), columns, walks=[], read=read)

    def _listed(self, path: Path):
        for number, line in enumerate(files.lines(path), 1):
            fields = line.split()
            if fields and len(fields) != 2:
                raise UserError(f"{path}, line {number} is not of the form quesst14Database/FOLDER/FILE.wav LANGUAGE")
            if fields and self.language in (None, fields[1]):
                yield fields[0].partition("/")[2]

    def trials(self, part: str) -> tuple[Split, Split, np.ndarray]:
        """(the queries of valid or test, the documents, bool [queries, documents], whether a query is in a
        document)."""
        queries, documents = self.split(part), self.split("train")
        inside = [set(names.split()) for names in documents.columns["queries"].tolist()]
        asked = queries.columns["query"].tolist()
        return queries, documents, np.array([[query in names for names in inside] for query in asked])
