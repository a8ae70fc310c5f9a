import gzip
import json
import random
import sys
import tracemalloc

import numpy as np
import pytest
import zstandard
from given import own_cache, warnings  # noqa: F401

from sslzoo.data import compressed, text_files
from sslzoo.data.corpus import PlainText, WikiText
from sslzoo.data.sampler import ByCount
from sslzoo.data.table import TextTable
from sslzoo.data.text_folder import TextFolder
from sslzoo.errors import UserError

BOOK = "".join(f"Line {i} says that {i * i} is a square; café, 字.\n" for i in range(400))
PACK = {"": bytes, ".gz": gzip.compress, ".zst": zstandard.compress}


def text(path, **how):
    return PlainText(str(path), ByCount(2), 300, 16, "characters", **how)


def read(data):
    return {name: data.texts(name).texts for name in ("train", "valid", "test")}


@pytest.mark.parametrize("end", [".gz", ".zst"])
def test_a_compressed_text_is_read_as_what_it_holds(tmp_path, end):
    for folder, ending in (("plain", ""), ("packed", end)):
        (tmp_path / folder).mkdir()
        for name, part in (("a", BOOK[:7000]), ("b", BOOK[7000:])):
            (tmp_path / folder / f"{name}.txt{ending}").write_bytes(PACK[ending](part.encode()))
    plain, packed = text(tmp_path / "plain"), text(tmp_path / "packed")
    assert read(plain) == read(packed) and read(packed)["valid"][0]
    assert np.array_equal(plain.split("train").stream, packed.split("train").stream)
    assert "".join(text_files.decoded(tmp_path / "packed" / f"a.txt{end}")) == BOOK[:7000]


@pytest.mark.parametrize("end", ["", ".gz", ".zst"])
def test_json_lines_are_documents_with_a_blank_line_after_each(tmp_path, end):
    rows = [{"id": i, "content": f"Document {i}\nhas lines.\n" * (1 + i % 3)} for i in range(200)]
    lines = "".join(json.dumps(row) + "\n" * (1 + row["id"] % 2) for row in rows)
    (tmp_path / f"a.jsonl{end}").write_bytes(PACK[end](lines.encode()))
    data = text(tmp_path, field="content")
    found = "".join(read(data)[name][0] for name in ("train", "valid", "test"))
    assert sorted(found.split("\n\n")) == sorted(["", *(row["content"].strip() for row in rows)])
    assert len(data.split("train").stream) == len(read(data)["train"][0])
    own = TextTable(str(tmp_path), ByCount(2), {"train": f"a.jsonl{end}"}, "content", vocab_size=300, max_tokens=16)
    assert sum(len(own.texts(name).texts) for name in ("train", "valid", "test")) == 200


def test_two_frames_of_zstandard_are_one_text(tmp_path):
    (tmp_path / "a.txt.zst").write_bytes(zstandard.compress(b"one\n" * 900) + zstandard.compress(b"two\n"))
    assert "".join(text_files.decoded(tmp_path / "a.txt.zst")) == "one\n" * 900 + "two\n"


@pytest.mark.parametrize("end", [".gz", ".zst"])
@pytest.mark.parametrize("what", ["cut", "no"])
def test_a_damaged_file_is_one_line(tmp_path, warnings, end, what):  # noqa: F811
    noise = "".join(random.Random(1).choices("abc def\n", k=20_000))
    packed = PACK[end](noise.encode())
    (tmp_path / f"a.txt{end}").write_bytes(packed[: len(packed) // 2] if what == "cut" else b"not compressed at all")
    (tmp_path / "b.txt").write_text(BOOK)
    said = "is cut off: its compressed data ends early" if what == "cut" else "file, or damaged"
    with pytest.raises(UserError, match=f"a.txt{end} .*{said}.* — get it again — mend or remove it, or leave it out"):
        text(tmp_path).split("train")
    assert text(tmp_path, on_error="skip").texts("train").names == ["b.txt"]
    assert "left out 1 of 2" in warnings()


def test_a_line_without_the_field_is_one_line(tmp_path, warnings):  # noqa: F811
    good = "".join(json.dumps({"text": f"Document {i}"}) + "\n" for i in range(50))
    (tmp_path / "a.jsonl").write_text(good + '{"txt": "b"}\n{"text": ""}\nnot json\n' + good)
    with pytest.raises(
        UserError, match=r"a.jsonl, line 51: 'text' is missing or empty; there is txt.*and 2 more lines"
    ):
        text(tmp_path).split("train")
    data = text(tmp_path, on_error="skip")
    assert "".join(x[0] for x in read(data).values()).count("Document") == 100
    assert "a.jsonl: 3 lines without a 'text' that can be read are left out" in warnings()
    with pytest.raises(UserError, match="'body' is missing"):
        text(tmp_path, field="body").split("train")


def test_an_empty_text_is_one_line(tmp_path):
    (tmp_path / "a.txt").write_text("")
    (tmp_path / "b.txt").write_text(BOOK)
    with pytest.raises(UserError, match="a.txt is empty — mend or remove it"):
        text(tmp_path).split("train")
    assert text(tmp_path, on_error="skip").texts("train").names == ["b.txt"]


def test_zstandard_is_asked_for_in_one_line(tmp_path, monkeypatch):
    (tmp_path / "a.txt.zst").write_bytes(zstandard.compress(BOOK.encode()))
    monkeypatch.setitem(sys.modules, "zstandard", None)
    with pytest.raises(UserError, match=r"needs the package zstandard: pip install 'sslzoo\[zstd\]', or unpack it"):
        text(tmp_path).split("train")


def test_texts_in_folders_and_wikitext_may_be_compressed(tmp_path):
    for name in ("train", "valid", "test"):
        (tmp_path / f"wiki.{name}.tokens.gz").write_bytes(gzip.compress(f" = {name} = \n\n a <unk> sea\n".encode() * 9))
        for label in ("good", "bad"):
            (tmp_path / "folder" / name / label).mkdir(parents=True)
            (tmp_path / "folder" / name / label / "1.txt.gz").write_bytes(gzip.compress(f"{name} {label}".encode()))
    assert WikiText(str(tmp_path), ByCount(2), 100, 16).texts("valid").texts[0].startswith(" = valid = ")
    found = TextFolder(str(tmp_path / "folder"), ByCount(2), 100, 16).texts("train")
    assert dict(zip(found.columns["label"].tolist(), found.texts, strict=True)) == {
        "good": "train good",
        "bad": "train bad",
    }


@pytest.mark.parametrize("end", [".gz", ".zst"])
def test_what_is_uncompressed_is_never_whole_in_memory(tmp_path, monkeypatch, end):
    monkeypatch.setattr(text_files, "_BLOCK", 1 << 14)
    monkeypatch.setattr(compressed, "_PART", 1 << 9)
    words = random.Random(0).choices([f"word{i}" for i in range(3000)], k=400_000)
    (tmp_path / f"a.txt{end}").write_bytes(PACK[end](" ".join(words).encode()))
    for _ in text_files.decoded(tmp_path / f"a.txt{end}"):
        break  # imports
    tracemalloc.start()
    try:
        total = sum(map(len, text_files.decoded(tmp_path / f"a.txt{end}")))
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert total > 3_000_000 and peak < total / 5
