"""Several documents in a row are as they are alone: hidden states, and what objectives make of them."""

import pytest
import torch
from conftest import compose, tiny
from torch.nn.utils.rnn import pad_sequence

from sslzoo.build import build, make
from sslzoo.data.base import CLS, MASK, SEP, SPECIALS, Batch, maskable
from sslzoo.errors import ConfigError
from sslzoo.nn.masked import valid_mask


def documents(seed: int = 0) -> list[torch.Tensor]:
    """Documents of ids, some of two segments."""
    g = torch.Generator().manual_seed(seed)
    found = [torch.randint(SPECIALS, 60, (n,), generator=g) for n in (5, 9, 2, 12, 7, 3)]
    for place, ids in enumerate(found):
        if place % 2:
            ids[len(ids) // 2] = SEP
    return [torch.cat([torch.tensor([CLS]), ids, torch.tensor([SEP])]) for ids in found]


def batched(rows: list[torch.Tensor]) -> Batch:
    lengths = torch.tensor([len(row) for row in rows])
    return Batch(pad_sequence(rows, batch_first=True), lengths, torch.arange(len(rows)), torch.arange(len(rows)))


def both(texts: list[torch.Tensor]) -> tuple[Batch, Batch]:
    """The texts in rows by themselves, and several in a row."""
    return batched(texts), batched([torch.cat(texts[:3]), torch.cat(texts[3:5]), texts[5]])


def small(name: str, *more: str):
    return make(
        compose("objective=rotation", "data=tiny_text", f"encoder={name}", "data.max_tokens=60", *more)["encoder"]
    )


ENCODERS = {
    "tiny_text": (),
    "tiny_electra": (),
    "tiny_gpt": (),
    "modernbert_small": ("encoder.trunk.window=6", "encoder.trunk.depth=4"),
    "llama_small": (),
    "albert_base": ("encoder.trunk.dim=64", "encoder.trunk.heads=4", "encoder.frontend.dim=64"),
}


@pytest.mark.parametrize("name", ENCODERS)
@pytest.mark.parametrize("training", [True, False])
@torch.no_grad()
def test_packed_documents_are_as_they_are_alone(name, training, monkeypatch):
    monkeypatch.setattr("sslzoo.encoders.ragged.LONG", 1)  # rows are taken one by one where nothing is trained
    encoder = small(name, *ENCODERS[name])
    for module in encoder.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.0
        if hasattr(module, "dropout") and isinstance(module.dropout, float):
            module.dropout = 0.0
    encoder.train(training)
    alone, packed = both(documents())
    want = encoder(alone.inputs, alone.lengths).hidden
    encoder.frontend.packed = True
    again = encoder(alone.inputs, alone.lengths).hidden
    found = encoder(packed.inputs, packed.lengths).hidden
    assert len(found) == encoder.depth + 1
    for want_layer, again_layer, layer in zip(want, again, found, strict=True):
        apart = torch.cat([row[:n] for row, n in zip(want_layer, alone.lengths, strict=True)])
        for other, lengths in ((again_layer, alone.lengths), (layer, packed.lengths)):
            joined = torch.cat([row[:n] for row, n in zip(other, lengths, strict=True)])
            assert torch.isfinite(other).all() and (joined - apart).abs().max() < 1e-5 * max(1, apart.abs().max())


@torch.no_grad()
def test_without_it_they_would_not_be():
    """The boundaries are what makes the difference."""
    encoder = small("tiny_text").eval()
    alone, packed = both(documents())
    want = encoder(alone.inputs, alone.lengths).last
    found = encoder(packed.inputs, packed.lengths).last
    assert (found[0, : alone.lengths[0]] - want[0, : alone.lengths[0]]).abs().max() > 1e-3


@torch.no_grad()
def test_no_token_looks_into_another_document():
    encoder = small("tiny_text").eval()
    encoder.frontend.packed = True
    _, packed = both(documents())
    other = packed.inputs.clone()
    other[0, 1] = SPECIALS + (other[0, 1] - SPECIALS + 1) % 55  # a token of the first of three
    one, two = (encoder(ids, packed.lengths).last[0] for ids in (packed.inputs, other))
    first = len(documents()[0])
    assert not torch.equal(one[:first], two[:first]) and torch.equal(one[first:], two[first:])


def masked(ids, lengths, seeds):
    """The same masks wherever a document lies."""
    chosen = valid_mask(lengths, ids.shape[1]) & maskable(ids) & (ids % 3 == 0)
    return ids.masked_fill(chosen, MASK), chosen


@pytest.mark.parametrize("name", ["bert", "electra", "gpt"])
def test_a_loss_of_packed_rows_is_that_of_separate_ones(name, monkeypatch):
    job = build(tiny(name, "data.max_tokens=60"))
    objective, encoder = job.objective, job.encoder
    assert objective.packs and "documents" in encoder.offers
    for kind in ("corrupt", "masked"):
        if hasattr(objective, kind):
            monkeypatch.setattr(objective, kind, masked)
    if name == "electra":  # what is drawn depends on the row and the place
        monkeypatch.setattr(objective, "sample", lambda logits, seeds: logits[:, SPECIALS:].argmax(1) + SPECIALS)
    alone, packed = both(documents())
    want = objective(encoder, alone, 0)
    encoder.frontend.packed = True
    found = objective(encoder, packed, 0)
    assert int(want.count) == int(found.count) > 5
    assert float(found.value) == pytest.approx(float(want.value), rel=1e-5)
    gradients = [torch.autograd.grad(loss.value, encoder.frontend.token_embedding.weight)[0] for loss in (want, found)]
    assert (gradients[0] - gradients[1]).abs().max() < 1e-5 * gradients[0].abs().max().clamp(min=1)
    shown = objective.eval().visualize(encoder.eval(), packed, 0)
    assert shown["kind"] in ("masked_tokens", "next_tokens")


def test_what_cannot_be_packed_is_refused(tmp_path):
    how = ["data=text_folder", f"data.path={tmp_path}", "data.pack=true", "data.vocab_size=60", "data.max_tokens=24"]
    assert build(tiny("bert", *how)).encoder.frontend.packed
    sine = "{_target_: sslzoo.encoders.transformer.SinePosition, dim: 16}"
    with pytest.raises(
        ConfigError,
        match="BERT on this data needs an encoder with documents kept apart; these fit: .*bert_base.*; or set data.pack=false",
    ):
        build(tiny("bert", *how, f"+encoder.trunk.position={sine}"))
    assert not build(tiny("bert")).encoder.frontend.packed
