import pickle
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import tiny
from given import own_cache, warnings  # noqa: F401
from PIL import Image

from sslzoo import rng
from sslzoo.augment.image_views import ImageViews
from sslzoo.build import build
from sslzoo.data import image, pixel_cache
from sslzoo.data.image import ImageFolder
from sslzoo.data.loader import train_loader
from sslzoo.data.sampler import ByCount
from sslzoo.errors import ConfigError, UserError
from sslzoo.run import Run
from sslzoo.train.launch import pretrain

SHAPE = {"size": 16, "channels": 3, "mean": [0.5] * 3, "std": [0.25] * 3}


def folder(root, **how):
    return ImageFolder(str(root), ByCount(4), **{**SHAPE, **how})


def write(path, seed=0, shape=(20, 30, 3)):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.random.default_rng(seed).integers(0, 256, shape, np.uint8)).save(path)
    return path


@pytest.fixture
def pets(tmp_path):
    for name in ("train/cat/1.png", "train/dog/2.png", "test/cat/3.png", "val/dog/4.png"):
        write(tmp_path / name, len(name))
    return tmp_path


def test_folders_of_splits_and_classes(pets):
    data = folder(pets)
    found = {name: data.split(name) for name in ("train", "valid", "test")}
    assert found["train"].names == ["train/cat/1.png", "train/dog/2.png"]
    assert found["train"].columns["label"].tolist() == ["cat", "dog"]
    assert found["valid"].columns["label"].tolist() == ["dog"]
    assert found["test"].names == ["test/cat/3.png"]
    item = found["train"].read(0)
    assert item.dtype == torch.uint8 and item.shape == (3, 16, 16)


def test_folders_of_classes_alone(tmp_path):
    for i in range(60):
        write(tmp_path / ("cat", "dog")[i % 2] / f"{i}.png", i)
    found = {name: folder(tmp_path).split(name) for name in ("train", "valid", "test")}
    assert sum(map(len, found.values())) == 60 and all(map(len, found.values()))
    assert len({name for split in found.values() for name in split.names}) == 60
    assert set(found["train"].columns["label"]) == {"cat", "dog"}


def test_pictures_without_classes(tmp_path):
    for i in range(12):
        write(tmp_path / f"{i}.png", i)
    assert folder(tmp_path).split("train").columns == {}


def test_a_picture_is_decoded_once_and_is_not_shared(pets, monkeypatch):
    split = folder(pets).split("train")
    first = split.read(0)
    want = first.clone()
    monkeypatch.setattr(split, "picture", lambda index: pytest.fail("decoded again"))
    first.zero_()
    assert torch.equal(split.read(0), want)
    split.read(0).zero_()
    assert torch.equal(split.read(0), want)


def test_a_set_that_is_too_large_for_memory_is_decoded_each_time(pets, monkeypatch):
    want = folder(pets).split("train").read(0)
    monkeypatch.setattr(pixel_cache, "LIMIT", 0)
    split = folder(pets).split("train")
    assert torch.equal(split.read(0), want) and torch.equal(split.read(0), want)
    monkeypatch.setattr(split, "picture", lambda index: Image.new("RGB", (16, 16)))
    assert not split.read(0).any()


def test_workers_see_the_same(pets):
    for i in range(10):
        write(pets / "train" / "cat" / f"x{i}.png", i)
    batches = [list(train_loader(folder(pets).split("train"), ByCount(4), 0, 0, 5, workers=w)) for w in (0, 2)]
    for a, b in zip(*batches, strict=True):
        assert torch.equal(a.inputs, b.inputs) and torch.equal(a.index, b.index)


def test_a_split_can_go_to_another_process(pets):
    split = folder(pets).split("train")
    assert torch.equal(pickle.loads(pickle.dumps(split)).read(1), split.read(1))


def test_a_corrupt_picture_is_named_and_left_out_only_if_that_is_allowed(pets, warnings):  # noqa: F811
    bad = write(pets / "train" / "cat" / "bad.png")
    bad.write_bytes(bad.read_bytes()[:700])
    with pytest.raises(UserError, match="bad.png is not a whole picture.*data.on_error=skip"):
        folder(pets).split("train")
    assert len(folder(pets).split("test")) == 1
    split = folder(pets, on_error="skip").split("train")
    assert split.names == ["train/cat/1.png", "train/dog/2.png"] and len(split.columns["label"]) == 2
    assert "left out 1 of 3" in warnings() and "bad.png" in warnings()


def test_missing_and_empty(tmp_path):
    with pytest.raises(UserError, match="there is no folder .*nowhere"):
        folder(tmp_path / "nowhere").split("train")
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match="empty has no .jpg"):
        folder(tmp_path / "empty").split("train")


def test_pretraining_asks_for_no_labels(tmp_path, pets, warnings):  # noqa: F811
    """A class of which train has no picture, classes of one picture, a test split without classes."""
    write(pets / "test" / "cow" / "1.png")
    assert folder(pets).split("test").columns["label"].tolist() == ["cat", "cow"]
    for i in range(30):
        write(tmp_path / "faces" / f"p{i}" / "0.png", i)
        write(
            tmp_path / "kaggle" / f"test/{i}.png" if i < 3 else tmp_path / "kaggle" / f"train/c{i % 2}" / f"{i}.png", i
        )
    assert sum(len(folder(tmp_path / "faces").split(name)) for name in ("train", "valid", "test")) == 30
    test = folder(tmp_path / "kaggle").split("test")
    assert len(test) == 3 and set(test.columns["label"]) == {""} and not warnings()


def test_formats_that_cannot_be_read_are_said_at_every_start(tmp_path, warnings):  # noqa: F811
    for i in range(12):
        write(tmp_path / f"{i}.{'jfif' if i % 2 else 'png'}", i)
    (tmp_path / "x.heic").touch()
    for start in (1, 2):
        assert {Path(name).suffix for name in folder(tmp_path).split("train").names} == {".jfif", ".png"}
        assert warnings().count("1 .heic file cannot be read and is left out: convert them to .png") == start


def test_labels_may_stand_in_names(tmp_path):
    for i in range(12):
        write(tmp_path / f"{('cat', 'dog')[i % 2]}.{i}.png", i)
    assert set(folder(tmp_path, labels_from="{label}.{_}").split("train").columns["label"]) == {"cat", "dog"}


def test_a_class_may_be_called_train(tmp_path, warnings):  # noqa: F811
    for i in range(60):
        write(tmp_path / ("bus", "car", "train")[i % 3] / f"{i}.png", i)
    assert set(folder(tmp_path).split("train").columns["label"]) == {"bus", "car", "train"}
    assert "train/ is taken for a class" in warnings()


@pytest.mark.parametrize(
    "how", [{"size": 0}, {"channels": 2}, {"mean": [0.5]}, {"std": [0.5, 0.0, 0.5]}, {"channels": 1}]
)
def test_bad_values_are_refused_before_the_disk_is_touched(how):
    with pytest.raises(ConfigError, match="data."):
        folder("nowhere", **how)


def test_headers_are_read_without_decoding_and_none_opens_nothing(pets, monkeypatch):
    write(pets / "train" / "cat" / "bad.png")
    bad = pets / "train" / "cat" / "bad.png"
    bad.write_bytes(bad.read_bytes()[:700])
    with monkeypatch.context() as patch:
        patch.setattr(Image.Image, "load", lambda *_: pytest.fail("decoded"))
        split = folder(pets, check="headers", on_error="skip").split("train")
        patch.setattr(image.pixels, "inspect", lambda *_: pytest.fail("opened"))
        again = folder(pets, check="none").split("train")
    assert len(split) == 3 and split.names == again.names and (split.on_error, again.on_error) == ("skip", "raise")
    with pytest.raises(UserError, match="bad.png is not a whole picture"):
        split.read(list(split.names).index("train/cat/bad.png"))
    bad.unlink()
    bad.write_text("no picture")
    with pytest.raises(UserError, match="bad.png is not a whole picture: cannot identify"):
        folder(pets, check="headers").split("train")


@pytest.fixture
def photographs(tmp_path):
    """JPEGs of 512 x 400 pixels, for two splits."""
    for name in ("train/0", "train/1", "train/2", "train/3", "valid/4", "test/5"):
        rng = np.random.default_rng(len(name) + int(name[-1]))
        picture = Image.fromarray(rng.integers(0, 256, (50, 64, 3), np.uint8)).resize((512, 400), Image.BICUBIC)
        (tmp_path / name).parent.mkdir(exist_ok=True)
        picture.save(tmp_path / f"{name}.jpg", quality=95)
    return tmp_path


def test_views_that_crop_get_pictures_at_their_resolution(photographs):
    data = folder(photographs, size=32, resolution=256)
    split = data.split("train")
    assert split.read(0).shape == (3, 32, 32)
    large = split.for_views()
    assert large.read(0).shape == (3, 256, 256) and split.read(0).shape == (3, 32, 32)
    assert large.names is split.names and len(large) == 4 and large.on_error == "raise"
    with Image.open(photographs / split.names[0]) as whole:
        want = whole.resize((256, 256), Image.BICUBIC, box=(56, 0, 456, 400))
    assert np.abs(large.read(0).numpy().transpose(1, 2, 0).astype(int) - np.asarray(want)).max() <= 1
    plain = folder(photographs, size=32).split("train")
    assert plain.for_views() is plain and torch.equal(plain.read(0), split.read(0))
    with pytest.raises(ConfigError, match="data.resolution=16 is less than data.size=32"):
        folder(photographs, size=32, resolution=16)


def test_a_small_crop_is_of_the_pictures_own_pixels(photographs):
    """8 % of 256 pixels are 72, of the middle square at 32 pixels 9: a crop of that has none of the detail."""
    split = folder(photographs, size=32, resolution=256).split("train")
    views = ImageViews(scale=[0.08, 0.08], ratio=[1.0, 1.0], flip=0, jitter=0, gray=0, blur=0)
    views.check(SimpleNamespace(offers=set()), SimpleNamespace(modality="image", size=32))
    keys = torch.arange(4) * 977
    seen = {}
    for name, one in (("own", split.for_views()), ("shrunken", split)):
        seen[name] = views(torch.stack([one.read(i) for i in range(4)]), keys, "a")
    assert seen["own"].shape == seen["shrunken"].shape == (4, 3, 32, 32)
    u = rng.uniform(keys, "a", 16)
    for row in range(4):
        side = 256 * 0.08**0.5
        left, top = ((256 - side) * float(x) for x in u[row, 2:4])
        with Image.open(photographs / split.names[row]) as whole:
            box = [56 + 400 / 256 * left, 400 / 256 * top]
            box += [box[0] + 400 / 256 * side, box[1] + 400 / 256 * side]
            want = np.asarray(whole.resize((32, 32), Image.BICUBIC, box=box)).transpose(2, 0, 1) / 255
        near, far = (np.abs(seen[name][row].numpy() - want).mean() for name in ("own", "shrunken"))
        assert near < 0.05 and far > 2 * near


def test_an_objective_that_crops_is_trained_on_larger_images_and_others_are_not():
    for name, want in (("simclr", True), ("deepcluster", True), ("moco", True), ("mae", False), ("byol_audio", False)):
        assert build(tiny(name)).objective.crops is want


def test_a_run_crops_from_larger_images_and_refreshes_on_its_own(photographs, monkeypatch):
    node = {"_target_": "sslzoo.data.image.ImageFolder", "path": str(photographs), "resolution": 48, **SHAPE}
    config = tiny("deepcluster", "trainer.max_steps=1", "objective.clusters=2", "objective.pca_dim=2")
    config["data"] = node | {"batch": {"_target_": "sslzoo.data.sampler.ByCount", "size": 4}}
    shapes, pixels_of = {"views": [], "encoder": []}, lambda images: (images.shape[-1], images.dtype)
    real, job = ImageViews.forward, build(config)
    monkeypatch.setattr(
        ImageViews, "forward", lambda s, x, *a: (shapes["views"].append(pixels_of(x)), real(s, x, *a))[1]
    )
    job.encoder.register_forward_pre_hook(lambda _, given: shapes["encoder"].append(pixels_of(given[0])))
    (photographs / "run").mkdir()
    assert pretrain(job, Run(photographs / "run"))
    assert set(shapes["views"]) == {(48, torch.uint8)}
    assert {side for side, _ in shapes["encoder"]} == {16}, "views and what is refreshed on are of data.size"
    assert (16, torch.uint8) in shapes["encoder"], "refreshed on pictures that nothing was cropped from"
