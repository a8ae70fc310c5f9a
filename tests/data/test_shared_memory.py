"""Loader workers where little memory is shared."""

import pytest
from conftest import tiny

from sslzoo.build import make
from sslzoo.data import shared_memory
from sslzoo.data.loader import ordered_loader, train_loader
from sslzoo.data.shared_memory import fitting_workers


@pytest.fixture
def room(monkeypatch):
    shared_memory._say_once.cache_clear()
    return lambda size: monkeypatch.setattr(shared_memory, "free", lambda: size)


@pytest.mark.parametrize(("size", "fit"), [(17, 8), (16, 7), (5, 2), (4, 1), (2, 0), (0, 0)])
def test_each_has_two_batches_and_one_is_learned_from(size, fit, room, capsys):
    room(size * 2**20)
    assert fitting_workers(8, 2**20) == fit
    fitting_workers(8, 2**20)
    said = capsys.readouterr().err
    if fit == 8:
        assert said == ""
    else:  # once
        assert said == (
            f"sslzoo: /dev/shm has {size}.0 MiB free, and 8 loader workers with batches of 1.0 MiB need 17.0 MiB: "
            f"{fit or 'no'} workers are used (trainer.workers; or give it more, in Docker by --shm-size)\n"
        )


def test_where_it_is_unknown_nothing_is_limited(room):
    room(None)
    assert fitting_workers(8, 2**40) == 8
    room(0)
    assert fitting_workers(0, 2**20) == 0 and fitting_workers(4, 0) == 4


@pytest.mark.parametrize("objective", ["rotation", "wav2vec2", "bert"])
def test_the_largest_batch_is_what_counts(objective, room):
    data = make(tiny(objective)["data"])
    split = data.split("train")
    batches = [batch.inputs.nbytes for batch in train_loader(split, data.batch, 0, 0, 20)]
    room(3 * max(batches) - 1)
    assert train_loader(split, data.batch, 0, 0, 20, workers=2).num_workers == 0
    room(2 * 5 * max(batches))
    assert train_loader(split, data.batch, 0, 0, 20, workers=2).num_workers == 2
    largest = max(batch.inputs.nbytes for batch in ordered_loader(split, 16 * int(split.lengths.max())))
    room(3 * largest)
    assert ordered_loader(split, 16 * int(split.lengths.max()), workers=4).num_workers == 1
