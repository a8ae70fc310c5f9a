import numpy as np
import pytest

from sslzoo.data.builtin import cached_arrays
from sslzoo.errors import UserError


@pytest.fixture(autouse=True)
def own_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("SSLZOO_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def counted(calls: list):
    def make():
        calls.append(1)
        return {"numbers": np.arange(5), "words": np.array(["a", "phøne"])}

    return make


def test_made_once_and_read_after_that(tmp_path):
    source, calls = tmp_path / "recipe.py", []
    source.write_text("one")
    for _ in range(2):
        found = cached_arrays("set", [source], (1,), counted(calls))
        assert found["numbers"].tolist() == [0, 1, 2, 3, 4] and found["words"].tolist() == ["a", "phøne"]
    assert len(calls) == 1


def test_other_ingredients_and_an_edited_recipe_make_another(tmp_path):
    source, calls = tmp_path / "recipe.py", []
    source.write_text("one")
    cached_arrays("set", [source], (1,), counted(calls))
    cached_arrays("set", [source], (2,), counted(calls))
    source.write_text("two")
    cached_arrays("set", [source], (1,), counted(calls))
    assert len(calls) == 3


@pytest.mark.parametrize("damage", [lambda content: content[:100], lambda content: b"", lambda content: b"x" * 300])
def test_a_damaged_file_is_named_with_the_mend(tmp_path, own_cache, damage):
    source = tmp_path / "recipe.py"
    source.write_text("one")
    cached_arrays("set", [source], (), counted([]))
    [file] = own_cache.glob("set-*.npz")
    file.write_bytes(damage(file.read_bytes()))
    with pytest.raises(UserError, match="delete it"):
        cached_arrays("set", [source], (), counted([]))
    file.unlink()
    assert cached_arrays("set", [source], (), counted([]))["numbers"].sum() == 10
