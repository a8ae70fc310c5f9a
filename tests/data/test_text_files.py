import random
import re

import pytest
from given import warnings  # noqa: F401

from sslzoo.data import text_files
from sslzoo.errors import UserError

ENDS = re.compile("(?<=\n)|(?<=\r)(?!\n)")
ODD = ["a", "b", " ", "\n", "\r", "\r\n", "\x0b", "\x0c", "\x1c", "\x85", "\u2028", "é", "字", "😀", "\ufeff"]


def odd_text(seed: int, size: int = 400) -> str:
    return "".join(random.Random(seed).choices(ODD, k=size))


@pytest.mark.parametrize("block", [1, 2, 3, 7, 64, 1 << 20])
def test_lines_are_those_of_the_whole_text(tmp_path, monkeypatch, block):
    monkeypatch.setattr(text_files, "_BLOCK", block)
    for seed in range(5):
        text = odd_text(seed)
        (tmp_path / "a.txt").write_bytes(text.encode())
        text = text.removeprefix("\ufeff")
        assert "".join(text_files.decoded(tmp_path / "a.txt")) == text
        want = [line for line in ENDS.split(text) if line]
        assert text_files.split_lines(text) == want
        assert list(text_files.lines(text_files.decoded(tmp_path / "a.txt"))) == want
        assert sum(map(len, text_files.decoded(tmp_path / "a.txt"))) == len(text)
        places = [0, 5, len(text) // 2, len(text) - 1]
        want = [text.find("\n", place) + 1 or place for place in places]
        assert text_files.after_line_ends(text_files.decoded(tmp_path / "a.txt"), places) == want
        for start, stop in (
            (0, 0),
            (0, len(text)),
            (3, 11),
            (len(text) - 2, len(text)),
            *zip(places, want, strict=True),
        ):
            assert "".join(text_files.stretch(text_files.decoded(tmp_path / "a.txt"), start, stop)) == text[start:stop]


def test_a_byte_order_mark_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_bytes("\ufeffab\ufeff".encode())
    assert "".join(text_files.decoded(tmp_path / "a.txt")) == "ab\ufeff"


@pytest.mark.parametrize("block", [1, 2, 5, 1 << 20])
@pytest.mark.parametrize(
    "bad, at", [(b"caf\xe9", 3), ("é字".encode() * 9 + b"\xff" + b"abc", 45), ("é字".encode()[:-1], 2)]
)
def test_the_first_bad_byte_is_named(tmp_path, monkeypatch, block, bad, at):
    monkeypatch.setattr(text_files, "_BLOCK", block)
    (tmp_path / "a.txt").write_bytes(bad)
    with pytest.raises(UserError, match=f"a.txt is not UTF-8: byte {at} is 0x{bad[at]:02x} "):
        list(text_files.decoded(tmp_path / "a.txt"))
    with pytest.raises(UserError, match="cannot read .*nowhere"):
        list(text_files.decoded(tmp_path / "nowhere"))


def test_a_line_without_end_is_cut_at_spaces(monkeypatch):
    monkeypatch.setattr(text_files, "_LONGEST", 10)
    text = "abc def ghi jkl " + "m" * 25 + " n"
    found = list(text_files.lines(text[i : i + 3] for i in range(0, len(text), 3)))
    assert "".join(found) == text and max(map(len, found)) <= 10
    assert found[0] == "abc def " and found[1] == "ghi jkl "


def test_chunks_are_bounded(monkeypatch):
    texts = ["a" * (i % 7) for i in range(100)]
    monkeypatch.setattr(text_files, "_LINES", 9)
    monkeypatch.setattr(text_files, "CHARACTERS", 20)
    chunks = list(text_files.chunked(texts))
    assert [text for chunk in chunks for text in chunk] == texts
    assert max(map(len, chunks)) <= 9 and max(len("".join(chunk)) for chunk in chunks) < 20 + 6
    assert len(chunks) > 10 and not list(text_files.chunked([]))


@pytest.mark.parametrize("encoding, said", [("utf-16-le", "utf-16le"), ("utf-16-be", "utf-16be")])
def test_another_encoding_is_named_with_how_to_convert_it(tmp_path, encoding, said):
    (tmp_path / "a b.txt").write_bytes("some text".encode(encoding))
    with pytest.raises(
        UserError, match=rf"a b.txt .*line 1.* convert it: iconv -f {said} -t utf-8 'a b.txt' > new.txt"
    ):
        list(text_files.decoded(tmp_path / "a b.txt"))


@pytest.mark.parametrize("block", [1, 3, 1 << 20])
@pytest.mark.parametrize("encoding", ["utf-16-le", "utf-16-be", "utf-32-le", "utf-32-be"])
def test_what_says_that_it_is_utf_16_is_read_as_such(tmp_path, monkeypatch, warnings, encoding, block):  # noqa: F811
    monkeypatch.setattr(text_files, "_BLOCK", max(block, 4))
    path, text = tmp_path / f"{block}.csv", "satz,klasse\r\nGrüße 😀\u0a0d,ja\r\nà,nein\r\n"
    path.write_bytes(f"\ufeff{text}".encode(encoding))
    assert "".join(text_files.decoded(path)) == text
    assert list(text_files.rows(text_files.decoded(path))) == [line for line in ENDS.split(text) if line]
    assert warnings().count(f"{path} is {encoding[:6].upper()}, not UTF-8, and is read as such") == 1
    path.write_bytes(f"\ufeff{text}".encode(encoding)[:-1])
    with pytest.raises(
        UserError, match=rf"{block}.csv is not {encoding[:6].upper()}: byte .* \(line 3\) — it may be cut"
    ):
        list(text_files.decoded(path))


def test_the_line_of_a_bad_byte_is_counted_over_blocks(tmp_path, monkeypatch):
    monkeypatch.setattr(text_files, "_BLOCK", 4)
    (tmp_path / "a.txt").write_bytes("é\n\né\n".encode() + b"ab\xe9")
    with pytest.raises(UserError, match=r"byte 9 is 0xe9 \(line 4\)"):
        list(text_files.decoded(tmp_path / "a.txt"))


def test_a_pointer_is_no_text(tmp_path):
    (tmp_path / "a.txt").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match="a.txt is a pointer of Git LFS and not the file itself: `git lfs pull`"):
        list(text_files.decoded(tmp_path / "a.txt"))
