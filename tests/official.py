"""Small folders as GLUE and CLUE are downloaded."""

import json
from pathlib import Path

TEXT = '"It is'  # a quotation mark that is never closed
_MNLI = "index promptID pairID genre sentence1_binary_parse sentence2_binary_parse sentence1_parse sentence2_parse"
_STSB = "index genre filename year old_index source1 source2"
_NLI = ("entailment", "neutral", "contradiction")

# by name: the folder, the columns before the texts, those of the texts, those after them in a labelled file, labels
GLUE = {
    "cola": ("CoLA", "", "sentence", "", ("0", "1")),
    "sst2": ("SST-2", "", "sentence", "label", ("0", "1")),
    "mrpc": ("MRPC", "Quality,#1 ID,#2 ID", "#1 String,#2 String", "", ("0", "1")),
    "stsb": ("STS-B", _STSB, "sentence1,sentence2", "score", ("0.000", "1.250", "2.500", "3.750", "5.000")),
    "qqp": ("QQP", "id qid1 qid2", "question1,question2", "is_duplicate", ("0", "1")),
    "mnli": ("MNLI", _MNLI, "sentence1,sentence2", "label1 gold_label", _NLI),
    "mnli_mm": ("MNLI", _MNLI, "sentence1,sentence2", "label1 gold_label", _NLI),
    "qnli": ("QNLI", "index", "question,sentence", "label", ("entailment", "not_entailment")),
    "rte": ("RTE", "index", "sentence1,sentence2", "label", ("entailment", "not_entailment")),
    "wnli": ("WNLI", "index", "sentence1,sentence2", "label", ("0", "1")),
}
CLUE = (
    *("clue_tnews", "clue_iflytek", "clue_afqmc", "clue_ocnli", "clue_cmnli", "clue_csl", "clue_wsc"),
    "cmrc2018",
)


def _words(text: str) -> list[str]:
    return text.split(",") if "," in text else text.split()


def _rows(name: str, count: int, labelled: bool) -> str:
    """A table of GLUE: with labels, or with an index and without."""
    _, before, texts, after, labels = GLUE[name]
    if name == "cola" and labelled:
        return "".join(f"gj04\t{labels[i % 2]}\t\t{TEXT} {i} so\n" for i in range(count))
    before, texts, after = _words(before), texts.split(","), _words(after)
    if name == "mrpc" and not labelled:
        before = ["index", *before[1:]]
    if name in ("cola", "sst2") and not labelled:
        before = ["index"]
    if name == "qqp" and not labelled:
        before = ["id"]
    columns = [*before, *texts, *(after if labelled else [])]
    lines = ["\t".join(columns)]
    for i in range(count):
        label = labels[i % len(labels)]
        row = dict.fromkeys(columns, label) | {"index": str(i), "id": str(i), "label1": label}
        row |= {column: f"{TEXT} {i} so" if n == 0 else f"the second {i % 7}" for n, column in enumerate(texts)}
        lines.append("\t".join(row[column] for column in columns))
    return "\n".join(lines) + "\n"


def glue(root: Path, name: str) -> Path:
    """The folder of a set of GLUE: 40 rows to train on, 6 to validate, 5 without labels."""
    folder = root / GLUE[name][0]
    folder.mkdir(parents=True, exist_ok=True)
    kinds = ("_matched", "_mismatched") if name.startswith("mnli") else ("",)
    (folder / "train.tsv").write_text(_rows(name, 40, True))
    for kind in kinds:
        (folder / f"dev{kind}.tsv").write_text(_rows(name, 6, True))
        (folder / f"test{kind}.tsv").write_text(_rows(name, 5, False))
    return folder


def _object(name: str, i: int) -> dict:
    kinds = {"clue_tnews": ("100", "116"), "clue_iflytek": ("0", "118"), "clue_ocnli": _NLI, "clue_cmnli": _NLI}
    labels = kinds.get(name, ("true", "false") if name == "clue_wsc" else ("0", "1"))
    row = {"id": i, "label": labels[i % len(labels)]}
    if name in ("clue_tnews", "clue_iflytek"):
        return row | {"sentence": f"今天 {i} 天气", "label_desc": "x", "label_des": "x"}
    if name == "clue_csl":
        return row | {"keyword": ["水", "火"], "abst": f"今天 {i} 天气"}
    if name == "clue_wsc":
        text, at = (("小明说他来了", (0, 3)), ("他说小明来了", (2, 0)))[i % 2]
        target = {"span1_text": "小明", "span1_index": at[0], "span2_text": "他", "span2_index": at[1]}
        return row | {"text": f"{text} {i}", "target": target}
    return row | {"sentence1": f"今天 {i} 天气", "sentence2": f"明天 {i} 天气"}


def clue(root: Path, name: str) -> Path:
    """The folder of a set of CLUE: 40 rows to train on, 6 to validate, 5 without labels."""
    root.mkdir(parents=True, exist_ok=True)
    if name == "cmrc2018":
        for file, count in (("train", 40), ("dev", 6), ("test", 5)):
            (root / f"{file}.json").write_text(json.dumps(_squad(file, count)), encoding="utf-8")
        return root
    rows = [_object(name, i) for i in range(40)]
    if name in ("clue_ocnli", "clue_cmnli"):
        rows.append({**rows[0], "label": "-"})
    train = "train.50k.json" if name == "clue_ocnli" else "train.json"
    for file, some in ((train, rows), ("dev.json", rows[:6])):
        (root / file).write_text("".join(json.dumps(row) + "\n" for row in some), encoding="utf-8")
    unlabelled = [{key: value for key, value in row.items() if not key.startswith("label")} for row in rows[10:15]]
    (root / "test.json").write_text("".join(json.dumps(row) + "\n" for row in unlabelled), encoding="utf-8")
    return root


def _squad(file: str, count: int) -> dict:
    """CMRC 2018's JSON; the answers of its test split are not public, and stand for nothing."""
    articles = []
    for i in range(count):
        answer = (
            {"text": "FAKE_ANSWER_1", "answer_start": -1} if file == "test" else {"text": "天气", "answer_start": 2}
        )
        question = {"id": f"{file.upper()}_{i}_QUERY_0", "question": f"什么 {i}", "answers": [answer] * 3}
        articles.append({"id": f"{file}_{i}", "paragraphs": [{"context": f"今天天气很好 {i}", "qas": [question]}]})
    return {"version": "v1.0", "data": articles}
