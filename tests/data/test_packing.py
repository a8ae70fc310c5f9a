import itertools
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.distributed as dist
from conftest import tiny
from given import own_cache  # noqa: F401
from test_contracts import batch_of, gradients, ready, still, stopped_is_never_stopped
from two_ranks import on_two_ranks

from sslzoo.data.base import CLS
from sslzoo.data.loader import train_loader
from sslzoo.data.packing import PackedSplit, fitted
from sslzoo.data.sampler import ByCount
from sslzoo.data.table import TextTable
from sslzoo.data.text_folder import TextFolder
from sslzoo.errors import UserError


@pytest.mark.parametrize("room", [16, 128])
def test_every_item_is_in_one_row_that_has_room_for_it(room):
    lengths = np.random.default_rng(room).geometric(0.08, 5000).clip(3, room)
    order, starts = fitted(lengths, room)
    assert sorted(order.tolist()) == list(range(5000)) and starts[0] == 0 and starts[-1] == 5000
    filled = np.add.reduceat(lengths[order], starts[:-1])
    assert filled.max() <= room and filled.sum() == lengths.sum() and (np.diff(starts) > 0).all()
    assert len(filled) <= np.ceil(lengths.sum() / room) * 1.03  # no more than the fewest there could be, nearly
    again = fitted(lengths, room)
    assert np.array_equal(order, again[0]) and np.array_equal(starts, again[1])


def test_the_best_row_is_taken_by_hand():
    order, starts = fitted(np.array([3, 6, 5, 4, 2]), 10)
    rows = [sorted(order[a:b].tolist()) for a, b in itertools.pairwise(starts)]
    assert rows == [[1, 3], [0, 2, 4]]  # 6 + 4, and 5 + 3 + 2
    assert fitted(np.zeros(0, np.int64), 8)[1].tolist() == [0]


@pytest.fixture
def folder(tmp_path):
    g = np.random.default_rng(0)
    for i in range(80):
        path = tmp_path / ("train" if i < 60 else "test") / ("ab"[i % 2]) / f"{i}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"text {i} " + " ".join(["word"] * int(g.integers(0, 20))))
    return tmp_path


def data(folder, **how):
    return TextFolder(str(folder), ByCount(2), vocab_size=100, max_tokens=32, **how)


def test_rows_are_the_items_of_the_split(folder, own_cache):  # noqa: F811
    whole, packed = data(folder).split("train"), data(folder, pack=True).split("train")
    assert isinstance(packed, PackedSplit) and packed.documents == len(whole) > len(packed)
    rows = [packed.read(i) for i in range(len(packed))]
    assert [len(row) for row in rows] == packed.lengths.tolist() and max(map(len, rows)) <= 32
    texts = [part for row in rows for part in torch.tensor_split(row, (row == CLS).nonzero()[1:, 0])]
    assert sorted(x.tolist() for x in texts) == sorted(whole.read(i).tolist() for i in range(len(whole)))
    assert packed.full == pytest.approx(sum(map(len, rows)) / (32 * len(rows))) and packed.full > 0.9
    assert (
        packed.names[0].endswith("more")
        and len(packed.names) == len(packed)
        and packed.names[-1:] == [packed.names[-1]]
    )
    with pytest.raises(UserError, match="no labels 'label'"):
        packed.column("label")
    sent = pickle.loads(pickle.dumps(packed))
    assert torch.equal(sent.read(1), packed.read(1)) and len(pickle.dumps(packed)) < 40_000
    assert len(list(own_cache.glob("packed-*"))) == 1
    batch = next(iter(train_loader(packed, ByCount(2), 0, 0, 1)))
    assert len(batch) == 2 and batch.lengths.max() <= 32


def test_a_table_may_be_packed_too(tmp_path):
    (tmp_path / "train.tsv").write_text("text\n" + "".join(f"a short text {i}\n" for i in range(50)))
    table = TextTable(
        str(tmp_path), ByCount(2), {"train": "train.tsv"}, "text", vocab_size=80, max_tokens=40, pack=True
    )
    split = table.split("train")
    assert split.documents > len(split) and np.isfinite(table.unigram_entropy)


def test_headlines_fill_rows(real, own_cache):  # noqa: F811
    how = {"vocab_size": 8000, "max_tokens": 128, "pack": True}
    table = TextTable(str(real / "text/FewCLUE/tnews"), ByCount(2), {"train": "unlabeled.json"}, "sentence", **how)
    split = table.split("train")
    assert split.full > 0.97 and split.documents > 4 * len(split)


def test_a_run_says_how_full_its_rows_are(folder, sslzoo):
    what = [f"data.path={folder}", "data.vocab_size=100", "data.max_tokens=32", "data.batch.size=2", "data.pack=true"]
    small = ["encoder.trunk.dim=16", "encoder.trunk.depth=1", "encoder.trunk.heads=2", "encoder.frontend.dim=16"]
    run = [
        "objective=bert",
        "encoder=bert_small",
        "data=text_folder",
        *what,
        *small,
        "trainer.max_steps=3",
        "name=packed",
    ]
    code, _, err = sslzoo("pretrain", *run)
    assert code == 0, err
    said = next(line for line in err if line.strip().startswith("train "))
    assert "documents in rows that are 9" in said
    code, _, err = sslzoo("extract", "run=packed", "what=items", "split=test", "out=features")
    assert code == 0, err
    found = np.load(next(Path("features").rglob("*.npy")))
    assert len(found) == 20  # of the texts, one by one


def packed(folder: Path, *more: str) -> dict:
    """A tiny BERT on packed rows."""
    how = ["data.pack=true", "data.batch.size=3", "data.vocab_size=100", "data.max_tokens=32"]
    return tiny("bert", "data=text_folder", f"data.path={folder}", *how, *more)


def test_packed_rows_give_two_ranks_one_ranks_gradients(folder, tmp_path, own_cache):  # noqa: F811
    config = packed(folder)

    def work(rank: int) -> dict:
        job = still(ready(config))
        batch = batch_of(job, 0, rank, 2)
        logs, grads = gradients(job, batch)
        for grad in grads.values():
            dist.all_reduce(grad)
            grad /= 2
        return {"rows": len(batch), "loss": logs["loss"], "grads": grads}

    first, second = on_two_ranks(work, tmp_path / "ranks")
    assert (first["rows"], second["rows"]) == (2, 1)
    job = still(ready(config))
    batch = batch_of(job, 0)
    assert ((batch.inputs == CLS).sum(1) > 1).any()
    logs, grads = gradients(job, batch)
    assert first["loss"] == second["loss"] == pytest.approx(logs["loss"], rel=2e-6)
    scale = max(float(grad.abs().max()) for grad in grads.values())
    for name, grad in grads.items():
        assert torch.allclose(first["grads"][name], grad, atol=5e-5 * scale), name


def test_packed_rows_continue_to_the_bit(folder, tmp_path, own_cache):  # noqa: F811
    config = packed(folder, "trainer.max_steps=7", "trainer.save_every=3", "trainer.log_every=2")
    stopped_is_never_stopped(config, [5], tmp_path / "runs")
