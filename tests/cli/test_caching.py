import pytest
from worlds import spoken

from sslzoo.probe.splits import Pool
from sslzoo.progress import quiet


@pytest.fixture
def kept(tmp_path, monkeypatch):
    """Two entries in a cache."""
    import numpy as np
    from worlds import Framed

    from sslzoo.features.frozen import Frozen
    from sslzoo.features.store import FeatureCache, entries
    from sslzoo.probe.stored_reader import StoredReader
    from sslzoo.probe.tasks import Part

    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))
    for gain in (0.5, 1.0):
        reader = StoredReader(Frozen(Framed((0.0, gain))), Pool(spoken((9, 3, 3))), "pretrained", FeatureCache(1))
        reader(Part(np.arange(9), None, np.zeros(9)), 1.0, quiet)
    return [folder.name for folder, *_ in entries()]


def test_the_cache_is_listed_and_cleared(sslzoo, kept):
    code, out, _ = sslzoo("cache")
    assert code == 0 and all(name[:10] in out for name in kept)
    assert "Framed, 9 items of 2 layers" in out and "2 entries, 0.00 GB, in " in out
    assert sslzoo("cache", "clear", "zz") == (
        2, "", ["sslzoo: no entry's key begins with zz: `sslzoo cache` lists them"],
    )  # fmt: skip
    assert sslzoo("cache", "clear", kept[0][:10])[1] == "removed 1 of 2 entries\n"
    assert sslzoo("cache", "clear")[1] == "removed 1 of 1 entries\n"
    assert sslzoo("cache")[1].startswith("0 entries")
