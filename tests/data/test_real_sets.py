"""The real sets, in the layouts that users have: all of ../shared/data loads by path."""

import logging

import numpy as np
import pytest
from given import own_cache, warnings  # noqa: F401

from sslzoo.data.answer_sentences import AnswerSentences
from sslzoo.data.arrays import Idx
from sslzoo.data.audio import AudioFolder
from sslzoo.data.concat import AudioMix
from sslzoo.data.conllu import ConllU
from sslzoo.data.corpus import PlainText, WikiText
from sslzoo.data.image import ImageFolder
from sslzoo.data.loader import train_loader
from sslzoo.data.sampler import ByCount, BySeconds
from sslzoo.data.speech import FreeSpokenDigits, LibriSpeech, LJSpeech, SpeechCommands
from sslzoo.data.squad import Squad
from sslzoo.data.table import TextTable

pytestmark = pytest.mark.real


def sizes(data) -> dict[str, int]:
    return {name: len(data.split(name)) for name in ("train", "valid", "test")}


def trains(data) -> None:
    """Two batches of the training split are whole."""
    batches = list(train_loader(data.split("train"), data.batch, 0, 0, 2))
    assert len(batches) == 2 and all(len(batch) and batch.lengths.min() > 0 for batch in batches)


def test_mnist(real):
    data = Idx(str(real / "vision"), ByCount(64), 28, 1, [0.1307], [0.3081])
    found = sizes(data)
    assert found["train"] + found["valid"] == 60000 and found["test"] == 10000
    assert abs(found["valid"] / 60000 - 0.1) < 0.01
    split = data.split("train")
    values = np.stack([split.read(i).numpy() for i in range(1000)]) / 255
    assert abs(values.mean() - 0.1307) < 0.005 and abs(values.std() - 0.3081) < 0.005
    trains(data)


@pytest.mark.parametrize("name, train, test", [("cifar10", 10000, 2000), ("sign_language_digits", 1300, 300)])
def test_image_folders(real, name, train, test):
    data = ImageFolder(str(real / "vision" / name), ByCount(32), 32, 3, [0.5] * 3, [0.25] * 3)
    found = sizes(data)
    assert found["train"] + found["valid"] == train and found["test"] == test
    assert len(set(data.split("test").columns["label"])) == 10
    trains(data)


def test_free_spoken_digits(real):
    data = FreeSpokenDigits(str(real / "speech" / "free-spoken-digit-dataset"), BySeconds(30.0))
    found = sizes(data)
    assert found["train"] + found["valid"] == 2700 and found["test"] == 300
    assert sorted(set(data.split("test").columns["digit"])) == list("0123456789")
    assert len(set(data.split("test").columns["speaker"])) == 6
    minutes = sum(data.split(name).lengths.sum() for name in found) / 16000 / 60
    assert abs(minutes - 21.9) < 0.1
    trains(data)


def test_speech_commands(real):
    data = SpeechCommands(str(real / "speech"), BySeconds(30.0))
    assert sizes(data) == {"train": 572, "valid": 195, "test": 142}
    assert set(data.split("train").lengths) == {16000}
    trains(data)


def test_librispeech(real):
    subsets = ["train-clean-100", "test-other", "test-clean"]
    data = LibriSpeech(str(real / "speech"), BySeconds(30.0), max_seconds=4.0, train=subsets, valid=[], test=[])
    assert sum(sizes(data).values()) == 164
    columns = [data.split(name).columns for name in ("train", "valid", "test")]
    assert sum((c["transcript"] != "").sum() for c in columns) == 4
    assert set(np.concatenate([c["sex"] for c in columns])) == {"F", "M"}
    trains(data)


def test_ljspeech(real):
    data = LJSpeech(str(real / "speech"), BySeconds(30.0))
    assert sum(sizes(data).values()) == 50
    trains(data)


def test_any_folder_of_audio(real, warnings, caplog):  # noqa: F811
    caplog.set_level(logging.WARNING)
    data = AudioFolder(str(real / "speech" / "LibriSpeech" / "test-other"), BySeconds(60.0), max_seconds=4.0)
    assert sum(sizes(data).values()) == 100 and not warnings()
    trains(data)


def test_three_speech_sets_together(real):
    root = str(real / "speech")
    subsets = ["train-clean-100", "test-other", "test-clean"]
    data = AudioMix(
        {
            "fsdd": FreeSpokenDigits(f"{root}/free-spoken-digit-dataset", BySeconds()),
            "words": SpeechCommands(root, BySeconds()),
            "books": LibriSpeech(root, BySeconds(), max_seconds=4.0, train=subsets, valid=[], test=[]),
        },
        BySeconds(60.0),
    )
    assert sum(sizes(data).values()) == 3000 + 909 + 164
    split = data.split("train")
    assert {"set", "speaker", "digit", "word", "transcript", "chapter", "subset", "sex"} == set(split.columns)
    for batch in train_loader(split, data.batch, 0, 0, 4):
        assert batch.inputs.numel() <= 60 * 16000 and batch.inputs.isfinite().all()


def test_tiny_shakespeare(real):
    data = PlainText(str(real / "text" / "tinyshakespeare" / "input.txt"), ByCount(8), 256, 64, "characters")
    texts = [data.opened(name).texts[0] for name in ("train", "valid", "test")]
    assert sum(map(len, texts)) == 1115394 and len(texts[0]) / 1115394 == pytest.approx(0.9, abs=1e-3)
    assert len(data.tokenizer) == 5 + 65
    assert data.describe(data.split("train").read(0)).startswith("First Citizen:\nBefore we proceed any further")
    trains(data)
    nano = PlainText(data.path, ByCount(8), 70, 65, "characters", shares={"valid": 0.1})
    assert [len(nano.opened(name).texts[0]) for name in ("train", "valid")] == [1003854, 111540]
    assert len(nano.split("valid")) * 65 == 111540 and len(nano.tokenizer) == 70


def test_wikitext_2(real):
    files = {"train": "wiki.valid.tokens", "test": "wiki.test.tokens"}
    data = WikiText(str(real / "text" / "wikitext-2"), ByCount(8), files=files)
    assert len(data.tokenizer) == 8000
    stream = data.stream([(real / "text" / "wikitext-2" / "wiki.valid.tokens").read_text()])
    assert (stream == 1).sum() >= 11718  # its <unk>, as the set's README counts them
    assert data.describe(data.split("train").read(0)).startswith("= homarus gammarus =")
    trains(data)


TABLES = {
    "SST-2": ({"text": "sentence", "label": "label", "labels": ["0", "1"]}, 67349, 872),
    "CoLA": (
        {
            "text": "sentence",
            "label": "label",
            "labels": ["0", "1"],
            "columns": ["source", "label", "star", "sentence"],
        },
        8551,
        1043,
    ),
    "RTE": (
        {
            "text": "sentence1",
            "pair": "sentence2",
            "label": "label",
            "labels": ["entailment", "not_entailment"],
        },
        2490,
        277,
    ),
    "WNLI": ({"text": "sentence1", "pair": "sentence2", "label": "label", "labels": ["0", "1"]}, 635, 71),
    "STS-B": ({"text": "sentence1", "pair": "sentence2", "label": "score", "scores": [0.0, 5.0]}, 5749, 1500),
}


@pytest.mark.parametrize("name", TABLES)
def test_glue(real, name):
    how, train, test = TABLES[name]
    path = str(real / "text" / "GLUE" / name)
    data = TextTable(path, ByCount(8), {"train": "train.tsv", "test": "dev.tsv"}, vocab_size=2000, **how)
    found = {split: len(data.opened(split).texts) for split in ("train", "valid", "test")}
    assert found["train"] + found["valid"] == train and found["test"] == test
    labels = np.concatenate([data.opened(split).columns["label"] for split in ("train", "valid")])
    if name == "SST-2":
        assert (labels == "1").sum() == 37569
    if name != "SST-2":  # which takes seconds to encode
        trains(data)


@pytest.mark.parametrize(
    "name, how, counts",
    [
        ("tnews", {"text": "sentence", "label": "label_desc"}, (1185, 1098, 2010)),
        (
            "ocnli",
            {
                "text": "sentence1",
                "pair": "sentence2",
                "label": "label",
                "labels": ["entailment", "neutral", "contradiction"],
            },
            (160, 160, 2520),
        ),
    ],
)
def test_fewclue(real, name, how, counts):
    files = {"train": "train_few_all.json", "valid": "dev_few_all.json", "test": "test_public.json"}
    data = TextTable(str(real / "text" / "FewCLUE" / name), ByCount(8), files, **how)
    assert tuple(sizes(data).values()) == counts
    trains(data)


def test_english_web_treebank(real):
    data = ConllU(str(real / "text" / "UD_English-EWT"), ByCount(8))
    split = data.split("test")
    assert len(split) == 2077 and sum(len(x.label) for x in split.intervals["upos"]) == 25094
    assert len({tag for x in split.intervals["upos"] for tag in x.label}) == 17


@pytest.mark.parametrize("folder, counts", [("xquad", (1914, 180, 196)), ("xquad/derived_split", (1718, 180, 392))])
def test_sentences_that_answer_questions_of_xquad(real, folder, counts):
    data = AnswerSentences(str(real / "text" / folder), ByCount(8), vocab_size=2000)
    assert tuple(sizes(data).values()) == counts
    for name in ("train", "valid", "test"):
        column = data.split(name).columns["label"].tolist()
        assert column.count("entailment") == column.count("not_entailment")
    trains(data)


def test_xquad(real):
    files = {"train": "derived_split/train-v1.1.json", "test": "derived_split/dev-v1.1.json"}
    data = Squad(str(real / "text" / "xquad"), ByCount(8), files, vocab_size=2000)
    found = sizes(data)
    assert found["train"] + found["valid"] == 991 and found["test"] == 199
    trains(data)


def test_every_answer_of_xquad_is_in_a_window(real):
    """Its text as the tokens' offsets have it: a token may hold more than the answer, such as "33-year"."""
    files = {"train": "train-v1.1.json", "test": "dev-v1.1.json"}
    folder = str(real / "text" / "xquad" / "derived_split")
    data = Squad(folder, ByCount(8), files, vocab_size=2000, max_tokens=128, window_stride=64)
    windows, said = data.windows("test"), {}
    for i in range(len(windows)):
        start, end = windows.span(i)
        if end:
            offsets, place = windows.offsets(i)
            context = windows.questions[windows.question[i]].context
            said[int(windows.question[i])] = context[offsets[start - place, 0] : offsets[end - place, 1]]
    assert len(windows) > len(windows.questions) == len(said) == 199 and windows.left_out == windows.cut_questions == 0
    pairs = [(said[number], question.answers[0][0]) for number, question in enumerate(windows.questions)]
    assert all(answer in text for text, answer in pairs)
    assert sum(answer == text for text, answer in pairs) > 190
