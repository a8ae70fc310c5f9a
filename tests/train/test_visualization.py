import io
from contextlib import nullcontext
from types import SimpleNamespace

import torch
from torch import nn

from sslzoo import distributed
from sslzoo.data.base import continuation
from sslzoo.train.finish import Finish
from sslzoo.train.visualization import portable, sounds

PIECES = {1: "be", 2: "gin", 3: "again"}


def text_of(ids) -> str:
    return " ".join(PIECES[int(i)] for i in ids.reshape(-1)).replace("be gin", "begin")


def test_a_text_goes_on_within_a_word():
    assert continuation(text_of, torch.tensor([3, 1]), torch.tensor([2, 3])) == ["again be", "gin again"]
    assert continuation(text_of, torch.tensor([3]), torch.tensor([1])) == ["again", " be"]


def test_only_what_is_shown_is_kept(tmp_path):
    """Not the storage of which it is a part, nor a graph."""
    whole = torch.randn(1000, 10, requires_grad=True)
    kept = portable({"kind": "view_pairs", "views": whole[:2] * 1, "rank": whole.detach()[:2, 0], "candidates": 3}, str)
    assert not kept["views"].requires_grad and kept["rank"].untyped_storage().nbytes() == 8
    assert kept["kind"] == "view_pairs" and kept["candidates"] == 3 and "words" not in kept


def test_ids_get_their_words():
    shown = {"kind": "next_tokens", "ids": torch.tensor([[3, 1]]), "prediction": torch.tensor([[[2, 3]]])}
    kept = portable({**shown, "text": torch.tensor([3, 1, 2]), "given": 2}, text_of)
    assert kept["words"] == PIECES and kept["texts"] == ["again be", "gin"]
    torch.save(kept, file := io.BytesIO())
    file.seek(0)
    assert torch.load(file, weights_only=True)["words"] == PIECES


class Gathering(nn.Module):
    def visualize(self, encoder, batch, step: int) -> dict:
        assert not self.training and not encoder.training
        return {"kind": "view_pairs", "candidates": distributed.world_size() * len(batch), "step": step}


class Plain(nn.Module):
    """As a `Pretrain` that is not sharded."""

    gathered = staticmethod(nullcontext)


def test_every_rank_looks_alone(monkeypatch):
    """All have the same batch, so that one that is gathered would hold each item twice."""
    monkeypatch.setattr(distributed.dist, "is_initialized", lambda: True)
    monkeypatch.setattr(distributed.dist, "get_world_size", lambda: 2)
    batch = SimpleNamespace(to=lambda device: range(5))
    module = Plain()
    module.encoder, module.objective, module.device, module.total_steps = nn.Linear(1, 1), Gathering(), "cpu", 7
    found = Finish(None, {}, lambda: batch, str).visualize(module.train())
    assert found == {"kind": "view_pairs", "candidates": 5, "step": 7} and distributed.world_size() == 2
    assert module.encoder.training


class Waves(SimpleNamespace):
    def __len__(self) -> int:
        return len(self.inputs)

    def to(self, device):
        return self


def test_speech_can_be_listened_to():
    """Short items as they are but for their scale, no longer than a few seconds and none of the padding."""
    wave = torch.sin(torch.arange(100) / 3)
    inputs = torch.stack([wave / 2, 9 * wave, wave, wave, wave])
    batch = Waves(inputs=inputs, lengths=torch.tensor([30, 100, 100, 100, 9]))
    heard = sounds(batch, 10)
    assert [len(x) for x in heard["sounds"]] == [30, 40, 40, 40] and heard["sample_rate"] == 10
    torch.testing.assert_close(heard["sounds"][0] / 32767, wave[:30] / 2, atol=1e-4, rtol=0)
    assert heard["sounds"][1].abs().max() <= 0.71 * 32767
    module = Plain()
    module.encoder, module.objective, module.device, module.total_steps = nn.Linear(1, 1), Gathering(), "cpu", 7
    found = Finish(None, {}, lambda: batch, str, sample_rate=10).visualize(module)
    torch.save(found, file := io.BytesIO())
    file.seek(0)
    assert len(torch.load(file, weights_only=True)["sounds"]) == 4
