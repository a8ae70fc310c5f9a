"""Folders that cannot be read whole are refused in one line that says what to do; what older tools wrote is read."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

pytest.importorskip("transformers")
import foreign
from foreign import TEXTS

from sslzoo.build import load_encoder
from sslzoo.data.base import CLS, MASK, SEP
from sslzoo.errors import UserError
from sslzoo.interop import tokenizers
from sslzoo.interop.importing import import_run, summary


@pytest.fixture
def folder(tmp_path):
    return foreign.folder_of("bert", tmp_path / "tiny")


def refused(folder, *words: str) -> None:
    with pytest.raises(UserError) as error:
        import_run(f"hf:{folder}", folder.parent / "runs")
    assert "\n" not in str(error.value)
    for word in words:
        assert word in str(error.value)
    assert not (folder.parent / "runs").exists()


def edited(folder, **changes) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def edit_weights(folder, edit) -> None:
    tensors = load_file(folder / "model.safetensors")
    edit(tensors)
    save_file(tensors, folder / "model.safetensors")


def test_pickles_are_never_opened(folder):
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    refused(folder, "pytorch_model.bin", "safe_serialization=True")


def test_folders_that_lack_a_part(folder, tmp_path):
    refused(tmp_path / "nowhere", "no folder")
    (folder / "model.safetensors").unlink()
    refused(folder, "no weights", "save_pretrained")
    (folder / "config.json").unlink()
    refused(folder, "no config.json")


def test_a_damaged_file_is_named(folder):
    path = folder / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-40])
    refused(folder, "model.safetensors is damaged")


def test_unknown_architectures(folder):
    edited(folder, model_type="t5", architectures=["T5Model"])
    refused(folder, "'t5' (T5Model)", "bert, roberta, albert, electra, distilbert, gpt2, wav2vec2, hubert")


@pytest.mark.parametrize(
    "change", [{"position_embedding_type": "relative_key"}, {"is_decoder": True}, {"hidden_act": "swish"}], ids=str
)
def test_settings_that_make_another_encoder(folder, change):
    edited(folder, **change)
    refused(folder, *change)


def test_a_weight_too_many_and_one_missing(folder):
    edit_weights(folder, lambda x: x.update({"bert.extra.weight": torch.zeros(2)}))
    refused(folder, "has weights that this architecture has not: extra.weight")
    edit_weights(
        folder, lambda x: [x.pop(name) for name in list(x) if "extra" in name or "layer.1.output.dense.w" in name]
    )
    refused(folder, "lacks encoder.layer.1.output.dense.weight")


def test_weights_of_another_shape(folder):
    edited(folder, intermediate_size=48)
    refused(folder, "trunk.blocks.0.up.weight is [40, 16] in the weights, and [48, 16] by config.json")


def test_a_head_that_is_not_tied(folder):
    name = "cls.predictions.decoder.weight"
    edit_weights(folder, lambda x: x.update({name: x["bert.embeddings.word_embeddings.weight"] + 1}))
    refused(folder, name, "output embedding of its own")


def test_tokenizers_of_another_encoder(folder):
    foreign.roberta().save_pretrained(folder)
    refused(folder, "301 ids", "embeds")
    with pytest.raises(UserError, match="its tokenizer has 301 ids, and its encoder embeds 30,000: they do not belong"):
        tokenizers.read(folder, "roberta", 30_000)
    assert len(tokenizers.read(folder, "roberta", 384)[0]) == 301  # filled up to a multiple of 128
    for name in ("tokenizer.json", "vocab.txt", "vocab.json"):
        (folder / name).unlink(missing_ok=True)
    refused(folder, "no tokenizer", "AutoTokenizer")


def test_names_of_norms_before_2020_and_stored_positions(folder):
    """As google-bert/bert-base-uncased has them."""
    before, _ = import_run(f"hf:{folder}", folder.parent / "before")

    def older(x):
        for name in list(x):
            if "LayerNorm" in name:
                x[name.replace("weight", "gamma").replace("bias", "beta")] = x.pop(name)
        x["bert.embeddings.position_ids"] = torch.arange(64)[None]
        x["cls.predictions.decoder.weight"] = x["bert.embeddings.word_embeddings.weight"].clone()

    edit_weights(folder, older)
    after, _ = import_run(f"hf:{folder}", folder.parent / "after")
    for name, x in load_file(before.weights).items():
        assert torch.equal(load_file(after.weights)[name], x)
    assert json.loads((after.folder / "imported.json").read_text())["ignored"] == ["embeddings.position_ids"]
    assert "left out, for it has no place here: embeddings.position_ids" in summary(after, "hf:tiny")


def test_weights_in_shards_and_in_half_precision(tmp_path):
    model = foreign.model_of("bert", len(foreign.wordpiece())).half()
    for size in ("10KB", "1GB"):
        model.save_pretrained(tmp_path / size, max_shard_size=size)
        foreign.wordpiece().save_pretrained(tmp_path / size)
    assert (tmp_path / "10KB" / "model.safetensors.index.json").exists()
    some, one = (
        load_file(import_run(f"hf:{tmp_path / size}", tmp_path / "runs")[0].weights) for size in ("10KB", "1GB")
    )
    for name, x in one.items():
        assert x.dtype == torch.float32 and torch.equal(some[name], x)
    next((tmp_path / "10KB").glob("model-00002*")).unlink()
    with pytest.raises(UserError, match="lacks model-00002"):
        import_run(f"hf:{tmp_path / '10KB'}", tmp_path / "again")


@pytest.mark.parametrize("family", ["bert", "gpt2", "roberta"])
def test_vocabularies_without_a_tokenizer_json(family, tmp_path):
    """vocab.txt, and vocab.json with merges.txt, give the same ids as the library's file."""
    folder = foreign.folder_of(family, tmp_path / family, head=False)
    _, data = load_encoder(import_run(f"hf:{folder}", tmp_path / "runs", "new")[0])
    state = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = state["model"]["vocab"] | {token["content"]: token["id"] for token in state["added_tokens"]}
    tokens = sorted(vocabulary, key=vocabulary.get)
    (folder / "tokenizer.json").unlink()
    if family == "bert":
        (folder / "vocab.txt").write_text("\n".join(tokens) + "\n")
    else:
        (folder / "vocab.json").write_text(json.dumps(vocabulary))
        (folder / "merges.txt").write_text("#version: 0.2\n" + "\n".join(map(" ".join, state["model"]["merges"])))
    _, old = load_encoder(import_run(f"hf:{folder}", tmp_path / "runs", "old")[0])
    for texts in (TEXTS, foreign.PAIRS):
        for a, b in zip(
            data.tokenizer.encode_batch(texts, TEXTS), old.tokenizer.encode_batch(texts, TEXTS), strict=True
        ):
            assert a.tolist() == b.tolist()


def test_case_and_accents_are_those_of_tokenizer_config(folder):
    path = folder / "tokenizer_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"do_lower_case": False, "strip_accents": False}))
    _, data = load_encoder(import_run(f"hf:{folder}", folder.parent / "runs")[0])
    assert data.tokenizer.decode(data.tokenizer.encode("sea Sea café cafe")).startswith("sea [UNK]")


@pytest.mark.parametrize("family", foreign.FAMILIES)
def test_a_special_that_is_written_in_a_text_is_text(family, tmp_path):
    """Nobody can put a mask or a separator into a text by its name."""
    theirs = foreign.TOKENIZERS.get(family, foreign.wordpiece)()
    theirs.save_pretrained(tmp_path)
    tokenizer, _ = tokenizers.read(tmp_path, family, len(theirs))
    ids = tokenizer.encode("the [MASK] sea <mask> [SEP] </s> <|endoftext|>")
    around = len(tokenizer.encode("sea")) - len(tokenizer.encode_stream(["sea"]))
    assert sum(i in (CLS, SEP, MASK) for i in ids) == around
