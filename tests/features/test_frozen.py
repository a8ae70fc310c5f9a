import numpy as np
import pytest
import torch
from worlds import Framed, Held, Items, spoken

from sslzoo.data.loader import collate
from sslzoo.encoders.base import Encoded, Encoder
from sslzoo.errors import UserError
from sslzoo.features.frozen import Frozen
from sslzoo.probe import raw
from sslzoo.probe.bags import BagReader
from sslzoo.probe.reader import Reader, Scale
from sslzoo.probe.splits import Pool
from sslzoo.probe.tasks import Part
from sslzoo.progress import quiet


def reader(source, data, progress=lambda what, done, total: None, max_gb=1.0):
    """A part's features, as a probe reads them."""
    read = Reader(source, Pool(data), "test")
    return lambda part: read(part, max_gb, progress)


def batch(*items):
    return collate([(torch.as_tensor(x), i, 0, {}) for i, x in enumerate(items)])


def part(*items, centres=None):
    return Part(np.array(items), None if centres is None else np.array(centres, float), np.zeros(len(items)))


def test_an_item_is_each_layers_mean_over_its_own_tokens():
    waves = torch.arange(10.0), torch.arange(25.0)
    encoder = Framed(prefix=2)
    source = Frozen(encoder)
    together = source.items(batch(*waves))
    assert together.shape == (2, 3, 2) and source.layers == ["0", "1", "2"]
    for row, wave in zip(together, waves, strict=True):
        hidden = encoder(wave[None], torch.tensor([len(wave)])).hidden
        slow = torch.stack([h[0, 2:].mean(0) for h in hidden])
        torch.testing.assert_close(row, slow)


def test_an_encoders_own_pooling_is_a_layer_more_where_it_is_no_mean():
    source = Frozen(Framed(prefix=1, pool="first"))
    found = source.items(batch(torch.arange(10.0)))
    assert source.layers == ["0", "1", "2", "pooled"] and found.shape == (1, 4, 2)
    assert found[0, 3].tolist() == [1e3, 1e3]
    assert source.layers[source.main] == "2"


class Pooled(Encoder):
    modality, dim, feature_dim, depth, stride = "image", 3, 3, 0, 1

    def forward(self, inputs, lengths):
        pooled = inputs.float().mean((2, 3))
        return Encoded([pooled[:, None]], torch.ones_like(lengths), pooled)


def test_without_tokens_the_pooled_vector_is_the_one_layer():
    images = torch.arange(24.0).view(2, 3, 2, 2)
    source = Frozen(Pooled())
    found = source.items(batch(*images))
    torch.testing.assert_close(found, images.mean((2, 3))[:, None])
    assert source.layers == ["pooled"]


def test_an_encoder_is_frozen():
    encoder = Framed().train()
    source = Frozen(encoder)
    assert not encoder.training
    assert not source.items(batch(torch.arange(10.0))).requires_grad


def test_a_row_of_frames_is_the_token_at_its_centre():
    data = Held(*(Items([torch.arange(40.0), torch.arange(12.0)]) for _ in range(3)))
    encoder = Framed(layers=(1.0,), stride=5)
    # of item 0 the frames 6 and 1, of item 1 its frame 2 of two samples and one behind its end
    rows = part(0, 1, 0, 1, centres=[32.5, 12.5, 7.5, 17.5])
    found = reader(Frozen(encoder), data)(rows)
    assert found.shape == (1, 4, 2)
    assert found[0, :, 0].tolist() == pytest.approx([32.0, (10 + 11) / 5, 7.0, (10 + 11) / 5])


def test_rows_come_in_the_order_of_the_part_from_every_split():
    data = spoken((30, 10, 10))
    pool = Pool(data)
    read = reader(Frozen(Framed(layers=(1.0,))), data)
    places = np.array([47, 3, 35, 0, 12])
    found = read(part(*places))[0, :, 0]
    for value, place in zip(found, places, strict=True):
        split, [index], _ = next(pool.located(np.array([place])))
        alone = Frozen(Framed(layers=(1.0,))).items(batch(split.items[index]))
        assert value.item() == pytest.approx(alone[0, 0, 0].item(), abs=1e-6)


def test_an_item_is_read_once_however_many_tasks_ask():
    data = spoken((30, 10, 10))
    read = reader(Frozen(Framed()), data)
    first = read(part(0, 1, 2)).clone()
    again = read(part(2, 1, 3))
    assert sorted(data.splits["train"].read_at) == [0, 1, 2, 3]
    assert torch.equal(again[:, 1], first[:, 1]) and torch.equal(again[:, 0], first[:, 2])


def test_standardising_what_was_read_leaves_the_store_alone():
    read = reader(Frozen(Framed()), spoken((30, 10, 10)))
    rows = part(0, 1, 2, 3)
    first = read(rows)
    kept = first.clone()
    Scale.of(first, per_dimension_scale=True)(first)
    assert torch.equal(read(rows), kept) and not torch.equal(first, kept)


def test_progress_counts_items():
    said = []
    reader(Frozen(Framed()), spoken((30, 10, 10)), lambda *x: said.append(x))(part(*range(35)))
    assert said[-1] == ("test features", 35, 35) and all(what == "test features" for what, _, _ in said)


@pytest.mark.parametrize("rows", [part(*range(30)), part(*range(30), centres=[2.5] * 30)], ids=["items", "frames"])
def test_what_would_not_fit_is_refused_with_the_mend(rows):
    read = reader(Frozen(Framed()), spoken((30, 10, 10)), max_gb=30 * 3 * 2 * 4 / 2**30 - 1e-9)
    with pytest.raises(UserError, match="30 features of 3 x 2 would take .* more than probe.max_gb"):
        read(rows)


@pytest.mark.parametrize("centres", [None, [2.5] * 30], ids=["items", "frames"])
def test_an_item_whose_features_are_no_numbers_is_named(centres):
    data = spoken((30, 10, 10))
    data.splits["train"].items[7][1] = float("nan")
    with pytest.raises(UserError, match="the test features of 0/7 are not finite"):
        reader(Frozen(Framed()), data)(part(*range(30), centres=centres))


def test_dimensions_are_scaled_one_by_one_or_together():
    x = torch.randn(2, 500, 3, generator=torch.Generator().manual_seed(0)) * torch.tensor([1.0, 10.0, 0.0]) + 5
    apart = Scale.of(x, per_dimension_scale=True)(x.clone())
    torch.testing.assert_close(apart.mean(1), torch.zeros(2, 3), atol=1e-4, rtol=0)
    torch.testing.assert_close(apart[..., :2].std(1, correction=0), torch.ones(2, 2))
    assert (apart[..., 2] == 0).all()
    together = Scale.of(x, per_dimension_scale=False)(x.clone())
    ratio = together.std(1)[:, 1] / together.std(1)[:, 0]
    torch.testing.assert_close(ratio, (x.std(1)[:, 1] / x.std(1)[:, 0]))
    assert together.square().mean((1, 2)).tolist() == pytest.approx([1.0, 1.0], abs=1e-4)


def test_a_dimension_that_train_hardly_varies_does_not_drown_the_rest():
    train, test = torch.randn(1, 50, 2), torch.randn(1, 50, 2)
    train[..., 1] = 0.0
    train[0, 0, 1] = 1e-12
    assert Scale.of(train, per_dimension_scale=True)(test)[..., 1].abs().max() < 1e4


# --- raw features


def test_raw_images_are_their_pixels():
    images = torch.randint(0, 256, (2, 3, 4, 4), dtype=torch.uint8)
    found = raw.Pixels().items(batch(*images))
    assert torch.equal(found[:, 0], images.flatten(1) / 255)


def test_raw_speech_is_the_mean_of_its_log_mels_or_the_frame_nearest():
    from sslzoo.nn.mel import LogMel

    waves = [0.1 * torch.randn(n, generator=torch.Generator().manual_seed(n)) for n in (4000, 2500, 100)]
    source = raw.Mels(16000)
    found = source.items(batch(*waves))
    for row, wave in zip(found, waves, strict=True):
        mels, _ = LogMel(16000, 80)(wave[None], torch.tensor([len(wave)]))
        torch.testing.assert_close(row[0], mels[0].mean(0), atol=1e-4, rtol=1e-4)
    data = Held(*(Items(waves) for _ in range(3)), sample_rate=16000)
    mels, _ = LogMel(16000, 80)(waves[0][None], torch.tensor([4000]))
    # frame 5 is centred at 5 * 160 + 200; 85 samples on, frame 6 is nearer; behind the last, the last
    frames = reader(source, data)(part(0, 0, 0, centres=[1000, 1085, 3990]))
    torch.testing.assert_close(frames[0], mels[0, [5, 6, -1]], atol=1e-4, rtol=1e-4)


def test_raw_text_is_a_bag_of_its_tokens_without_specials():
    texts = [torch.tensor(t) for t in ([2, 7, 7, 8, 3], [2, 9, 3], [2, 7, 1, 3, 8, 3])]
    pool = Pool(Held(Items(texts), Items(texts[:1]), Items(texts), modality="text", vocab_size=12, max_tokens=9))
    source = raw.source(pool, np.array([0, 2]))
    assert source.size == 2  # 9 is not in what it learned from
    found = source.counts(batch(*texts)).toarray()
    counts = np.log1p([[2, 1], [0, 0], [1, 1]])
    lengths = np.maximum(np.linalg.norm(counts, axis=1, keepdims=True), 1e-9)
    np.testing.assert_allclose(found, counts / lengths, atol=1e-6)
    read = BagReader(source, pool, "raw")
    items = read(part(6, 4, 4), 1.0, quiet).rows.toarray()
    np.testing.assert_allclose(items, found[[2, 0, 0]], atol=1e-6)  # of a pool of 3, 1 and 3: items 6 and 4

    frames = read(part(4, 4, 4, 4, 4, centres=[0.5, 1.5, 2.4, 3.5, 4.5]), 1.0, quiet).rows.toarray()
    assert frames.tolist() == [[0, 0], [1, 0], [1, 0], [0, 1], [0, 0]]


def test_a_bag_counts_the_tokens_that_most_texts_have(monkeypatch):
    monkeypatch.setattr(raw, "BAG", 2)
    texts = [torch.tensor(t) for t in ([9, 9, 9, 9, 6], [6, 7], [7, 8], [6])]
    pool = Pool(Held(*(Items(texts) for _ in range(3)), modality="text", vocab_size=12, max_tokens=9))
    column = raw.Bag.of(pool, np.arange(4)).column
    assert (column[[6, 7]] < 2).all() and (column[[8, 9]] == 2).all()
