import re

import numpy as np
import pytest
import torch
from test_pictures import drawn

from sslzoo.nn.mel import LogMel
from sslzoo.report.visualizations import draw, layout, upright, visible


@pytest.mark.parametrize(
    ("text", "seen"), [("a", "a"), (" ", "␣"), ("\n", "⏎"), ("", "∅"), ("a b", "a b"), (" the", "␣the")]
)
def test_what_cannot_be_seen_has_a_sign(text, seen):
    assert visible(text) == seen


def test_a_spectrogram_is_upright_loud_dark_and_white_where_it_ended():
    views = np.full((1, 3, 2), 1.5, np.float32)
    views[0, 0, 1] = 3.0  # the higher band of the first frame is loud
    views[0, 2] = 0.0  # padding
    [[picture]] = upright(views).tolist()
    assert picture == [[0.0, 0.25, 1.0], [0.25, 0.25, 1.0]]


def test_pairs_have_their_rank_or_their_cosine_under_the_second_view():
    views = torch.arange(2 * 2 * 3 * 2 * 2).view(2, 2, 3, 2, 2) / 48
    ranked = layout({"kind": "view_pairs", "views": views, "rank": torch.tensor([0, 4, 2]), "candidates": 5})
    assert ranked["captions"] == ["", "rank 1", "", "rank 5"] and "among 5 " in ranked["title"]
    assert ranked["right"].tolist() == [True, True, False, False]
    assert np.array_equal(ranked["images"], views.flatten(0, 1)), "the first item's views, then the second's"
    cosine = torch.tensor([0.125, -1.0])
    assert layout({"kind": "view_pairs", "views": views, "cosine": cosine})["captions"][1::2] == [
        "cosine 0.12",
        "cosine -1.00",
    ]
    mels = torch.randn(2, 2, 7, 5)
    assert layout({"kind": "view_pairs", "views": mels, "cosine": cosine})["images"].shape == (4, 1, 5, 7)


def test_classes_are_named():
    target, prediction = torch.tensor([0, 7]), torch.tensor([0, 1])
    views = torch.rand(2, 2, 3, 4, 4)
    pairs = layout({"kind": "patch_pairs", "views": views, "target": target, "prediction": prediction})
    assert pairs["captions"] == ["", "up left: said up left", "", "down right: said up"]
    shown = {"kind": "clusters", "views": views[:, :1], "clusters": 9, "target": target, "prediction": prediction}
    assert layout(shown)["captions"] == ["0: said 0", "7: said 1"] and layout(shown)["right"].tolist() == [True, False]


def test_rotations_are_named_by_their_degrees():
    prediction = torch.tensor([[0, 1, 2, 2], [3, 3, 3, 3]])  # of the second image no view was kept
    turned = layout({"kind": "rotations", "views": torch.rand(1, 4, 1, 4, 4), "prediction": prediction})
    assert turned["captions"] == ["0°: said 0°", "90°: said 90°", "180°: said 180°", "270°: said 180°"]
    assert turned["right"].tolist() == [True, True, True, False] and turned["columns"] == 4


def test_what_was_masked_is_hidden_and_what_was_rebuilt_is_pasted():
    images, prediction = torch.zeros(1, 1, 4, 4), torch.ones(1, 1, 4, 4)
    mask = torch.tensor([[False, True, False, False]])  # the patch at the upper right
    shown = {"kind": "masked_patches", "images": images, "prediction": prediction, "mask": mask}
    made = layout({**shown, "mean": torch.full((1, 1, 1), 0.5)})
    whole, seen, rebuilt = made["images"][:, 0]
    assert not whole.any() and made["captions"] == ["whole", "seen", "rebuilt"] and "the 3 patches" in made["title"]
    corner = np.zeros((4, 4))
    corner[:2, 2:] = 1
    assert np.array_equal(seen, 0.5 * corner) and np.array_equal(rebuilt, corner)


def test_frames_of_a_waveform_are_log_mels():
    wave, mask = torch.randn(4000), torch.tensor([False, True, True, False])
    shown = {"kind": "masked_frames", "waveform": wave, "sample_rate": 16000, "mask": mask, "candidates": 6}
    made = layout({**shown, "rank": torch.tensor([3, 0, 5])})  # the last is the next utterance's
    assert np.array_equal(made["frames"], LogMel()(wave[None], torch.tensor([4000]))[0][0])
    assert made["place"].tolist() == [-1, 3, 0, -1] and made["candidates"] == 6
    assert layout({**shown, "sample_rate": 8000, "rank": torch.tensor([3, 0])})["frames"].shape[1] == 40


def test_only_what_was_altered_is_drawn_as_rebuilt():
    frames, prediction = torch.zeros(3, 2), torch.ones(3, 2)
    mask = torch.tensor([[False, False], [True, False], [False, False]])
    made = layout({"kind": "altered_frames", "frames": frames, "prediction": prediction, "mask": mask})
    assert made["rebuilt"].tolist() == [[0, 0], [1, 0], [0, 0]] and made["mask"].tolist() == [False, True, False]


def test_frames_to_come_are_predicted_or_ranked():
    frames = torch.randn(6, 4)
    made = layout({"kind": "future_frames", "frames": frames, "prediction": frames + 1, "ahead": 3})
    assert "3 tokens before" in made["title"] and np.array_equal(made["rebuilt"], frames + 1)
    rank = torch.tensor([-1, -1, 2, 0])
    html = draw({"kind": "future_frames", "frames": frames, "rank": rank, "candidates": 5, "ahead": 2})
    assert "among 5, 2 tokens before" in html and "1 of 2" in html and len(drawn(html)) == 1


def test_ids_are_drawn_as_their_words():
    ids, lengths = torch.tensor([[2, 7, 8], [2, 7, 0]]), torch.tensor([3, 2])
    words = {0: "", 2: "", 7: "the", 8: " cat"}
    shown = {"ids": ids, "lengths": lengths, "mask": ids == 8, "prediction": torch.full((2, 3), 7)}
    html = draw({"kind": "masked_tokens", **shown, "words": words})
    assert "<u>␣cat</u><i>the</i>" in html and html.count("∅") == 2 and html.count('class="tokens"') == 2
    assert "<u>8</u><i>7</i>" in draw({"kind": "masked_tokens", **shown}), "without words, the ids"


def test_the_next_tokens_are_drawn_under_those_they_were_guessed_for():
    shown = {"ids": torch.tensor([[1, 2, 3]]), "lengths": torch.tensor([2])}
    shown |= {"prediction": torch.tensor([[[5, 2], [6, 6]]]), "rank": torch.tensor([[1, 9]])}
    html = draw({"kind": "next_tokens", **shown, "texts": ["Once ", "upon"]})
    assert re.sub("<[^>]*>", "|", html).count("|5|") == 1 and "<u>2</u><i>5</i><i class=right>2</i>" in html
    assert 'title="1 scored above it"' in html and "6" not in html and "Once <b>upon</b>" in html


@pytest.mark.parametrize(
    "shown",
    [
        {"kind": "view_pairs", "views": torch.zeros(1, 2, 1, 2, 2)},
        {"kind": "view_pairs", "views": torch.zeros(2, 2, 1, 2, 2), "cosine": torch.zeros(1)},
        {"kind": "patch_pairs", "views": None, "target": torch.zeros(1), "prediction": torch.zeros(1)},
        {"kind": "masked_patches", "images": torch.zeros(1, 1, 4, 4)},
        {"kind": "masked_frames", "mask": torch.ones(3, dtype=torch.bool), "rank": torch.zeros(2), "candidates": 2},
        {"kind": "sculpture"},
        {},
    ],
)
def test_what_is_not_as_defined_is_refused(shown):
    with pytest.raises(ValueError, match="."):
        draw(shown)
