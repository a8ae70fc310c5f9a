import pytest

from sslzoo.parts.shown import visible


@pytest.mark.parametrize(
    ("text", "seen"), [("a", "a"), (" ", "␣"), ("\n", "⏎"), ("", "∅"), ("a b", "a b"), (" the", "␣the")]
)
def test_what_cannot_be_seen_has_a_sign(text, seen):
    assert visible(text) == seen
