"""A run's folder after a kill and after a power cut."""

import csv

import pytest

from sslzoo.run import Run
from sslzoo.train.recover import cut_torn_end, recover

WHOLE = "step,loss\r\n0,1.5\r\n10,1.25\r\n"


@pytest.mark.parametrize(
    "torn", [b"", b"20,", b"20,1.0", b"\0" * 4096, b"2\0\0", b"\0" * 9 + b"\r\n30,1\r\n", b"20,\xff\xfe\r\n"]
)
def test_a_torn_end_is_cut(torn, tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(WHOLE.encode() + torn)
    assert cut_torn_end(path) == len(torn)
    with open(path, newline="", encoding="utf-8") as file:
        assert [row["step"] for row in csv.DictReader(file)] == ["0", "10"]


def test_nothing_but_zeros(tmp_path):
    path = tmp_path / "metrics.csv"
    path.write_bytes(bytes(100))
    assert cut_torn_end(path) == 100 and path.read_bytes() == b""


def test_a_run_is_put_right_and_it_is_said(tmp_path):
    run, said = Run(tmp_path), []
    run.checkpoints.mkdir()
    for folder in (run.folder, run.checkpoints):
        (folder / ".step=00000004.ckpt.1a2b3c4d.unfinished").write_bytes(b"half")
    run.metrics.write_bytes(WHOLE.encode() + bytes(8))
    run.events.write_text('{"step": 1}\n{"st', encoding="utf-8")
    recover(run, said.append)
    assert not [path for path in tmp_path.rglob(".*")]
    assert run.events.read_text(encoding="utf-8") == '{"step": 1}\n'
    assert said == [
        f"cut {n} bytes from the end of {name}, which are no whole line, as after a power cut"
        for n, name in ((8, "metrics.csv"), (4, "events.jsonl"))
    ]
    said.clear()
    recover(run, said.append)
    assert not said
