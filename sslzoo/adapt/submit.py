"""Predictions of an adapted encoder for test splits without public labels, in the file formats of GLUE's and CLUE's
servers (1804.07461, gluebenchmark.com/faq; 2004.05986, the submission rules of CLUE 1.1)."""

import json
import zipfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from sslzoo.adapt.data import Supervised
from sslzoo.adapt.items import LabelledItems
from sslzoo.adapt.unlabelled import text_split
from sslzoo.data import files
from sslzoo.data.base import Split
from sslzoo.data.loader import ordered_loader
from sslzoo.data.question_windows import QuestionWindows
from sslzoo.data.squad import Squad
from sslzoo.data.table import TextTable
from sslzoo.data.text_splits import TextSplit
from sslzoo.errors import ConfigError, UserError
from sslzoo.features.frozen import units
from sslzoo.lock import sole_writer
from sslzoo.run import write_atomic
from sslzoo.tasks.base import TaskObjective


@dataclass(frozen=True)
class Sheet:
    """A file of a submission. file: its name. sources: candidate test files, relative to the data's folder; the first
    that exists is used. rows: the official number of rows, None if unknown. optional: skip the file if no source
    exists. key: the column with the rows' numbers."""

    file: str
    sources: tuple[str, ...]
    rows: int | None = None
    optional: bool = False
    key: str = "index"


DIAGNOSTICS = ("../AX/AX.tsv", "../diagnostic/diagnostic.tsv", "../AX.tsv", "AX.tsv", "diagnostic.tsv")
MNLI = (
    Sheet("MNLI-m.tsv", ("test_matched.tsv",), 9796),
    Sheet("MNLI-mm.tsv", ("test_mismatched.tsv",), 9847),
    Sheet("AX.tsv", DIAGNOSTICS, 1104, optional=True),
)
GLUE = {
    "cola": (Sheet("CoLA.tsv", ("test.tsv",), 1063),),
    "sst2": (Sheet("SST-2.tsv", ("test.tsv",), 1821),),
    "mrpc": (Sheet("MRPC.tsv", ("test.tsv",), 1725),),
    "stsb": (Sheet("STS-B.tsv", ("test.tsv",), 1379),),
    "mnli": MNLI,
    "mnli_mm": MNLI,
    "qnli": (Sheet("QNLI.tsv", ("test.tsv",), 5463),),
    "qqp": (Sheet("QQP.tsv", ("test.tsv",), 390965, key="id"),),
    "rte": (Sheet("RTE.tsv", ("test.tsv",), 3000),),
    "wnli": (Sheet("WNLI.tsv", ("test.tsv",), 146),),
}
CLUE = {  # for two sets, CLUE 1.1 replaced the test split of 1.0, now test1.0.json
    "clue_tnews": (
        Sheet("tnews11_predict.json", ("test.json",)),
        Sheet("tnews10_predict.json", ("test1.0.json",), optional=True),
    ),
    "clue_wsc": (
        Sheet("cluewsc11_predict.json", ("test.json",)),
        Sheet("cluewsc10_predict.json", ("test1.0.json",), optional=True),
    ),
    "clue_ocnli": (Sheet("ocnli_50k_predict.json", ("test.json",)),),
    **{
        f"clue_{name}": (Sheet(f"{name}_predict.json", ("test.json",)),)
        for name in ("iflytek", "afqmc", "cmnli", "csl")
    },
    "cmrc2018": (Sheet("cmrc2018_predict.json", ("test.json",)),),
}
SHEETS = GLUE | CLUE
ALSO = {"mnli": {"mismatched": "dev_mismatched.tsv"}}  # further labelled files to score


def planned(task: dict, out: str) -> list[tuple[Sheet, str]]:
    """The files to submit for a task's config node, each with its source. Raises ConfigError for a task without any,
    UserError if a source is missing; called before training."""
    name, data = task.get("name"), task.get("data")
    if name not in SHEETS or not isinstance(data, dict):
        raise ConfigError(f"submit is for the test splits of GLUE and CLUE: task={', '.join(SHEETS)}; got {name}")
    if Path(out).suffix.lower() != ".zip" and Path(out).is_file():
        raise ConfigError(f"submit={out} is a file: name a folder, or an archive that ends with .zip")
    _there(Path(out))
    root, found = files.rooted(data["path"]), []
    for sheet in SHEETS[name]:
        source = next((source for source in sheet.sources if (root / source).is_file()), None)
        if source is not None:
            found.append((sheet, source))
        elif not sheet.optional:
            raise UserError(
                f"submit needs {root / sheet.sources[0]}, the test split without labels, which is not there"
            )
    return found


def submit(task: dict, out: str, encoder: nn.Module, objective: TaskObjective, data: Supervised, device: str) -> str:
    """Write a task's files into a folder or a zip archive, which may hold other tasks' files, and return a report."""
    lines, target = [], Path(out)
    for sheet, source in planned(task, out):
        cut = 0
        with torch.inference_mode():
            if isinstance(data.data, Squad):
                text, count = _answers(encoder, objective, data, data.data.unanswered(source), device)
            else:
                texts = _table(data).unlabelled(source, sheet.key if sheet.file.endswith(".tsv") else "id")
                split, cut = text_split(texts, data.tokenizer, data.max_tokens)
                said = _predictions(encoder, objective, data, split, device)
                ids, count = texts.columns["id"], len(said)
                text = _tsv(sheet, ids, said) if sheet.file.endswith(".tsv") else _json_lines(ids, said)
        _put(target, sheet.file, text)
        line = f"wrote {sheet.file}, {count:,} rows, to {target}"
        if sheet.rows not in (None, count):
            line += f": GLUE's has {sheet.rows:,}, and its server takes no other"
        if cut:
            line += f"; {cut:,} are longer than the encoder's {data.max_tokens} tokens and lost their end"
        lines.append(line)
    lacking = [s.file for sheets in GLUE.values() for s in sheets if s.file not in _there(target)]
    if task["name"] in GLUE and lacking:
        lines.append(f"GLUE takes the archive when it has {', '.join(dict.fromkeys(lacking))} too")
    return "\n".join(lines)


def also(task: dict, encoder: nn.Module, objective: TaskObjective, data: Supervised, device: str) -> dict[str, dict]:
    """{name: scores} on a task's further labelled files, as far as they exist."""
    found = {}
    for name, file in ALSO.get(task["name"], {}).items():
        if not (files.rooted(task["data"]["path"]) / file).is_file():
            continue
        texts, number = _table(data).labelled(file), {name: i for i, name in enumerate(data.classes or [])}
        if strange := set(texts.columns["label"]) - set(number):
            raise UserError(f"{file} has labels that train has not: {', '.join(sorted(strange))}")
        numbers = np.array([number[label] for label in texts.columns["label"]])
        split, _ = text_split(texts, data.tokenizer, data.max_tokens)
        items = LabelledItems([split], np.zeros(len(numbers), np.int64), np.arange(len(numbers)), numbers)
        with torch.inference_mode():
            found[name] = dict(objective.evaluate(encoder, _batches(items, data, device), items))
    return found


def _table(data: Supervised) -> TextTable:
    """The table that is a task's data. Raises ConfigError for other data."""
    if not isinstance(data.data, TextTable):
        raise ConfigError(
            f"task {data.task.name}: the rows of a test split are those of tables, not of {type(data.data).__name__}"
        )
    return data.data


def _batches(split: Split, data: Supervised, device: str) -> Iterator:
    return (batch.to(device) for batch in ordered_loader(split, units(data)))


def _predictions(
    encoder: nn.Module, objective: TaskObjective, data: Supervised, split: TextSplit, device: str
) -> list[str]:
    """The prediction for each text: a class name, or a number clipped to the range of the data's scores."""
    found: list[str] = [""] * len(split)
    for batch in _batches(split, data, device):
        for place, value in zip(batch.index.tolist(), objective.predict(encoder, batch), strict=True):
            if data.classes is None:
                lowest, highest = _table(data).scores or (-np.inf, np.inf)
                found[place] = f"{min(max(value, lowest), highest):.3f}"
            else:
                found[place] = data.classes[value]
    return found


def _tsv(sheet: Sheet, ids: np.ndarray, said: list[str]) -> str:
    """GLUE's format: a header, then a row per index in ascending order."""
    try:
        numbers = [int(i) for i in ids]
    except ValueError as error:
        raise UserError(f"{sheet.file}: its rows' {sheet.key} are no numbers: {error}") from error
    if len(set(numbers)) < len(numbers):
        [(twice, _)] = Counter(numbers).most_common(1)
        raise UserError(f"{sheet.file}: two rows have the {sheet.key} {twice}")
    rows = sorted(zip(numbers, said, strict=True))
    return "".join(["index\tprediction\n", *(f"{number}\t{label}\n" for number, label in rows)])


def _json_lines(ids: np.ndarray, said: list[str]) -> str:
    """CLUE's format: a JSON object per line, in the order of the test split."""
    rows = ({"id": i, "label": label} for i, label in zip(ids.tolist(), said, strict=True))
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows)


def _answers(encoder: nn.Module, objective, data: Supervised, split: QuestionWindows, device: str) -> tuple[str, int]:
    """(a JSON object {question's id: answer}, the number of answers)."""
    found, _ = objective.answers(encoder, _batches(split, data, device), split)
    said = {q.id: objective.chosen(a) for q, a in zip(split.questions, found, strict=True)}
    return json.dumps(said, ensure_ascii=False, indent=1), len(said)


def _put(target: Path, name: str, text: str) -> None:
    """Write a file into a folder or a zip archive, replacing one of the same name. Processes that add to one archive
    wait for each other."""
    if target.suffix.lower() != ".zip":
        write_atomic(target / name, lambda path: path.write_text(text, encoding="utf-8"))
        return

    def write(path: Path) -> None:
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for member, content in sorted({**_there(target), name: text.encode()}.items()):
                archive.writestr(zipfile.ZipInfo(member), content, zipfile.ZIP_DEFLATED)

    with sole_writer(target.parent, name=target.name, patience=60.0):
        write_atomic(target, write)


def _there(target: Path) -> dict[str, bytes]:
    """{name: content} of an archive's files, or {name: b""} of a folder's."""
    if target.suffix.lower() != ".zip":
        return {path.name: b"" for path in target.glob("*")}
    if not target.exists():
        return {}
    try:
        with zipfile.ZipFile(target) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    except (zipfile.BadZipFile, OSError) as error:
        raise UserError(f"{target} is no zip archive: {error} — delete it, or name another") from error
