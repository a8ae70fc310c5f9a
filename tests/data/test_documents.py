import gzip
import json
import multiprocessing
import os
import pickle
import signal

import numpy as np
import pytest
import torch
from given import own_cache, warnings  # noqa: F401

from sslzoo.data import text_files, token_store
from sslzoo.data.base import CLS, SEP
from sslzoo.data.documents import Documents
from sslzoo.data.packing import PackedSplit
from sslzoo.data.sampler import ByCount
from sslzoo.data.tokenizer import Tokenizer
from sslzoo.errors import UserError

TEXTS = [f"Document {i} says " + " ".join(f"word{j % 7}" for j in range(i % 50)) for i in range(200)]


@pytest.fixture
def lines(tmp_path):
    (tmp_path / "corpus").mkdir()
    for part in range(2):
        rows = [json.dumps({"id": i, "text": text}) for i, text in enumerate(TEXTS) if i % 2 == part]
        (tmp_path / "corpus" / f"{part}.jsonl.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    return tmp_path / "corpus"


def data(path, **how):
    return Documents(str(path), ByCount(2), **{"vocab_size": 120, "max_tokens": 16, **how})


def test_documents_are_in_one_split_each_and_long_ones_in_pieces(lines, warnings):  # noqa: F811
    made = data(lines)
    splits = {name: made.split(name) for name in ("train", "valid", "test")}
    found = [text for name in splits for text in made.texts(name).texts]
    assert sorted(found) == sorted(TEXTS) and min(map(len, splits.values())) > 5
    words, wrapped = [], 0
    for split in splits.values():
        items = [split.read(i) for i in range(len(split))]
        assert [len(x) for x in items] == split.lengths.tolist() and split.lengths.max() == 16
        wrapped += sum(x[0] == CLS and x[-1] == SEP for x in items)
        words += [i for x in items for i in x.tolist() if i not in (CLS, SEP)]
    assert wrapped == sum(map(len, splits.values())) > 200, "long ones are several items"
    assert len(words) == sum(len(made.tokenizer.encode_stream([text])) for text in TEXTS), "nothing is cut"
    assert "documents (" in warnings() and "are longer than data.max_tokens=16 and are read in pieces" in warnings()
    names = splits["train"].names
    assert names[0].startswith("0.jsonl.gz:1") and any(", part 2" in name for name in names[:])
    assert len(pickle.dumps(splits["train"])) < 3000, "a worker is sent paths"


def test_packed_documents_of_json_lines(lines):
    split = data(lines, pack=True, max_tokens=32).split("train")
    assert isinstance(split, PackedSplit) and split.full > 0.9 and split.names[0].startswith(("0.jsonl", "1.jsonl"))


def test_a_text_file_is_a_document_and_folders_are_splits(tmp_path):
    for name in ("train", "valid", "test"):
        for i in range(4):
            (tmp_path / name).mkdir(exist_ok=True)
            (tmp_path / name / f"{i}.txt").write_text(f"{name} document {i}\nof two lines")
    made = data(tmp_path, max_tokens=32)
    assert made.texts("valid").texts == [f"valid document {i}\nof two lines" for i in range(4)]
    assert len(made.split("train")) == 4 and made.split("train").names[1] == "train/1.txt:1"
    assert len(data(tmp_path, files={"train": "train/0.txt", "test": "test/0.txt"}).texts("test").texts) == 1


def test_what_is_wrong_with_a_document_is_one_line(tmp_path, warnings):  # noqa: F811
    good = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    (tmp_path / "a.jsonl").write_text(good + '{"txt": "b"}\n{"text": " "}\n' + good)
    (tmp_path / "b.txt").write_text("")
    packed = gzip.compress(good.encode())
    (tmp_path / "c.jsonl.gz").write_bytes(packed[: len(packed) // 2])
    with pytest.raises(
        UserError, match=r"a.jsonl, line 201: 'text' is missing .*there is txt.* — mend .*on_error=skip$"
    ):
        data(tmp_path).split("train")
    made = data(tmp_path, on_error="skip")
    made.split("train")
    assert len(made.texts("train").texts) > 300
    assert "left out 4 documents, such as" in warnings() and "b.txt is empty" in warnings()
    cut = data(tmp_path, on_error="skip", files={"train": "c.jsonl.gz"})
    assert len(cut.texts("train").texts) < 200
    with pytest.raises(UserError, match="c.jsonl.gz is cut off: its compressed data ends early — get it again — mend"):
        data(tmp_path, files={"train": "c.jsonl.gz"}).split("train")
    (tmp_path / "a.jsonl").unlink()
    with pytest.raises(UserError, match="b.txt is empty — mend or remove it, or leave it out with data.on_error=skip$"):
        data(tmp_path).split("train")


def _killed(path, after: int) -> None:
    encode, seen = Tokenizer.encode_parts, []

    def some(self, texts, max_tokens):
        if len(seen) == after:
            os.kill(os.getpid(), signal.SIGKILL)
        seen.append(texts)
        return encode(self, texts, max_tokens)

    Tokenizer.encode_parts = some
    data(path).split("train")


def test_a_killed_tokenisation_goes_on_to_equal_bytes(lines, own_cache, monkeypatch):  # noqa: F811
    monkeypatch.setattr(text_files, "CHARACTERS", 1000)
    monkeypatch.setattr(token_store, "_SAVE_EVERY", 0.0)
    monkeypatch.setattr(token_store, "_cores", lambda: 1)
    _ = data(lines).tokenizer
    process = multiprocessing.get_context("fork").Process(target=_killed, args=(lines, 7))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL and not list(own_cache.glob("documents-*"))
    seen, encode = [], Tokenizer.encode_parts
    with monkeypatch.context() as patch:
        patch.setattr(Tokenizer, "encode_parts", lambda self, x, n: [seen.append(x), encode(self, x, n)][1])
        gone_on = data(lines).split("train")
    (folder,) = own_cache.glob("documents-*")
    bytes_of = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert {"ids.npy", "starts.npy", "source.npy", "line.npy", "part.npy"} <= set(bytes_of)
    whole = len(seen) + 7
    for path in folder.iterdir():
        path.unlink()
    folder.rmdir()
    seen.clear()
    with monkeypatch.context() as patch:
        patch.setattr(Tokenizer, "encode_parts", lambda self, x, n: [seen.append(x), encode(self, x, n)][1])
        afresh = data(lines).split("train")
    assert len(seen) == whole > 10
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == bytes_of
    assert all(torch.equal(gone_on.read(i), afresh.read(i)) for i in range(len(afresh)))
    assert afresh.ids.dtype == np.uint16


def test_documents_are_pretrained_on(lines, sslzoo):
    small = ["encoder.trunk.dim=16", "encoder.trunk.depth=1", "encoder.trunk.heads=2", "encoder.frontend.dim=16"]
    what = ["data=documents", f"data.path={lines}", "data.vocab_size=300", "data.tokens=byte_bpe", "data.max_tokens=32"]
    run = ["objective=gpt", "encoder=gpt_small", *what, *small, "data.batch.size=4", "trainer.max_steps=3", "name=docs"]
    code, _, err = sslzoo("pretrain", *run)
    assert code == 0, err
    assert any("documents in rows that are" in line for line in err)
    code, out, err = sslzoo("generate", "run=docs", "prompt=Document 1", "steps=5")
    assert code == 0 and out.startswith("Document 1"), err
