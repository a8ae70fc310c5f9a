"""Encoders of transformers as runs: tokens, hidden states of every layer, pooled vectors and logits are theirs."""

import numpy as np
import pytest
import torch

from sslzoo.build import load_encoder, load_objective
from sslzoo.data.loader import pad

transformers = pytest.importorskip("transformers")
import foreign
from foreign import PAIRS, TEXTS

from sslzoo.interop import names
from sslzoo.interop.folder import Folder
from sslzoo.interop.importing import Imported, import_run

CLOSE = {"atol": 1e-5, "rtol": 0}


@pytest.fixture(scope="module", params=foreign.FAMILIES)
def imported(request, tmp_path_factory):
    """Of a family: its folder, the run, and transformers' own model and tokenizer of that folder."""
    path = tmp_path_factory.mktemp(request.param)
    folder = foreign.folder_of(request.param, path / "theirs", rows=3)
    run, _ = import_run(f"hf:{folder}", path / "runs")
    return folder, run


def theirs_of(folder, ids, rows):
    """The answer of AutoModel to our ids [[int]], under its own ids, on padded rows; with token types of pairs."""
    here = rows.here()
    model = transformers.AutoModel.from_pretrained(folder).eval()
    tensors = [torch.tensor([here[i] for i in row]) for row in ids]
    lengths = torch.tensor([len(row) for row in ids])
    inputs = torch.nn.utils.rnn.pad_sequence(tensors, batch_first=True, padding_value=model.config.pad_token_id or 0)
    more = {}
    if getattr(model.config, "type_vocab_size", 0) > 1:
        separator = torch.tensor(here.index(rows.specials[3]) if rows.specials[3] is not None else -1)
        ours = pad([torch.tensor(row) for row in ids])
        seen = (ours == separator).long()
        more["token_type_ids"] = (seen.cumsum(1) - seen).clamp(max=1)
    inside = (torch.arange(inputs.shape[1]) < lengths[:, None]).long()
    with torch.no_grad():
        return model(inputs, attention_mask=inside, output_hidden_states=True, **more)


def test_texts_and_pairs_have_their_tokens(imported):
    folder, run = imported
    _, data = load_encoder(run)
    rows, theirs = Imported(Folder.open(folder)).rows, transformers.AutoTokenizer.from_pretrained(folder)
    here = rows.here()
    for pairs in (None, PAIRS):
        for i, ours in enumerate(data.tokenizer.encode_batch(TEXTS, pairs)):
            expected = theirs(TEXTS[i], *([] if pairs is None else [pairs[i]]))["input_ids"]
            assert [here[k] for k in ours] == expected
            assert data.tokenizer.decode([k for k in ours if k >= 5]) == theirs.decode(
                [k for k in expected if k not in rows.specials], clean_up_tokenization_spaces=False
            )


def test_hidden_states_and_pooled_are_theirs_where_batches_are_padded(imported):
    folder, run = imported
    encoder, data = load_encoder(run)
    rows = Imported(Folder.open(folder)).rows
    for pairs in (None, PAIRS):
        ids = data.tokenizer.encode_batch(TEXTS, pairs)
        lengths = torch.tensor([len(row) for row in ids])
        assert len(set(lengths.tolist())) > 1
        with torch.no_grad():
            ours = encoder(pad([torch.tensor(row) for row in ids]), lengths)
        answer = theirs_of(folder, ids, rows)
        assert len(ours.hidden) == len(answer.hidden_states) == 3
        for a, b in zip(ours.hidden, answer.hidden_states, strict=True):
            for row, length in enumerate(lengths.tolist()):
                torch.testing.assert_close(a[row, :length], b[row, :length], **CLOSE)
        if encoder.pool == "pooler":
            torch.testing.assert_close(ours.pooled, answer.pooler_output, **CLOSE)


def test_pooling_is_bert_s_where_the_folder_has_a_pooler(tmp_path):
    for family in ("bert", "roberta", "albert"):
        folder = foreign.folder_of(family, tmp_path / family, head=False)
        run, _ = import_run(f"hf:{folder}", tmp_path)
        encoder, data = load_encoder(run)
        assert encoder.pool == "pooler"
        ids = data.tokenizer.encode_batch(TEXTS, PAIRS)
        with torch.no_grad():
            ours = encoder(pad([torch.tensor(row) for row in ids]), torch.tensor([len(row) for row in ids]))
        answer = theirs_of(folder, ids, Imported(Folder.open(folder)).rows)
        torch.testing.assert_close(ours.pooled, answer.pooler_output, **CLOSE)


HEADS = {"bert": "BertForPreTraining", "albert": "AlbertForPreTraining", "gpt2": "GPT2LMHeadModel"}


def test_the_heads_are_the_objective_s(imported):
    folder, run = imported
    family = transformers.AutoConfig.from_pretrained(folder).model_type
    kind = getattr(transformers, HEADS.get(family, "AutoModelForMaskedLM"))
    model, rows = kind.from_pretrained(folder).eval(), Imported(Folder.open(folder)).rows
    objective, encoder, data = load_objective(run)
    here = rows.here()
    ids = torch.from_numpy(data.tokenizer.encode(TEXTS[0])[None])
    with torch.no_grad():
        answer = model(torch.tensor([here[i] for i in ids[0].tolist()])[None])
        encoded = encoder(ids, torch.tensor([ids.shape[1]]))
        if family == "gpt2":
            logits = objective.head(encoded.last, encoder.frontend.token_embedding.weight)
        else:
            logits = objective.predict(encoder, encoded.last)
    expected = answer.logits if hasattr(answer, "logits") else answer.prediction_logits
    there = [i for i, k in enumerate(here) if k is not None]
    torch.testing.assert_close(logits[0][:, there], expected[0][:, [here[i] for i in there]], **CLOSE)
    if family in ("bert", "albert"):
        pair = answer.seq_relationship_logits if family == "bert" else answer.sop_logits
        torch.testing.assert_close(objective.pair_head(encoded.last, encoded.pooled), pair, **CLOSE)


def test_weights_go_out_again_to_the_bit(imported):
    folder, _ = imported
    found = Imported(Folder.open(folder))
    tensors = {name.removeprefix(found.family.prefix): x for name, x in Folder.open(folder).tensors().items()}
    back = names.to_theirs(found.table, found.weights, found.rows)
    assert set(back) <= set(tensors) and len(back) > 20
    for name, x in back.items():
        if name.endswith("position_embeddings.weight"):  # no token has the first rows
            assert torch.equal(x[found.rows.offset :], tensors[name][found.rows.offset :])
        else:
            assert torch.equal(x, tensors[name]), name


def test_every_id_is_placed_once():
    rows = names.Rows((0, 7, 5, None, 2), 10)
    here = rows.here()
    assert here[:5] == [0, 7, 5, None, 2] and sorted(i for i in here if i is not None) == list(range(10))
    x = torch.arange(10.0)[:, None]
    ours = rows.to_ours(x, "vocabulary")
    assert ours[3] == 4.5 and torch.equal(rows.to_theirs(ours, "vocabulary"), x)
    assert np.array_equal([rows.ids()[i] for i in range(10)], [here.index(i) for i in range(10)])


def test_a_folder_is_imported_once_under_a_name_of_its_own(tmp_path):
    folder = foreign.folder_of("bert", tmp_path / "tiny", head=False)
    first, made = import_run(f"hf:{folder}", tmp_path / "runs")
    before = first.weights.stat().st_mtime_ns
    assert made and import_run(f"hf:{folder}", tmp_path / "runs") == (first, False)
    assert first.weights.stat().st_mtime_ns == before and first.name.startswith("tiny-")
    model = foreign.shaken(transformers.AutoModel.from_pretrained(folder))
    model.save_pretrained(folder)
    assert import_run(f"hf:{folder}", tmp_path / "runs")[0] != first
