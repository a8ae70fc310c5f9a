import pytest
import torch

from sslzoo.parts.shown import upright, visible


@pytest.mark.parametrize(
    ("text", "seen"), [("a", "a"), (" ", "␣"), ("\n", "⏎"), ("", "∅"), ("a b", "a b"), (" the", "␣the")]
)
def test_what_cannot_be_seen_has_a_sign(text, seen):
    assert visible(text) == seen


def test_a_spectrogram_is_upright_loud_dark_and_white_where_it_ended():
    views = torch.full((1, 3, 2), 1.5)
    views[0, 0, 1] = 3.0  # the higher band of the first frame is loud
    views[0, 2] = 0.0  # padding
    [[picture]] = upright(views).tolist()
    assert picture == [[0.0, 0.25, 1.0], [0.25, 0.25, 1.0]]
