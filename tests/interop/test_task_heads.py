"""Heads of tasks as transformers has them: the same outputs, labels, and back again to the bit."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

transformers = pytest.importorskip("transformers")
import foreign
from conftest import compose
from tiny_tasks import reviews, tiny_task, write_run

from sslzoo import build, weights
from sslzoo.adapt.command import run_adapt
from sslzoo.adapt.job import load_adapted
from sslzoo.adapt.plain_head import plain_head
from sslzoo.data.base import Batch
from sslzoo.data.loader import pad
from sslzoo.data.transcripts import CHARACTERS, SPECIALS, Characters
from sslzoo.interop import names
from sslzoo.interop.families import FAMILIES
from sslzoo.interop.importing import import_run
from sslzoo.interop.targets import export
from sslzoo.interop.task_heads import TaskHead
from sslzoo.run import Run
from sslzoo.tasks.answering import Answering
from sslzoo.tasks.classification import Classification
from sslzoo.tasks.ctc import CTC
from sslzoo.tasks.regression import Regression
from sslzoo.tasks.tagging import Tagging

CLOSE = {"atol": 1e-5, "rtol": 0}
CLASSES = ["bad.", "fair", "good"]
TABLE = ["data=text_table", "data.files={train:train.tsv}", "data.text=text", "data.label=label", "data.vocab_size=120"]
TABLE += ["data.max_tokens=24", "data.batch.size=8", "encoder.trunk.dim=32", "encoder.trunk.depth=2"]
LAYERS = "encoder.frontend.layers=[[16,10,5],[16,8,8],[16,4,8]]"
WAVE = ["data=tiny_speech", LAYERS, "encoder.trunk.dim=32", "encoder.trunk.heads=4", "encoder.trunk.depth=2"]
PICTURES = [
    "data=tiny_image",
    "encoder=vit_small",
    "encoder.trunk.dim=32",
    "encoder.trunk.heads=4",
    "encoder.trunk.depth=2",
]


@pytest.fixture(autouse=True)
def tiny_classes_are_allowed(monkeypatch):
    monkeypatch.setenv("SSLZOO_ALLOW", "tiny_sets")


def stub(classes=CLASSES, **task):
    known = {"metric": "accuracy", "balanced": False, "symbols": Characters(), **task}
    return SimpleNamespace(classes=list(classes), task=SimpleNamespace(**known))


def run_of(folder, *words: str) -> Run:
    """A run without a pretraining head."""
    run = write_run(folder, compose(*words))
    state = weights.load(run.weights, "")
    weights.save(run.weights, {k: x - 0.01 if k in ("frontend.mean", "frontend.std") else x for k, x in state.items()})
    for path in (run.objective, run.objective_weights):
        path.unlink(missing_ok=True)
    return run


def texts(folder, encoder: str, *words: str) -> Run:
    return run_of(folder, *TABLE[:2], f"data.path={reviews()}", *TABLE[2:], f"encoder={encoder}", *words)


def exported(run: Run, objective, classes, out):
    """(what `export` says, our encoder, the run's data) of a run with this head."""
    encoder, data = build.load_encoder(run)
    with torch.no_grad():
        for place, p in enumerate(objective.parameters()):  # off its first values, such as equal layers
            p += 0.1 * torch.randn(p.shape, generator=torch.Generator().manual_seed(place))
    plain_head(encoder, objective.eval(), classes).save(run.folder)
    return export(run, "hf", out), encoder, data


def asked(model: str, out, encoder, objective, data):
    """(our logits, what transformers answers, lengths) of two texts, padded."""
    tokenizer = transformers.AutoTokenizer.from_pretrained(out)
    found, told = getattr(transformers, model).from_pretrained(out, output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    said = ["film 3 w1 good high", "the film"]
    ids = data.tokenizer.encode_batch(said)
    lengths = torch.tensor([len(row) for row in ids])
    batch = Batch(pad([torch.from_numpy(row) for row in ids]), lengths, torch.arange(2), torch.zeros(2).long())
    with torch.no_grad():
        return (
            objective.logits(encoder, batch),
            found.eval()(**tokenizer(said, padding=True, return_tensors="pt")),
            lengths,
        )


def imported(family: str, folder) -> Run:
    """A run of an encoder that transformers wrote."""
    return import_run(f"hf:{foreign.folder_of(family, folder / 'theirs', False)}", folder / "runs")[0]


ITEMS = [
    ("bert_small", "first", "BertForSequenceClassification", Classification),
    ("bert_small", "pooler", "BertForSequenceClassification", Regression),
    ("albert_small", "first", "AlbertForSequenceClassification", Classification),
    ("roberta", None, "RobertaForSequenceClassification", Classification),
]


@pytest.mark.parametrize(("encoder", "pool", "model", "kind"), ITEMS)
def test_classes_and_values_of_texts(encoder, pool, model, kind, tmp_path):
    run = texts(tmp_path / "run", encoder, f"encoder.pool={pool}") if pool else imported(encoder, tmp_path)
    ours = build.load_encoder(run)[0]
    more = {"projection_dim": 6} if kind is Classification else {}
    objective = kind(ours, stub(), pooler=ours.pool == "first", **more)
    classes = CLASSES if kind is Classification else None
    said, ours, data = exported(run, objective, classes, tmp_path / "out")
    assert said.startswith(model) and "left out" not in said
    logits, theirs, _ = asked(model, tmp_path / "out", ours, objective, data)
    torch.testing.assert_close(logits, theirs.logits, **CLOSE)
    config = json.loads((tmp_path / "out" / "config.json").read_text())
    assert config["architectures"] == [model]
    if kind is Classification:
        assert config["id2label"] == {"0": "bad.", "1": "fair", "2": "good"} and config["label2id"]["bad."] == 0
    assert config["problem_type"] == ("regression" if kind is Regression else "single_label_classification")


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_tokens_and_answers(family, tmp_path):
    run = imported(family, tmp_path) if family != "gpt2" else texts(tmp_path / "run", "gpt_small")  # theirs cannot pad
    name = FAMILIES[family].model.removesuffix("Model")
    for kind, ending in ((Tagging, "TokenClassification"), (Answering, "QuestionAnswering")):
        objective = kind(build.load_encoder(run)[0], stub(metric="f1"))
        said, ours, data = exported(run, objective, CLASSES, out := tmp_path / ending)
        assert said.startswith(f"{name}For{ending}") and "left out" not in said
        logits, theirs, lengths = asked(f"{name}For{ending}", out, ours, objective, data)
        found = theirs.logits if kind is Tagging else torch.stack([theirs.start_logits, theirs.end_logits], 2)
        mine = logits if kind is Tagging else logits.transpose(1, 2)
        for row, n in enumerate(lengths.tolist()):
            torch.testing.assert_close(mine[row, :n], found[row, :n], **CLOSE)


def test_what_fits_is_named_where_a_head_does_not(tmp_path):
    run = texts(tmp_path / "run", "bert_small", "encoder.pool=mean")
    objective = Classification(build.load_encoder(run)[0], stub())
    said, *_ = exported(run, objective, CLASSES, tmp_path / "out")
    assert (
        said.startswith("BertModel") and "left out: its head, Classification of the mean over tokens: bert has" in said
    )
    assert "ForSequenceClassification, a class of an item by tanh of a dense layer of the first token" in said
    assert "answers" in said and len(said.splitlines()) == 1
    assert transformers.AutoModel.from_pretrained(tmp_path / "out").config.model_type == "bert"


WAVES = [
    (Classification, {"features": "layers"}, "ForSequenceClassification"),
    (Classification, {"features": "layers", "projection_dim": 6}, "ForSequenceClassification"),
    (Classification, {"features": "pooled"}, "ForSequenceClassification"),
    (Tagging, {"features": "layers"}, "ForAudioFrameClassification"),
    (Tagging, {"features": "last"}, "ForAudioFrameClassification"),
    (CTC, {"features": "last", "projection_dim": 12}, "ForCTC"),
]


@pytest.mark.parametrize(("kind", "more", "ending"), WAVES)
def test_heads_of_speech(kind, more, ending, tmp_path):
    run = run_of(tmp_path / "run", "encoder=wav2vec2_base", *WAVE)
    classes = Characters().names if kind is CTC else CLASSES
    objective = kind(build.load_encoder(run)[0], stub(classes), **more)
    said, ours, _ = exported(run, objective, list(classes), tmp_path / "out")
    assert said.startswith(f"Wav2Vec2{ending}") and "left out" not in said
    model, told = getattr(transformers, f"Wav2Vec2{ending}").from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["unexpected_keys"] and set(told["missing_keys"]) <= {"wav2vec2.masked_spec_embed"}
    wave = np.random.default_rng(0).standard_normal(9000).astype(np.float32)
    inputs = transformers.AutoFeatureExtractor.from_pretrained(tmp_path / "out")(
        wave, sampling_rate=16000, return_tensors="pt"
    )
    batch = Batch(torch.from_numpy(wave)[None], torch.tensor([9000]), torch.arange(1), torch.zeros(1).long())
    with torch.no_grad():
        torch.testing.assert_close(objective.logits(ours, batch), model.eval()(**inputs).logits, **CLOSE)
    if kind is CTC:
        processor = transformers.AutoProcessor.from_pretrained(tmp_path / "out")
        letters = [*SPECIALS, *CHARACTERS]
        ids = [letters.index(c) if c in letters else 0 for c in "HEL_LO WORLD"]
        assert processor.decode(ids) == "HELLO WORLD"


def test_classes_of_images(tmp_path):
    run = run_of(tmp_path / "run", *PICTURES, "encoder.pool=first", "encoder.frontend.position=learned")
    objective = Classification(build.load_encoder(run)[0], stub(), projection_dim=6)
    said, ours, _ = exported(run, objective, CLASSES, tmp_path / "out")
    assert said.startswith("ViTForImageClassification")
    model, told = transformers.ViTForImageClassification.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not told["missing_keys"] and not told["unexpected_keys"]
    pixels = torch.rand(2, 3, 16, 16)
    config = json.loads((tmp_path / "out" / "preprocessor_config.json").read_text())
    mean, std = (torch.tensor(config[f"image_{name}"])[:, None, None] for name in ("mean", "std"))
    batch = Batch(pixels, torch.ones(2).long(), torch.arange(2), torch.zeros(2).long())
    with torch.no_grad():
        theirs = model.eval()((pixels - mean) / std).logits
        torch.testing.assert_close(objective.logits(ours, batch), theirs, **CLOSE)


@pytest.mark.parametrize("family", [name for name, one in FAMILIES.items() if one.tasks])
def test_tables_lead_back(family):
    """Every name of every head, to the bit."""
    for head in FAMILIES[family].tasks:
        assert isinstance(head, TaskHead) and hasattr(transformers, head.model)
        ours = {w.ours[0]: torch.randn(3, 3) for w in head.weights}
        rows = names.Rows(tuple(range(5)), 9)
        there = names.to_theirs(head.weights, ours, rows)
        assert len(there) == len(ours)
        back = names.to_ours(head.weights, there, rows, ours)
        assert all(torch.equal(back[name], x) for name, x in ours.items())


def test_an_adapted_run_by_the_command(sslzoo, tmp_path):
    run = texts(tmp_path / "runs" / "mine", "bert_small", "encoder.pool=first")
    config = tiny_task("text-lora", "objective.features=pooled", "objective.pooler=true", "trainer.max_steps=2")
    run_adapt(config | {"run": str(run.folder), "name": "it"}, {"method": "lora"})
    code, out, err = sslzoo("export", f"run={run.folder}", "adapted=it", "to=hf", f"out={tmp_path / 'out'}")
    assert (code, err) == (0, []) and "BertForSequenceClassification" in out
    encoder, objective, data = load_adapted(run, "it")
    logits, theirs, _ = asked("BertForSequenceClassification", tmp_path / "out", encoder, objective, data.data)
    torch.testing.assert_close(logits, theirs.logits, **CLOSE)
    assert "classifier.weight" in load_file(tmp_path / "out" / "model.safetensors")
