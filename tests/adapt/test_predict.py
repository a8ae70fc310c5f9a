"""`sslzoo.load(run, adapted=…).predict`: what the task asks, of what one has at hand."""

import numpy as np
import pytest
import torch
from conftest import compose
from test_adapt import adapt, own, real_words  # noqa: F401 (fixtures)
from tiny_tasks import write_run

import sslzoo as package
from sslzoo.adapt.command import run_adapt
from sslzoo.data.loader import ordered_loader
from sslzoo.features.frozen import units

GROWN = ["trainer.max_steps=60", "optim.lr=0.003"]


def test_images_get_their_classes(own):  # noqa: F811
    run = own()
    adapt("image-full", run, *GROWN)
    enc = package.load(str(run.folder), adapted="tiny-full", device="cpu")
    split = enc.data.split("test")
    said = enc.predict([split.read(i) for i in range(48)])
    assert set(said) <= set(enc.classes) and len(set(said)) > 1
    right = np.mean([name == str(split.columns["label"][i]) for i, name in enumerate(said)])
    assert right > 0.7
    assert enc(split.read(0)).pooled.shape == (1, enc.dim), "the encoder is there as well"


def test_speech_of_any_length_and_values(own):  # noqa: F811
    run = own("tiny_speech", "speech")
    adapt("speech-tags", run)
    enc = package.load(str(run.folder), adapted="tiny-full", device="cpu")
    waves = [torch.randn(n) for n in (9000, 5000, 12000)]
    said = enc.predict(waves)
    frames = [x.shape[0] for x in enc.features(waves)]
    assert [len(x) for x in said] == frames and {name for row in said for name in row} <= {"a", "b"}
    run = own("tiny_text", "text")
    adapt("text-score", run)
    enc = package.load(str(run.folder), adapted="tiny-full", device="cpu")
    ids = [enc.data.split("test").read(i) for i in range(3)]
    values = enc.predict(ids)
    assert enc.classes is None and all(isinstance(x, float) for x in values) and len(set(values)) == 3


def test_texts_as_their_data_is_read(tmp_path, real_words):  # noqa: F811
    run = write_run(
        tmp_path / "run",
        compose(
            "data=text_table", f"data.path={real_words}", "data.files={train: train.tsv, test: dev.tsv}",
            "data.text=sentence", "data.vocab_size=60", "data.max_tokens=16", "encoder=tiny_text",
        ),
    )  # fmt: skip
    config = compose(
        f"run={run.folder}", "task=sst2", f"task.data.path={real_words}", "trainer.max_steps=40",
        "trainer.progress=false", "batch={_target_: sslzoo.data.sampler.ByCount, size: 16}", command="adapt",
    )  # fmt: skip
    run_adapt(config, {"method": "full"})
    enc = package.load(str(run.folder), adapted="sst2-full", device="cpu")
    assert enc.predict("a lovely film with fine and great people 3") == ["1"]
    assert enc.predict(["a dull film with poor and awful people 1", "a great film with lovely and fine people 2"]) == [
        "0",
        "1",
    ]
    with pytest.raises(package.InputError, match="item 1"):
        enc.predict(["fine", ""])


@pytest.fixture
def treebank(tmp_path):
    """Sentences whose words' tags are given by the words."""
    g = np.random.default_rng(0)
    folder, kinds = tmp_path / "bank", {"dog": "NOUN", "cats": "NOUN", "runs": "VERB", "sees": "VERB", "the": "DET"}
    folder.mkdir()
    for part, count in (("train", 96), ("dev", 16), ("test", 16)):
        lines = []
        for _ in range(count):
            words = g.choice(list(kinds), int(g.integers(2, 7)))
            rows = [f"{i}\t{w}\t{w}\t{kinds[w]}" + "\t_" * 6 for i, w in enumerate(words, start=1)]
            lines += ["# text = x", *rows, ""]
        (folder / f"en_x-ud-{part}.conllu").write_text("\n".join(lines) + "\n")
    return folder


def test_words_get_their_tags(tmp_path, treebank):
    bank = [f"data.path={treebank}", "data.vocab_size=40", "data.max_tokens=16"]
    run = write_run(tmp_path / "run", compose("data=ud_ewt", *bank, "encoder=tiny_text"))
    config = compose(
        f"run={run.folder}", "task=upos", "head=frames", f"task.data.path={treebank}", "trainer.max_steps=120",
        "trainer.progress=false", "optim.lr=0.01", "batch={_target_: sslzoo.data.sampler.ByCount, size: 16}",
        command="adapt",
    )  # fmt: skip
    run_adapt(config, {"method": "full"})
    enc = package.load(str(run.folder), adapted="upos-full", device="cpu")
    assert enc.predict("the cats sees the dog") == [["DET", "NOUN", "VERB", "DET", "NOUN"]]
    assert [len(x) for x in enc.predict(["dog", "the dog runs"])] == [1, 3]
    with pytest.raises(
        package.InputError, match="item 0: only .* of its 40 words are read, in 16 tokens: give it in p"
    ):
        enc.predict("dog " * 40)
    with pytest.raises(package.InputError, match="item 1 is an empty text"):
        enc.predict(["dog", "  "])


def test_it_says_what_the_evaluation_counted(own):  # noqa: F811
    run = own("tiny_text", "text")
    adapt("text-full", run, *GROWN)
    enc = package.load(str(run.folder), adapted="tiny-full", device="cpu")
    split = enc.data.split("test")
    with torch.no_grad():
        numbers = {}
        for batch in ordered_loader(split, units(enc.data)):
            said = enc.objective.predict(enc.encoder, batch)
            numbers |= dict(zip(batch.index.tolist(), said, strict=True))
    names = enc.predict([split.read(i) for i in range(len(split))])
    assert names == [enc.classes[numbers[i]] for i in range(len(split))]
