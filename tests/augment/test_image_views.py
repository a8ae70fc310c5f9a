"""Views of images against torchvision's functions, and what each row draws for itself."""

import pytest
import torch
import torchvision.transforms.functional as T
from conftest import tiny

from sslzoo import rng
from sslzoo.augment import image_views
from sslzoo.augment.image_views import ImageViews
from sslzoo.build import build
from sslzoo.errors import ConfigError


def images(n: int = 4, size: int = 16, channels: int = 3) -> torch.Tensor:
    return torch.rand(n, channels, size, size, generator=torch.Generator().manual_seed(0))


def keys_of(n: int, step: int = 0) -> torch.Tensor:
    return torch.tensor([rng.derive_seed(0, step, row) for row in range(n)])


def halves(**chosen) -> torch.Tensor:
    """The draws of `jittered`, all in the middle of their range but those chosen."""
    u = torch.full((1, 4), 0.5)
    for name, value in chosen.items():
        u[0, ["brightness", "contrast", "saturation", "hue"].index(name)] = value
    return u


@pytest.mark.parametrize("turn", [-0.5, -0.31, -0.05, 0.0, 0.02, 0.2, 0.5])
def test_hue(turn):
    x = images()
    x[0, :, 0] = torch.tensor([0.0, 1.0, 0.5]).view(3, 1)  # saturated and grey pixels too
    x[1, :, 0], x[1, :, 1], x[1, :, 2] = 0.4, 0.0, 1.0
    torch.testing.assert_close(
        image_views.shift_hue(x, torch.full((4,), turn)), T.adjust_hue(x, turn), atol=2e-5, rtol=0
    )


def test_hue_turns_each_row_by_its_own():
    x = images()
    turned = image_views.shift_hue(x, torch.tensor([0.0, 0.1, 0.2, -0.3]))
    for row, turn in enumerate((0.0, 0.1, 0.2, -0.3)):
        torch.testing.assert_close(turned[row], T.adjust_hue(x[row], turn), atol=2e-5, rtol=0)


def test_gray():
    torch.testing.assert_close(image_views.gray(images()), T.rgb_to_grayscale(images()), atol=2e-4, rtol=0)
    one = images(channels=1)
    assert image_views.gray(one) is one


@pytest.mark.parametrize("u", [0.0, 0.2, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("name", ["brightness", "contrast", "saturation"])
def test_jitter_factors(name, u):
    """u in 0..1 is a factor of 1 - 0.8 s to 1 + 0.8 s."""
    factor = 1 + 0.8 * 0.9 * (2 * u - 1)
    expected = getattr(T, f"adjust_{name}")(images(1), factor)
    torch.testing.assert_close(
        ImageViews(jitter=0.9).jittered(images(1), halves(**{name: u})), expected, atol=5e-4, rtol=0
    )


@pytest.mark.parametrize("u", [0.0, 0.3, 1.0])
def test_jitter_of_hue(u):
    expected = T.adjust_hue(images(1), 0.2 * 0.5 * (2 * u - 1))
    torch.testing.assert_close(ImageViews(jitter=0.5).jittered(images(1), halves(hue=u)), expected, atol=2e-5, rtol=0)


def test_jitter_of_one_channel():
    found = ImageViews().jittered(images(1, channels=1), halves(brightness=0.8, saturation=0.9, hue=0.9))
    torch.testing.assert_close(found, (images(1, channels=1) * (1 + 0.8 * 0.6)).clamp(0, 1))


@pytest.mark.parametrize("kernel", [3, 5, 9])
def test_blur(kernel):
    sigma = torch.tensor([0.1, 0.7, 1.3, 2.0])
    blurred = image_views.blur(images(), sigma, kernel)
    for row in range(4):
        expected = T.gaussian_blur(images()[row], kernel, float(sigma[row]))
        torch.testing.assert_close(blurred[row], expected, atol=1e-5, rtol=0)


def crop(maker: ImageViews, x, area=0.5, aspect=0.5, left=0.5, top=0.5, flip=1.0):
    rows = [torch.full((len(x),), float(value)) for value in (area, aspect, left, top, flip, 0.5)]
    return maker.crop(x, *rows)


def test_a_whole_crop_is_the_image_and_a_flip_its_mirror():
    maker = ImageViews(scale=[1.0, 1.0], ratio=[1.0, 1.0])
    torch.testing.assert_close(crop(maker, images()), images(), atol=1e-5, rtol=0)
    torch.testing.assert_close(crop(maker, images(), flip=0.0), T.hflip(images()), atol=1e-5, rtol=0)


@pytest.mark.parametrize(("left", "top"), [(0.0, 0.0), (0.5, 0.25), (1.0, 1.0)])
def test_crop_is_torchvisions(left, top):
    """A quarter of the image, whose corner falls on a pixel. Beyond the crop's edge we see the image go on,
    where torchvision repeats the edge."""
    maker = ImageViews(scale=[0.25, 0.25], ratio=[1.0, 1.0])
    expected = T.resized_crop(images(), int(8 * top), int(8 * left), 8, 8, [16, 16], antialias=False)
    found = crop(maker, images(), left=left, top=top)
    torch.testing.assert_close(found[..., 1:-1, 1:-1], expected[..., 1:-1, 1:-1], atol=1e-4, rtol=0)


def test_crops_keep_to_their_area_and_aspect():
    """An image whose red and green say where a pixel is shows what part of it a view holds."""
    size, n = 64, 400
    place = (torch.arange(size) + 0.5) / size
    x = torch.stack([place.expand(size, size), place[:, None].expand(size, size), torch.zeros(size, size)])
    maker = ImageViews(scale=[0.2, 0.6], ratio=[0.75, 4 / 3], jitter=0, gray=0, blur=0)
    seen = maker(x.expand(n, -1, -1, -1), keys_of(n), "a")
    middle = seen[:, :, size // 2]
    columns = middle[:, 0]
    width = (columns[:, -1] - columns[:, 0]).abs() * size / (size - 1)
    height = (seen[:, 1, -1, 0] - seen[:, 1, 0, 0]) * size / (size - 1)
    area, aspect = width * height, width / height
    assert area.min() > 0.19 and area.max() < 0.61 and float(area.std()) > 0.1
    assert float(area.mean()) == pytest.approx(0.4, abs=0.03)
    assert aspect.min() > 0.73 and aspect.max() < 1.36
    assert float(aspect.log().mean()) == pytest.approx(0, abs=0.03)
    flipped = (columns[:, 0] > columns[:, -1]).float().mean()
    assert float(flipped) == pytest.approx(0.5, abs=0.1)
    lefts = columns.amin(1)
    assert lefts.min() < 0.03 and columns.amax() > 0.97, "crops reach both ends"


@pytest.mark.parametrize("channels", [1, 3])
def test_views_are_images(channels):
    maker, x = ImageViews(), (images(32, channels=channels) * 255).to(torch.uint8)
    a, b = maker(x, keys_of(32), "view a"), maker(x, keys_of(32), "view b")
    assert a.shape == x.shape and a.dtype == torch.float32
    assert a.min() >= 0 and a.max() <= 1 and torch.isfinite(a).all()
    assert (a != b).flatten(1).any(1).all(), "two views of an image differ"
    assert torch.equal(a, maker(x, keys_of(32), "view a")), "the same key and name give the same view"
    assert (a != maker(x, keys_of(32, step=1), "view a")).flatten(1).any(1).all()
    torch.testing.assert_close(a, maker(x.float() / 255, keys_of(32), "view a"))


def test_a_view_is_its_rows_own():
    whole = ImageViews()(images(8), keys_of(8), "a")
    part = ImageViews()(images(8)[3:5], keys_of(8)[3:5], "a")
    torch.testing.assert_close(part, whole[3:5], atol=1e-6, rtol=0)


def test_chances():
    x, n = images(1, 8).expand(500, -1, -1, -1), 500

    def share(**only):
        base = {"scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": 0, "jitter": 0, "gray": 0, "blur": 0}
        seen = ImageViews(**base | only)(x, keys_of(n), "a")
        return float(((seen - x).abs() > 1e-3).flatten(1).any(1).float().mean()), seen

    assert share()[0] == 0
    assert share(jitter=1.0)[0] == pytest.approx(0.8, abs=0.06)
    assert share(blur=0.3)[0] == pytest.approx(0.3, abs=0.07)  # the least blur, of sigma 0.1, leaves all as it is
    changed, seen = share(gray=0.2)
    assert changed == pytest.approx(0.2, abs=0.06)
    grey = (seen[:, 0] == seen[:, 1]).flatten(1).all(1)
    assert float(grey.float().mean()) == pytest.approx(changed)


def test_solarize_is_torchvisions():
    torch.testing.assert_close(image_views.solarize(images()), T.solarize(images(), 0.5))
    assert image_views.solarize(torch.tensor([0.2, 0.5, 0.9])).tolist() == pytest.approx([0.2, 0.5, 0.1])


def test_each_view_has_its_own_chances():
    """As BYOL's: a first view that is always blurred, and a second that is rarely, and sometimes solarised."""
    x, n = images(1, 12).expand(500, -1, -1, -1), 500
    maker = ImageViews(
        scale=[1.0, 1.0], ratio=[1.0, 1.0], flip=0, jitter=0, gray=0, blur=[1.0, 0.0], solarize=[0.0, 0.2]
    )
    a, b = (maker(x, keys_of(n), "a", number) for number in (0, 1))
    smoother = (a.diff(dim=-1).abs().mean((1, 2, 3)) < 0.99 * x.diff(dim=-1).abs().mean((1, 2, 3))).float().mean()
    assert float(smoother) > 0.85, "all but those of the least sigma"
    inverted = (b - image_views.solarize(x)).abs().flatten(1).amax(1) < 1e-4
    same = (b - x).abs().flatten(1).amax(1) < 1e-4
    assert (inverted | same).all()
    assert float(inverted.float().mean()) == pytest.approx(0.2, abs=0.06)


@pytest.mark.parametrize(
    ("objective", "colors", "blur", "solarize"),
    [
        ("simclr", [0.8, 0.8, 0.8, 0.2], [0.5, 0.5], [0, 0]),
        ("moco", [0.4, 0.4, 0.4, 0.1], [0.5, 0.5], [0, 0]),
        ("simsiam", [0.4, 0.4, 0.4, 0.1], [0.5, 0.5], [0, 0]),
        ("byol", [0.4, 0.4, 0.2, 0.1], [1, 0.1], [0, 0.2]),
        ("barlow", [0.4, 0.4, 0.2, 0.1], [1, 0.1], [0, 0.2]),
        ("vicreg", [0.4, 0.4, 0.2, 0.1], [1, 0.1], [0, 0.2]),
    ],
)
def test_the_views_of_a_method_are_its_papers(objective, colors, blur, solarize):
    maker = build(tiny(objective)).objective.views
    assert [*maker.factors, maker.hue] == pytest.approx(colors)
    assert maker.chances["blur"] == blur and maker.chances["solarize"] == solarize
    assert maker.chances["flip"] == [0.5, 0.5] and maker.chances["gray"] == [0.2, 0.2]


def test_another_size():
    assert ImageViews(size=24)(images(), keys_of(4), "a").shape == (4, 3, 24, 24)


@pytest.mark.parametrize(
    ("bad", "name"),
    [
        ({"scale": [0, 1]}, "scale"),
        ({"scale": [0.9, 0.5]}, "scale"),
        ({"flip": 1.2}, "flip"),
        ({"blur": -0.1}, "blur"),
        ({"blur": [0.1, 0.2, 0.3]}, "blur"),
        ({"solarize": [0.0, 1.1]}, "solarize"),
        ({"jitter": -1.0}, "jitter"),
        ({"hue": 0.6}, "hue"),
    ],
)
def test_refuses_what_is_no_share(bad, name):
    with pytest.raises(ConfigError, match=f"views.{name}"):
        ImageViews(**bad)


def test_views_of_some_rows_at_a_time_are_those_of_all(monkeypatch):
    views, images, seeds = ImageViews(), torch.rand(7, 3, 16, 16), torch.arange(7)
    whole = views(images, seeds, "view a")
    monkeypatch.setattr(image_views, "CPU_PIXELS", 3 * 16**2)
    parts = views(images, seeds, "view a")
    torch.testing.assert_close(parts, whole, atol=1e-6, rtol=0)
