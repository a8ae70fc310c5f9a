import gc
import os
import pickle

import numpy as np
import pytest

from sslzoo.data import pixel_cache
from sslzoo.data.pixel_cache import PixelCache

PICTURE = np.arange(12, dtype=np.uint8).reshape(3, 2, 2)


def test_what_was_put_is_there_and_is_a_copy():
    cache = PixelCache((4, 3, 2, 2))
    assert cache.get(1) is None
    cache.put(1, PICTURE)
    found = cache.get(1)
    assert np.array_equal(found, PICTURE) and cache.get(0) is None and cache.get(2) is None
    found[:] = 9
    assert np.array_equal(cache.get(1), PICTURE)


def test_a_worker_that_is_forked_fills_the_same_memory():
    cache = PixelCache((4, 3, 2, 2))
    if not (child := os.fork()):
        cache.put(3, PICTURE)
        os._exit(0)
    os.waitpid(child, 0)
    assert np.array_equal(cache.get(3), PICTURE)


def test_a_picture_that_is_half_written_is_not_used():
    cache = PixelCache((4, 3, 2, 2))
    cache.put(1, PICTURE)
    cache._pixels[1, 2] = 7
    assert cache.get(1) is None


def test_all_caches_together_are_bounded(monkeypatch):
    gc.collect()
    monkeypatch.setattr(pixel_cache, "LIMIT", pixel_cache._taken[0] + 2 * 4 * 16)
    one, two, three = (PixelCache((4, 3, 2, 2)) for _ in range(3))
    for cache, keeps in ((one, True), (two, True), (three, False)):
        cache.put(0, PICTURE)
        assert (cache.get(0) is not None) is keeps
    del one, cache
    gc.collect()
    four = PixelCache((4, 3, 2, 2))
    four.put(0, PICTURE)
    assert four.get(0) is not None


@pytest.mark.parametrize("shape", [(4, 3, 2, 2), (1000, 3, 20, 20)])
def test_to_another_process_it_goes_empty(shape):
    cache = PixelCache(shape)
    cache.put(0, np.ones(shape[1:], np.uint8))
    packed = pickle.dumps(cache)
    assert len(packed) < 200 and pickle.loads(packed).get(0) is None
