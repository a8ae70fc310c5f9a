import numpy as np
import pytest

from sslzoo.data import labels
from sslzoo.errors import UserError


@pytest.mark.parametrize(
    "values, name",
    [
        ([1, 1.0, "1", "1.0", " 1.00 ", np.int64(1), np.float32(1)], "1"),
        ([-0.0, 0, "0.0", "-0.0", "0"], "0"),
        ([None, float("nan"), np.nan, "", "  ", "nan", "NaN", "<NA>"], ""),
        ([True, np.True_, "True"], "True"),
        ([1.5, "1.5"], "1.5"),
        (["007"], "007"),
        (["1.10"], "1.10"),
        (["None"], "None"),
        (["12345678901234567890.0"], "12345678901234567890.0"),
    ],
)
def test_a_label_is_called_by_its_value(values, name):
    assert {labels.name(value) for value in values} == {name}


@pytest.mark.parametrize("value, words", [([1], "a list"), ({"a": 1}, "an object"), ((1,), "a list")])
def test_what_is_no_single_value_is_no_label(value, words):
    with pytest.raises(ValueError, match=f"^{words}, not a single value"):
        labels.name(value)


@pytest.mark.parametrize("names", [["0", "1", "True"], ["True", "true"], ["false", "a", "0"]])
def test_booleans_written_in_two_ways_are_refused(names):
    with pytest.raises(UserError, match="x has labels '.*' and '.*': booleans written in two ways"):
        labels.check_alike(names, "x")
    labels.check_alike([name for name in names if name in ("0", "1", "a")], "x")


def test_a_long_string_does_not_widen_a_column():
    column = labels.column(["a", "b" * 1000, "a"])
    assert column.nbytes == 24 and np.unique(column).tolist() == ["a", "b" * 1000]
