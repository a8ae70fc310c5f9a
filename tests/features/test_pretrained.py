"""An encoder in Python: what is given to it in any form is what `sslzoo extract` reads, and what is wrong is said."""

import json

import numpy as np
import pytest
import soundfile
import torch
from conftest import compose
from PIL import Image
from test_extract import rows_of
from tiny_tasks import tiny_run, write_run

import sslzoo
from sslzoo import build
from sslzoo.features.extract import extract
from sslzoo.run import Run

TEXTS = [
    ("a small dog ran home", "it was late"),
    ("the cat", "no"),
    ("rain fell on the long road " * 6, "the road"),
] * 8


def picture(seed: int, height: int = 24, width: int = 20) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def images(tmp_path_factory) -> Run:
    root = tmp_path_factory.mktemp("images")
    for i in range(12):
        path = root / "set" / ("test" if i < 4 else "train") / "ab"[i % 2] / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture(i)).save(path)
    small = ["data.size=16", "data.mean=[0.5,0.4,0.3]", "data.std=[0.2,0.3,0.2]"]
    config = compose("data=image_folder", f"data.path={root}/set", *small, "encoder=tiny_image")
    return write_run(root / "runs" / "images", config)


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Run:
    root = tmp_path_factory.mktemp("speech")
    for i, rate in enumerate([16000, 8000, 22050, 16000] * 3):
        path = root / "set" / ("test" if i < 4 else "train") / f"{i}.wav"
        path.parent.mkdir(parents=True, exist_ok=True)
        samples = 0.3 * np.random.default_rng(i).standard_normal((rate // 3 + 37 * i, 1 + i % 2))
        soundfile.write(path, samples.clip(-1, 1), rate)
    config = compose("data=audio_folder", f"data.path={root}/set", "encoder=tiny_wave")
    return write_run(root / "runs" / "speech", config)


@pytest.fixture(scope="module")
def text(tmp_path_factory) -> Run:
    root = tmp_path_factory.mktemp("text")
    rows = ["first\tsecond", *("\t".join(pair) for pair in TEXTS)]
    for name in ("train", "test"):
        (root / f"{name}.tsv").write_text("\n".join(rows) + "\n")
    files = f"data.files={{train:{root}/train.tsv,test:{root}/test.tsv}}"
    chosen = ["data.text=first", "data.pair=second", "data.vocab_size=60", "data.max_tokens=24"]
    config = compose("data=text_table", f"data.path={root}", files, *chosen, "encoder=tiny_text")
    return write_run(root / "runs" / "text", config)


def extracted(run: Run, out, **how) -> list[np.ndarray]:
    encoder, data = build.load_encoder(run)
    extract(encoder, data, "test", out, **how)
    return [rows for _, rows in sorted(rows_of(out), key=lambda row: data.split("test").names.index(row[0]))]


def same(found, expected) -> None:
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        np.testing.assert_allclose(np.asarray(a), b, atol=1e-5)


def test_of_images_as_extract(images, tmp_path):
    enc = sslzoo.load("ima", root=images.folder.parent, device="cpu")
    data = build.load_encoder(images)[1]
    files = [data.path + "/" + name for name in data.split("test").names]
    read = [np.asarray(Image.open(file)) for file in files]
    expected = extracted(images, tmp_path / "all")
    for given in (
        files,
        [Image.open(file) for file in files],
        read,
        np.stack(read),
        torch.from_numpy(np.stack(read)).permute(0, 3, 1, 2),
        [read[0], files[1], Image.open(files[2]), torch.from_numpy(read[3])],
    ):
        same(enc.features(given, layer="all"), expected)
    same(enc.features(np.stack(read), layer=1), [rows[:, 1] for rows in expected])
    items = extracted(images, tmp_path / "items", what="items")
    same(enc.features(read, layer="all", what="items"), [rows[0] for rows in items])
    small = data.split("test").read(0)  # at the encoder's size, bytes and floats are the same
    same(enc.features(small.float() / 255), enc.features(small))
    near, exact = enc(read[0] / 255), enc(read[0])  # resized as floats: within the rounding of bytes
    assert (near.pooled - exact.pooled).abs().max() < 0.05 * exact.pooled.abs().max()
    assert exact.hidden[0].shape == (1, 17, 16) and exact.prefix == 1 and exact.lengths.tolist() == [17]


def test_of_speech_as_extract(speech, tmp_path):
    enc = sslzoo.load(speech.folder, device="cpu")
    data = build.load_encoder(speech)[1]
    files = [f"{data.path}/{name}" for name in data.split("test").names]
    expected = extracted(speech, tmp_path / "all")
    same(enc.features(files, layer="all"), expected)
    samples = [soundfile.read(file, dtype="float32") for file in files]
    for (wave, rate), rows in zip(samples, expected, strict=True):
        same(enc.features([wave], layer="all", rate=rate), [rows])  # [N, 2] and [N]
    waves = [data.split("test").read(i) for i in range(4)]
    same(enc.features(waves), [rows[:, -1] for rows in expected])
    same(enc.features([x.tolist() for x in waves]), [rows[:, -1] for rows in expected])
    lengths = [len(x) for x in waves]
    padded = torch.nn.utils.rnn.pad_sequence(waves, batch_first=True, padding_value=0.5)
    same(enc.features(padded, lengths=lengths), [rows[:, -1] for rows in expected])
    out = enc(padded.numpy(), lengths=torch.tensor(lengths))
    assert out.lengths.tolist() == [len(rows) for rows in expected] and out.last.shape[:2] == (4, max(out.lengths))
    for row, length in zip(out.last, out.lengths.tolist(), strict=True):
        assert not row[length:].any() and row[:length].any()
    same(out.features(layer=2), [rows[:, 2] for rows in expected])
    bits = (waves[0].numpy() * 32767).astype(np.int16)
    same(enc.features(bits), enc.features(bits / np.float32(32768)))
    assert len(enc.features([0.0] * 4000)) == 1 and enc.sample_rate == 16000


def test_of_long_speech_as_extract(speech, tmp_path, monkeypatch):
    for name, seconds in (("LONGEST", 0.34), ("CORE", 0.1), ("CONTEXT", 0.05)):
        monkeypatch.setattr(f"sslzoo.features.windows.{name}", seconds)
    enc, data = sslzoo.load(speech.folder, device="cpu"), build.load_encoder(speech)[1]
    waves = [data.split("test").read(i) for i in range(4)]
    same(enc.features(waves, layer="all"), extracted(speech, tmp_path / "tokens"))
    items = [rows[0] for rows in extracted(speech, tmp_path / "items", what="items")]
    same(enc.features(waves, layer="all", what="items"), items)
    same(enc(waves).pooled, [rows[-1] for rows in items])


def test_of_text_as_extract(text, tmp_path):
    enc = sslzoo.load("text", root=str(text.folder.parent), device="cpu")
    expected = extracted(text, tmp_path / "all")
    with pytest.warns(UserWarning, match="8 of 24 texts are longer than the run's 24 tokens"):
        same(enc.features(TEXTS, layer="all"), expected)
    ids = [enc.tokenizer.encode(*pair, max_tokens=24) for pair in TEXTS]
    same(enc.features(ids, layer="all"), expected)
    padded = torch.nn.utils.rnn.pad_sequence([torch.from_numpy(x) for x in ids], batch_first=True)
    same(enc.features(padded, layer="all", lengths=[len(x) for x in ids]), expected)
    single = enc("the cat")
    same(single.hidden[-1], enc(np.array(["the cat"])).last)
    same(single.last, enc([enc.tokenizer.encode("the cat").tolist()]).last)
    assert enc.tokenizer.decode(enc.tokenizer.encode("the long road")) == "the long road"


def test_a_text_of_characters_is_no_longer_than_its_characters(tmp_path):
    (tmp_path / "a.txt").write_text("to be or not to be\n" * 40)
    config = compose("data=characters", f"data.path={tmp_path}/a.txt", "data.max_tokens=16", "encoder=tiny_gpt")
    run = write_run(tmp_path / "runs" / "gpt", config)
    enc = sslzoo.load(run.folder, device="cpu")
    expected = extracted(run, tmp_path / "out")
    first = enc.data.describe(enc.data.split("test").read(0))
    same(enc.features(first, layer="all"), expected[:1])


def test_order_batches_and_a_gradient_afterwards(speech, monkeypatch):
    enc = sslzoo.load(speech.folder, device="cpu")
    waves = [torch.randn(3000 + 700 * (i * 7 % 5)) for i in range(9)]
    whole = enc(waves)
    monkeypatch.setattr("sslzoo.features.pretrained.CHUNK", 4)
    monkeypatch.setattr("sslzoo.features.pretrained.units", lambda data: 8000)
    parts = enc(waves)
    assert torch.allclose(whole.pooled, parts.pooled, atol=1e-5) and torch.equal(whole.lengths, parts.lengths)
    assert torch.allclose(whole.last, parts.last, atol=1e-5)
    head = torch.nn.Linear(enc.dim, 2)
    head(parts.pooled).sum().backward()  # an inference tensor would refuse
    assert enc.to("cpu") is enc and enc.device.type == "cpu" and not enc.encoder.training


def test_a_weighted_sum_by_numbers_and_by_a_probe(speech):
    enc = sslzoo.load(speech.folder, device="cpu")
    waves = [torch.randn(4000), torch.randn(5000)]
    planes = enc.features(waves, layer="all")
    slow = [0.2 * x[:, 0] + 0.3 * x[:, 1] + 0.5 * x[:, 2] for x in planes]
    same(enc.weighted_sum(waves, [0.2, 0.3, 0.5]), slow)
    probe = {"pretrained": {"linear": {"layers": ["0", "1", "2"], "layer_weights": [0.2, 0.3, 0.5]}}}
    speech.probes.mkdir(exist_ok=True)
    (speech.probes / "word.json").write_text(json.dumps(probe))
    same(enc.weighted_sum(waves, "word"), slow)
    same(enc(waves).weighted_sum(torch.tensor([0.2, 0.3, 0.5]), what="items"), [x.mean(0) for x in slow])
    with pytest.raises(sslzoo.UserError, match="was not probed on 'wrod' — did you mean 'word'"):
        enc.weighted_sum(waves, "wrod")
    for weights in ([1.0], [1.0, float("nan"), 0.0], None):
        with pytest.raises(ValueError, match="weights"):
            enc.weighted_sum(waves, weights)


def test_an_encoder_without_tokens_gives_items():
    enc = sslzoo.load(tiny_run("tiny_resnet", "image").folder, device="cpu")
    assert enc.features(picture(0)).shape == (1, 16) and enc(picture(0)).last.shape == (1, 1, 16)
    with pytest.raises(ValueError, match="ResNet gives one vector an item and has no tokens: what='items'"):
        enc.features(picture(0), what="tokens")


def test_pictures_of_other_kinds(images):
    enc = sslzoo.load(images.folder, device="cpu")
    grey = picture(1)[..., 0]
    same(enc(grey).pooled, enc(np.stack([grey] * 3, 2)).pooled)
    assert len(enc(np.stack([grey] * 5))) == 5  # [B, H, W]
    opaque = np.concatenate([picture(1), np.full((24, 20, 1), 255, np.uint8)], 2)
    same(enc(opaque).pooled, enc(picture(1)).pooled)
    same(enc(opaque / 255).pooled, enc(picture(1) / 255).pooled)
    same(enc(picture(1).astype(np.int64)).pooled, enc(picture(1)).pooled)
    turned = Image.fromarray(picture(1))
    turned.getexif()[0x0112] = 3  # upside down
    same(enc(turned).pooled, enc(picture(1)[::-1, ::-1]).pooled)


NOT_FINITE = np.array([0.1, np.nan] * 3000)
SPEECH = [
    ([], ValueError, "there are no items"),
    (np.zeros(0), ValueError, "item 0 is empty: it has no samples"),
    ([np.zeros(4000), NOT_FINITE], ValueError, "item 1 has samples that are not finite"),
    (np.zeros((4000, 2)), ValueError, "looks like samples by channels"),
    (np.zeros((1, 2, 3, 4)), ValueError, r"waves are \[N\] or \[B, N\], got \[1, 2, 3, 4\]"),
    ([np.zeros((40, 30))], ValueError, "item 0 has the shape"),
    (np.full(4000, 12000.0), ValueError, "samples up to 12000: floats are in -1..1"),
    (np.zeros(4000, np.int64), TypeError, "item 0 has samples of int64"),
    (np.zeros(4000, bool), TypeError, "this encoder takes speech"),
    (np.zeros(4000, complex), TypeError, "this encoder takes speech"),
    (["nowhere.wav"], sslzoo.UserError, "nowhere.wav cannot be read"),
    (b"RIFF", TypeError, "got bytes"),
    ({"array": [0.0]}, TypeError, "got dict"),
    (None, TypeError, "got NoneType"),
    (Image.new("L", (9, 9)), TypeError, "this encoder takes speech"),
    ([[0.0, 0.1], None], TypeError, "got NoneType"),
    ([[[0.0, 0.1], [0.2]]], ValueError, "has no one shape"),
]
IMAGES = [
    ([], ValueError, "there are no items"),
    (np.zeros((0, 8, 8, 3), np.uint8), ValueError, "there are no items"),
    ([np.zeros((0, 8, 3), np.uint8)], ValueError, "item 0 is empty"),
    (np.full((8, 8, 3), np.nan), ValueError, "item 0 has values that are not finite"),
    (np.full((8, 8, 3), 200.0), ValueError, "floats from 200 to 200: give them in 0..1"),
    (np.full((8, 8, 3), -1.0), ValueError, "floats from -1 to -1"),
    (np.full((8, 8, 3), 4000), ValueError, "values up to 4000"),
    ([np.zeros((8, 8, 2))], ValueError, r"item 0 has the shape \[8, 8, 2\]"),
    (np.zeros((1, 1, 1, 8, 8)), ValueError, "pictures are"),
    (np.zeros((4, 8, 9), np.uint8), ValueError, "may be one picture in colour or 4 in grey"),
    (np.zeros((8, 8), bool), TypeError, "this encoder takes image"),
    ("nowhere.png", sslzoo.UserError, "there is no file nowhere.png"),
    (7, TypeError, "got int"),
    ([None], TypeError, "got NoneType"),
]
TEXT = [
    ([], ValueError, "there are no items"),
    (["a dog", " "], ValueError, "item 1 is an empty text"),
    ("", ValueError, "item 0 is an empty text"),
    ([7, 60], ValueError, "item 0 has the id 60"),
    ([[7, -1]], ValueError, "item 0 has the id -1"),
    (np.zeros((2, 30), np.int64), ValueError, "item 0 has 30 ids: this encoder takes 1 to 24"),
    (np.zeros((2, 3)), TypeError, "item 0 has ids of float64"),
    ([b"dog"], TypeError, "got bytes"),
    (None, TypeError, "this encoder takes text"),
    (["a", None], TypeError, "got NoneType"),
    ([("a", "b", "c")], TypeError, "this encoder takes text"),
]


@pytest.mark.parametrize(
    "kind, given, error, said",
    [(k, *row) for k, rows in (("speech", SPEECH), ("images", IMAGES), ("text", TEXT)) for row in rows],
)
def test_what_is_wrong_is_said_in_one_line(kind, given, error, said, request):
    enc = sslzoo.load(request.getfixturevalue(kind).folder, device="cpu")
    with pytest.raises(error, match=said) as caught:
        enc(given)
    assert isinstance(caught.value, sslzoo.UserError) and "\n" not in str(caught.value)


def test_lengths_rates_layers_and_names_that_are_wrong(speech, images, text):
    waves, enc = np.zeros((2, 4000)), sslzoo.load(speech.folder, device="cpu")
    for lengths, error in (
        ([4000], ValueError),
        ([0, 4000], ValueError),
        ([4001, 1], ValueError),
        ([1.0, 2.0], TypeError),
    ):
        with pytest.raises(error, match="lengths"):
            enc(waves, lengths=lengths)
    for rate, error in ((0, ValueError), (-1, ValueError), ("8k", TypeError), (True, TypeError), (0.5, TypeError)):
        with pytest.raises(error, match="rate must be"):
            enc(waves, rate=rate)
    for layer, error in ((3, ValueError), (-4, ValueError), ("last", TypeError), (True, TypeError), (1.0, TypeError)):
        with pytest.raises(error, match="layer must be"):
            enc.features(waves, layer=layer)
    with pytest.raises(ValueError, match="what must be tokens or items"):
        enc.features(waves, what="frames")
    with pytest.raises(TypeError, match="is of speech, and has no tokenizer"):
        _ = enc.tokenizer
    for run in (images, text):
        with pytest.raises(TypeError, match="rate is of audio"):
            sslzoo.load(run.folder, device="cpu")("x", rate=8000)
    with pytest.raises(TypeError, match="lengths are of audio and text"):
        sslzoo.load(images.folder, device="cpu")(picture(0), lengths=[1])
    with pytest.raises(ValueError, match="lengths are of token ids"):
        sslzoo.load(text.folder, device="cpu")(["a dog"], lengths=[1])
    for call in (
        lambda: sslzoo.load(5),
        lambda: sslzoo.load("x", root=5),
        lambda: sslzoo.load(speech.folder, adapted=5),
    ):
        with pytest.raises(TypeError, match="must be"):
            call()
    with pytest.raises(sslzoo.UserError, match="was not adapted as 'digit-full' — finished are: none"):
        sslzoo.load(speech.folder, adapted="digit-full")
    with pytest.raises(sslzoo.ConfigError, match="device=gpu7 cannot be used here"):
        sslzoo.load(speech.folder, device="gpu7")


class Column(list):
    """A column of a table, as pandas and polars have it."""

    def __init__(self, items, shape=None):
        super().__init__(items)
        self.shape = shape or (len(items),)

    def to_numpy(self):
        raise AssertionError


def test_other_ways_to_hold_the_same(speech, text, images):
    enc = sslzoo.load(speech.folder, device="cpu")
    waves = [np.sin(np.arange(n) / 9).astype(np.float32) for n in (4000, 5000)]
    expected = enc(waves).pooled
    ragged = np.empty(2, object)
    ragged[:] = waves
    for given in (ragged, Column(waves), [x.astype(">f4") for x in waves], [x.astype(np.float64) for x in waves]):
        same(enc(given).pooled, expected)
    same(enc(waves[0][::-1]).pooled, enc(waves[0][::-1].copy()).pooled)
    same(enc((waves[0] * 30000).astype(">i2")).pooled, enc((waves[0] * 30000).astype("<i2")).pooled)
    enc = sslzoo.load(text.folder, device="cpu")
    same(enc(Column(["a dog", "the cat"])).pooled, enc(["a dog", "the cat"]).pooled)
    same(enc(np.array([7, 8, 9])[::-1]).pooled, enc([9, 8, 7]).pooled)
    with pytest.raises(TypeError, match="a table of 2 dimensions was given: give one of its columns"):
        enc(Column(["a"], (1, 1)))
    enc = sslzoo.load(images.folder, device="cpu")
    same(enc(torch.from_numpy(picture(1)).to(torch.bfloat16) / 256).pooled, enc(picture(1) / 256).pooled)
    with pytest.raises(TypeError, match="weights: numbers, one a layer; got dict"):
        enc.weighted_sum(picture(1), {"0": 1.0})


def test_the_shortest_wave_has_a_frame(speech):
    enc = sslzoo.load(speech.folder, device="cpu")
    out = enc([np.zeros(1), np.zeros(3000)])
    assert out.lengths[0] == 1 and out.pooled.isfinite().all()


def test_all_that_is_public_is_there():
    assert set(sslzoo.__all__) == set(dir(sslzoo)) and all(getattr(sslzoo, name) for name in sslzoo.__all__)
    with pytest.raises(AttributeError, match="has no attribute 'nothing'"):
        sslzoo.nothing  # noqa: B018
