"""One BERT of German, Spanish, Russian and Chinese novels, and whether it finds translations: the mean reciprocal rank
of translated sentences by layer, with and without each language's mean vector (1911.03310).

The sentences are messages of a program in several languages, as GNU gettext's catalogues hold them: `--catalogues` is a
folder that holds <language>/LC_MESSAGES/*.mo at any depth, such as that of the package Django (BSD; 143 to 150
sentences a pair of languages): pip download --no-deps django, and unzip it. Stored in
benchmarks/results/crosslingual.json.
"""

import csv
import gettext
import json
import sys
from collections.abc import Iterator
from itertools import combinations
from pathlib import Path

from bench import HERE, arguments, run

from sslzoo.run import Run, commit, machine, write_json

ROOT = Path("runs") / "bench_crosslingual"
RESULT = HERE / "results" / "crosslingual.json"
LANGUAGES = {"de": "de", "es": "es", "ru": "ru", "zh": "zh_Hans"}  # of data=multilingual, and its name in a catalogue
STEPS = 1000


def messages(catalogues: Path, language: str) -> dict[str, str]:
    """{the original: its translation} of all of a language's catalogues."""
    found: dict[str, str] = {}
    for path in sorted(catalogues.rglob(f"{language}/LC_MESSAGES/*.mo")):
        with open(path, "rb") as file:
            read = gettext.GNUTranslations(file)
        # the only way to list a catalogue's messages; those with plural forms have tuples for keys
        found |= {key: text for key, text in read._catalog.items() if isinstance(key, str) and key and text}
    return found


def sentence(text: str) -> bool:
    """Whether an English message has four words or more and nothing that is the same in every language."""
    return len(text.split()) >= 4 and not any(mark in text for mark in "%{<")


def tables(catalogues: Path) -> Iterator[tuple[str, Path, int]]:
    """A table of translated sentences of each pair of languages: its name, its file and its rows."""
    said = {name: messages(catalogues, folder) for name, folder in LANGUAGES.items()}
    for one, two in combinations(LANGUAGES, 2):
        shared = sorted(key for key in said[one].keys() & said[two].keys() if sentence(key))
        rows = [[" ".join(said[language][key].split()) for language in (one, two)] for key in shared]
        rows = [row for row in rows if row[0] != row[1]]
        if not rows:
            sys.exit(f"{catalogues} holds no messages in both {LANGUAGES[one]} and {LANGUAGES[two]}")
        path = ROOT / f"{one}-{two}.csv"
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "w", newline="", encoding="utf-8") as file:
            csv.writer(file).writerows([[one, two], *rows])
        yield f"{one}-{two}", path, len(rows)


def sslzoo(*words: str) -> None:
    """Run a command, which goes on where it was stopped."""
    if code := run([sys.executable, "-m", "sslzoo", *words, f"root={ROOT}"]):
        sys.exit(code)


def main() -> None:
    parser = arguments(__doc__, data=True)
    parser.add_argument("--catalogues", required=True, type=Path, help="a folder of gettext's catalogues")
    said = parser.parse_args()
    found = json.loads(RESULT.read_text()) if RESULT.exists() else {"steps": STEPS, "pairs": {}}
    trained = Run(ROOT / "four_languages")
    texts = [f"data.sets.{name}.path={Path(said.data) / 'text' / 'multilingual' / name}" for name in LANGUAGES]
    sslzoo(
        "pretrain", "objective=bert", "encoder=bert_small", "data=multilingual", *texts, "data.max_tokens=64",
        "optim=adamw_linear", "optim.lr=0.001", f"trainer.max_steps={STEPS}", f"name={trained.name}",
    )  # fmt: skip
    summary = json.loads(trained.summary.read_text())
    found |= {"minutes": summary["minutes"], "logs": summary["logs"]}
    for name, path, rows in tables(said.catalogues):
        if name not in found["pairs"]:
            sslzoo("analyze", f"run={trained.folder}", "analysis=retrieval", f"analysis.pairs={path}")
            numbers = json.loads((trained.analyses / "retrieval.json").read_text())
            kept = {key: numbers[key] for key in ("pairs", "chance", "layers", "mrr", "cut_texts", "unknown")}
            assert kept["pairs"] == rows
            found["pairs"][name] = kept
            write_json(RESULT, {**found, "machine": machine(), "commit": commit()})
        print(f"{name}: {json.dumps(found['pairs'][name]['mrr'])}")


if __name__ == "__main__":
    main()
