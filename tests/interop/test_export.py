"""Runs under the names of transformers: what comes back is what went in, and answers alike."""

import json

import numpy as np
import pytest
import soundfile
import torch
from safetensors.torch import load_file

from sslzoo.build import load_encoder, load_objective
from sslzoo.data.loader import pad

transformers = pytest.importorskip("transformers")
import foreign
import foreign_waves_and_images as theirs

from sslzoo import weights
from sslzoo.errors import ConfigError, UserError
from sslzoo.interop.importing import import_run
from sslzoo.interop.targets import export
from sslzoo.run import Run

CLOSE = {"atol": 1e-5, "rtol": 0}
QUICK = ["trainer.max_steps=1", "trainer.progress=false", "trainer.val_every=null"]
DIGITS = ["data=digits", "data.train=40", "data.valid=10", "data.test=10", "data.batch.size=20"]


@pytest.mark.parametrize(
    "family", [*foreign.FAMILIES, "wav2vec2", "wavlm_large", "data2vec", "vit", "vit_mae", "dinov2_giant"]
)
def test_what_was_imported_goes_out_as_it_came(family, tmp_path):
    """Weights to the bit, but for what is named as left out; config, ids and tokenizer."""
    own = foreign if family in foreign.FAMILIES else theirs
    folder = own.folder_of(family, tmp_path / "theirs", True)
    run, _ = import_run(f"hf:{folder}", tmp_path / "runs")
    said = export(run, "hf", tmp_path / "out")
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "out"))
    before = {name.replace("decoder_encoder.layer", "decoder_layers"): x for name, x in before.items()}
    left = {"embeddings.mask_token", "masked_spec_embed"}
    assert after.keys() <= before.keys() and before.keys() - after.keys() <= left
    assert f"{len(after)} tensors" in said
    for name, x in after.items():
        assert torch.equal(x, before[name]), name
    theirs_config, ours = (json.loads((path / "config.json").read_text()) for path in (folder, tmp_path / "out"))
    assert ours["architectures"] == theirs_config["architectures"]
    changed = {k for k in theirs_config if ours.get(k) != theirs_config[k]}
    assert changed <= {"mask_time_prob", "mask_feature_prob", "use_mask_token"}
    for name in ("tokenizer.json", "preprocessor_config.json"):
        if (folder / name).exists():
            assert json.loads((tmp_path / "out" / name).read_text()) == json.loads((folder / name).read_text())
    _, info = transformers.AutoModel.from_pretrained(tmp_path / "out", output_loading_info=True)
    missing = {name.split(".")[0] for name in info["missing_keys"]}
    assert missing <= {"pooler"}, "a masked-language model has none"


@pytest.fixture
def table(tmp_path):
    rows = [
        f"{'the sea is large' if i % 2 else 'pots are caught'} {'by lobsters ' * (i % 5)}\t{i % 2}" for i in range(60)
    ]
    (tmp_path / "train.tsv").write_text("\n".join(["text\tlabel", *rows]) + "\n")
    data = ["data=text_table", "data.path=.", "data.files={train: train.tsv}", "data.text=text", "data.label=label"]
    return [*data, "data.vocab_size=90", "data.max_tokens=32", "data.batch.size=8"]


def trained(sslzoo, tmp_path, *words: str) -> Run:
    code, _, err = sslzoo("pretrain", *words, *QUICK, "name=mine")
    assert code == 0, err
    code, out, err = sslzoo("export", "run=mine", "to=hf", "out=theirs")
    assert code == 0 and "probe run=hf:theirs" in out, err
    card = (tmp_path / "theirs" / "README.md").read_text()
    assert card.startswith("---\nlibrary_name: transformers") and "sslzoo pretrain" in card and "@software" in card
    assert "steps: 1" in card
    return Run(tmp_path / "runs" / "mine")


def texts_alike(run: Run, folder, head: str):
    """(our encoder and objective, their model, ids, hidden states of theirs) of texts and pairs, padded."""
    objective, encoder, data = load_objective(run)
    tokenizer = transformers.AutoTokenizer.from_pretrained(folder)
    model = getattr(transformers, head).from_pretrained(folder).eval()
    texts, pairs = ["the sea", "pots are caught by lobsters, large"], ["large", "the"]
    for batch in ((texts,), (texts, pairs)):
        inputs = tokenizer(*batch, padding=True, return_tensors="pt")
        ids = data.tokenizer.encode_batch(*batch)
        lengths = torch.tensor([len(row) for row in ids])
        with torch.no_grad():
            ours = encoder(pad([torch.from_numpy(row) for row in ids]), lengths)
            answer = model(**inputs, output_hidden_states=True)
        for row, n in enumerate(lengths.tolist()):
            assert inputs["input_ids"][row, :n].tolist() == ids[row].tolist()
            for a, b in zip(ours.hidden, answer.hidden_states, strict=True):
                torch.testing.assert_close(a[row, :n], b[row, :n], **CLOSE)
    return objective, encoder, answer, ours, lengths


def test_bert_of_ours(table, tmp_path, sslzoo):
    words = ["objective=bert", "encoder=bert_small", "encoder.trunk.dim=32", "encoder.trunk.depth=2", *table]
    run = trained(sslzoo, tmp_path, *words)
    objective, encoder, answer, ours, lengths = texts_alike(run, tmp_path / "theirs", "BertForMaskedLM")
    logits = objective.predict(encoder, ours.last)
    for row, n in enumerate(lengths.tolist()):
        torch.testing.assert_close(logits[row, :n], answer.logits[row, :n], **CLOSE)
    again, _ = import_run(f"hf:{tmp_path / 'theirs'}", tmp_path / "again")
    for name, x in weights.load(run.weights, "").items():
        assert torch.equal(weights.load(again.weights, "")[name], x), name


def test_gpt_of_ours(table, tmp_path, sslzoo):
    words = ["objective=gpt", "encoder=gpt_small", "encoder.trunk.dim=32", "encoder.trunk.depth=2", *table]
    run = trained(sslzoo, tmp_path, *words)
    objective, encoder, answer, ours, lengths = texts_alike(run, tmp_path / "theirs", "GPT2LMHeadModel")
    logits = objective.head(ours.last, encoder.frontend.token_embedding.weight)
    torch.testing.assert_close(logits[0, : lengths[0]], answer.logits[0, : lengths[0]], **CLOSE)


def test_wav2vec2_of_ours(tmp_path, sslzoo):
    g = np.random.default_rng(0)
    (tmp_path / "sounds").mkdir()
    for i in range(12):
        soundfile.write(tmp_path / "sounds" / f"{i}.wav", 0.1 * g.standard_normal(8000 + 300 * i), 16000)
    layers = "encoder.frontend.layers=[[16,10,5],[16,8,8],[16,4,8]]"
    small = ["encoder.trunk.dim=32", "encoder.trunk.heads=4", "encoder.trunk.depth=1", layers, "data.batch.seconds=2"]
    codes = ["objective.negatives=4", "objective.entries=6", "objective.code_dim=8", "objective.output_dim=12"]
    data = ["data=audio_folder", "data.path=sounds"]
    run = trained(sslzoo, tmp_path, "objective=wav2vec2", "encoder=wav2vec2_base", *small, *codes, *data)
    encoder, _ = load_encoder(run)
    [wave] = theirs.waves(9000)
    with torch.no_grad():
        ours = encoder(torch.from_numpy(wave)[None], torch.tensor([9000]))
    for a, b in zip(ours.hidden, theirs.theirs_of_wave(tmp_path / "theirs", wave), strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    again, _ = import_run(f"hf:{tmp_path / 'theirs'}", tmp_path / "again")
    for part in ("weights", "objective_weights"):
        before, after = (weights.load(getattr(x, part), "") for x in (run, again))
        assert before.keys() == after.keys() and all(torch.equal(x, after[name]) for name, x in before.items())


def test_mae_of_ours(tmp_path, sslzoo):
    small = ["encoder.trunk.dim=32", "encoder.trunk.depth=1", "objective.decoder.dim=16", "objective.decoder.depth=1"]
    run = trained(sslzoo, tmp_path, "objective=mae", "encoder=vit_small", *small, *DIGITS)
    encoder, _ = load_encoder(run)
    images = theirs.pictures(32)
    with torch.no_grad():
        ours = encoder(images, torch.ones(3, dtype=torch.long))
    expected = theirs.theirs_of_pictures(tmp_path / "theirs", images)
    for a, b in zip(ours.hidden, [*expected.hidden_states[:-1], expected.last_hidden_state], strict=True):
        torch.testing.assert_close(a, b, **CLOSE)
    again, _ = import_run(f"hf:{tmp_path / 'theirs'}", tmp_path / "again")
    before, after = (weights.load(x.objective_weights, "") for x in (run, again))
    assert before.keys() == after.keys() and all(torch.equal(x, after[name]) for name, x in before.items())


def test_what_has_no_counterpart_is_refused_and_goes_out_under_its_own_names(tmp_path, sslzoo):
    words = ["objective=rotation", "encoder=resnet_small", "encoder.width=4", *DIGITS, *QUICK, "name=mine"]
    assert sslzoo("pretrain", *words)[0] == 0
    code, _, err = sslzoo("export", "run=mine", "to=hf", "out=out")
    assert code == 1 and len(err) == 1 and "an encoder of ResNet has no counterpart there" in err[0]
    assert "bert, roberta, albert" in err[0] and "to=safetensors takes any" in err[0]
    assert not (tmp_path / "out").exists() and not list(tmp_path.glob(".out*"))
    assert sslzoo("export", "run=mine", "to=safetensors", "out=out")[0] == 0
    tensors = load_file(tmp_path / "out" / "model.safetensors")
    before = weights.load(Run(tmp_path / "runs" / "mine").weights, "")
    assert tensors.keys() == before.keys() and all(torch.equal(x, before[name]) for name, x in tensors.items())
    for words, said in ((["to=tf", "out=new"], "to must be one of"), (["to=hf", "out=out"], "there already")):
        code, _, err = sslzoo("export", "run=mine", *words)
        assert code == 2 and said in err[0]
    assert sslzoo("export", "run=mine")[0] == 2


def test_the_nearest_is_named(tmp_path):
    folder = theirs.folder_of("vit", tmp_path / "theirs")
    run, _ = import_run(f"hf:{folder}", tmp_path / "runs")
    (run.folder / "imported.json").unlink()
    saved = json.loads(run.encoder.read_text())
    saved["encoder"]["trunk"] |= {"norm_type": "rms"}
    run.encoder.write_text(json.dumps(saved))
    with pytest.raises(UserError, match="nearest is vit, but trunk.norm_type is rms, there layer"):
        export(run, "hf", tmp_path / "out")


def test_whispers_encoder_goes_out_without_its_decoder(tmp_path):
    folder = theirs.folder_of("whisper", tmp_path / "theirs")
    run, _ = import_run(f"hf:{folder}", tmp_path / "runs")
    said = export(run, "hf", tmp_path / "out")
    assert said.startswith("WhisperModel") and "left out: the decoder" in said
    before, after = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "out"))
    assert all(torch.equal(x, before[name]) for name, x in after.items())
    assert {name for name in before if name.startswith("encoder.")} == after.keys()
    whole, mine = (transformers.AutoModel.from_pretrained(path).eval() for path in (folder, tmp_path / "out"))
    assert not len(mine.decoder.layers)
    features = torch.randn(1, whole.config.num_mel_bins, 2 * whole.config.max_source_positions)
    with torch.no_grad():
        found = [model.encoder(features).last_hidden_state for model in (whole, mine)]
    torch.testing.assert_close(*found, **CLOSE)
    again, _ = import_run(f"hf:{tmp_path / 'out'}", tmp_path / "again")
    first, second = (weights.load(x.weights, "") for x in (run, again))
    assert all(torch.equal(x, second[name]) for name, x in first.items())


def test_a_target_that_is_none(tmp_path):
    run, _ = import_run(f"hf:{theirs.folder_of('vit', tmp_path / 'theirs')}", tmp_path / "runs")
    with pytest.raises(ConfigError, match="to must be one of"):
        export(run, "elsewhere", tmp_path / "out")
