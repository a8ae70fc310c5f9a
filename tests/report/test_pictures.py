import base64
import io
import re

import numpy as np
import pytest
import torch
from PIL import Image

from sslzoo.report import pictures


def drawn(html: str) -> list[np.ndarray]:
    return [np.asarray(Image.open(io.BytesIO(base64.b64decode(u)))) for u in re.findall(r"base64,([\w+/=]+)", html)]


def images(**more) -> dict:
    kept = torch.zeros(2, 3, 4, 5, dtype=torch.uint8)
    kept[1, 0] = 255
    return {"kind": "images", "title": "t", "images": kept, "captions": ["<b>", "90°"], "columns": 2, **more}


def test_images_are_drawn_as_they_are():
    first, second = drawn(pictures.draw(images()))
    assert first.shape == (4, 5, 3) and (second == [255, 0, 0]).all()
    [half] = drawn(pictures.draw(images(images=torch.full((1, 1, 2, 2), 0.5), captions=["x"])))
    assert half.shape == (2, 2) and (half == 128).all()


def test_captions_are_escaped_and_marked():
    html = pictures.draw(images(right=torch.tensor([True, False])))
    assert "&lt;b&gt;" in html and html.count("✓") == 1 and html.count("✗") == 1
    assert pictures.draw(images(captions=["", "x"], right=[True, True])).count("✓") == 1


def frames(**more) -> dict:
    mask, place = torch.zeros(10, dtype=torch.bool), torch.full((10,), -1)
    mask[2:5] = True
    place[2:5] = torch.tensor([0, 4, 0])
    return {
        "kind": "frames",
        "frames": torch.randn(20, 8),
        "mask": mask,
        "place": place,
        "candidates": 5,
        **more,
    }


def test_nothing_is_said_of_a_mask_that_is_not_there():
    frames = {"kind": "frames", "frames": torch.randn(20, 8), "mask": torch.zeros(10, dtype=torch.bool)}
    assert "tinted" not in pictures.draw(frames)
    frames["mask"][3] = True
    assert "the masked ones tinted" in pictures.draw(frames)


def test_frames_are_tinted_and_counted():
    html = pictures.draw(frames())
    assert html.count('class="masked"') == 1 and html.count('class="right"') == 2 and html.count('class="wrong"') == 1
    assert "2 of 3" in html and "(chance: 0.6)" in html
    [mel] = drawn(html)
    assert mel.shape == (8, 20)


def test_low_bands_lie_below_and_loud_is_dark():
    ramp = torch.arange(8.0).repeat(20, 1)
    [mel] = drawn(pictures.draw(frames(frames=ramp)))
    assert mel[0, 0] == 0 and mel[-1, 0] == 255


def test_rebuilt_frames_are_drawn_below():
    html = pictures.draw(frames(rebuilt=torch.randn(20, 8), place=None))
    assert len(drawn(html)) == 2 and 'class="wrong"' not in html


@pytest.mark.parametrize("predicted", [["", "ca", "x"], [[], ["ca", "do"], []]])
def test_tokens_join_pieces_and_mark_the_right_guess(predicted):
    row = {"tokens": ["<s>", "ca", "##t"], "masked": [False, True, False], "predicted": predicted}
    html = pictures.draw({"kind": "tokens", "rows": [row]})
    assert "&lt;s&gt;" in html and '<span class="token joined">t</span>' in html
    assert "<u>ca</u><i class=right>ca</i>" in html and "right for 1 of 1" in html and ">x<" not in html


@pytest.mark.parametrize(
    "layout",
    [
        {"kind": "sculpture"},
        images(captions=["one"]),
        images(images=torch.zeros(2, 2, 4, 4)),
        {"kind": "tokens"},
        {"kind": "frames", "frames": torch.zeros(2, 2)},
        {"kind": "images", "images": None, "captions": [], "columns": 1},
    ],
)
def test_what_is_not_as_defined_is_refused(layout):
    with pytest.raises(ValueError, match="."):
        pictures.draw(layout)


def test_tokens_say_how_many_scored_above_and_how_it_went_on():
    row = {"tokens": ["a", "b"], "masked": [False, True], "predicted": ["", ["c", "b"]], "place": [0, 1]}
    html = pictures.draw({"kind": "tokens", "rows": [row], "continued": [["Once <", "upon >"]]})
    assert 'title="1 scored above it"' in html and "scored above" not in html.split("</u>")[1].split("<i")[0]
    assert "Once &lt;<b>upon &gt;</b>" in html
    assert "continued" not in pictures.draw({"kind": "tokens", "rows": [row]})
