import numpy as np
import pytest
from PIL import Image

from sslzoo.data import pixels
from sslzoo.errors import UserError


def saved(image, path, **how):
    image.save(path, **how)
    return pixels.opened(path)


def test_grey_palette_and_colour_agree(tmp_path):
    red = Image.new("RGB", (8, 8), (200, 0, 0))
    for image in (saved(red, tmp_path / "a.png"), saved(red.quantize(4), tmp_path / "b.gif")):
        assert pixels.square(image, 4, 3, "x").reshape(3, -1).mean(1).tolist() == [200, 0, 0]
        assert pixels.square(image, 4, 1, "x").shape == (1, 4, 4)
    grey = saved(Image.new("L", (8, 8), 77), tmp_path / "c.png")
    assert (pixels.square(grey, 8, 3, "x") == 77).all() and (pixels.square(grey, 5, 1, "x") == 77).all()
    bits = saved(Image.new("1", (8, 8), 1), tmp_path / "d.png")
    assert (pixels.square(bits, 8, 1, "x") == 255).all()


@pytest.mark.parametrize("suffix", ["png", "tif", "pgm"])
def test_sixteen_bits_are_scaled_and_not_clipped(tmp_path, suffix):
    """Pillow's own conversion makes everything above 255 white."""
    image = saved(Image.fromarray(np.full((6, 6), 0x8000, np.uint16)), tmp_path / f"a.{suffix}")
    assert (pixels.square(image, 6, 1, "x") == 128).all()
    assert (pixels.square(image, 3, 3, "x") == 128).all()


def test_cmyk(tmp_path):
    image = saved(Image.new("CMYK", (8, 8), (255, 0, 0, 0)), tmp_path / "a.jpg", quality=100)
    assert image.mode == "CMYK"
    red, green, blue = pixels.square(image, 4, 3, "x").reshape(3, -1).mean(1)
    assert red < 10 and green > 245 and blue > 245


@pytest.mark.parametrize("mode, colour", [("RGBA", (9, 9, 9, 0)), ("LA", (9, 0))])
def test_what_is_transparent_is_white(tmp_path, mode, colour):
    image = saved(Image.new(mode, (8, 8), colour), tmp_path / "a.png")
    assert (pixels.square(image, 8, 3, "x") == 255).all() and (pixels.square(image, 8, 1, "x") == 255).all()


def test_a_transparent_colour_of_a_palette(tmp_path):
    image = Image.new("P", (4, 4), 1)
    image.putpalette([0, 0, 0, 50, 60, 70])
    image = saved(image, tmp_path / "a.png", transparency=1)
    assert (pixels.square(image, 4, 3, "x") == 255).all()


def test_orientation_is_taken_from_exif(tmp_path):
    upright = np.zeros((10, 10), np.uint8)
    upright[:5] = 255
    exif = Image.Exif()
    exif[0x0112] = 6  # to be turned right by a quarter
    Image.fromarray(np.rot90(upright)).save(tmp_path / "a.png", exif=exif)
    assert (pixels.square(pixels.opened(tmp_path / "a.png"), 10, 1, "x")[0] == upright).all()


@pytest.mark.parametrize("shape", [(1, 1), (1, 50), (50, 1)])
def test_one_pixel_is_enough(tmp_path, shape):
    image = saved(Image.fromarray(np.full(shape, 90, np.uint8)), tmp_path / "a.png")
    assert (pixels.square(image, 7, 3, "x") == 90).all()


@pytest.mark.parametrize("shape", [(40, 120), (120, 40)])
def test_the_middle_is_kept_and_made_small_without_aliasing(shape):
    array = np.zeros(shape, np.uint8)
    middle = tuple(slice((n - 40) // 2, (n + 40) // 2) for n in shape)
    array[middle] = (np.indices((40, 40)).sum(0) % 2 * 255).astype(np.uint8)
    got = pixels.square(Image.fromarray(array), 10, 1, "x")[0]
    # a chequerboard that is sampled and not averaged is black, white or a coarser chequerboard
    assert np.abs(got[1:-1, 1:-1].astype(int) - 127).max() <= 12


def test_a_picture_of_the_right_size_is_not_touched():
    array = np.random.default_rng(0).integers(0, 256, (9, 9, 3), np.uint8)
    assert (pixels.square(Image.fromarray(array), 9, 3, "x") == array.transpose(2, 0, 1)).all()


def test_bad_pictures_are_named(tmp_path):
    with pytest.raises(UserError, match="there is no file .*a.png"):
        pixels.inspect(tmp_path / "a.png")
    path = tmp_path / "b.jpg"
    path.touch()
    with pytest.raises(UserError, match=r"b.jpg is not a whole picture: it is empty \(0 bytes\)"):
        pixels.inspect(path)
    path.write_text("no picture")
    (tmp_path / "l.jpg").write_text("version https://git-lfs.github.com/spec/v1\noid sha256:00\nsize 9\n")
    with pytest.raises(UserError, match="l.jpg is a pointer of Git LFS and not the file itself"):
        pixels.inspect(tmp_path / "l.jpg")
    with pytest.raises(UserError, match="b.jpg is not a whole picture: cannot identify"):
        pixels.inspect(path)
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 256, (64, 64, 3), np.uint8))
    for suffix in ("jpg", "png"):
        path = tmp_path / f"c.{suffix}"
        noise.save(path)
        assert pixels.inspect(path) == (64, 64)
        path.write_bytes(path.read_bytes()[:-500])
        with pytest.raises(UserError, match=f"c.{suffix} is not a whole picture: "):
            pixels.inspect(path)
    path = tmp_path / "d.tif"
    Image.fromarray(np.full((4, 4), np.nan, np.float32)).save(path)
    with pytest.raises(UserError, match="d.tif has pixels that are not finite"):
        pixels.inspect(path)


@pytest.mark.parametrize(
    "values, kind, want",
    [
        ([0, 1024, 4095], np.uint16, [0, 64, 255]),  # 12 bits, as of an X-ray
        ([0, 128, 255], np.uint16, [0, 128, 255]),
        ([0, 2048, 4095], np.int32, [0, 128, 255]),
        ([0, 1 << 15, 65535], np.int32, [0, 128, 255]),
        ([0, 1 << 22, (1 << 23) - 1], np.int32, [0, 64, 127]),
        ([-1000, 0, 1000], np.int32, [0, 128, 255]),  # as of a CT scan
        ([0, 0.5, 1], np.float32, [0, 128, 255]),
        ([0, 127.5, 255], np.float32, [0, 127, 255]),
        ([-1, 0, 1], np.float32, [0, 128, 255]),
        ([0, 0, 0], np.int32, [0, 0, 0]),
        ([-5, -5, -5], np.float32, [0, 0, 0]),
    ],
)
def test_numbers_of_any_range_are_grey_and_not_black(tmp_path, values, kind, want):
    image = saved(Image.fromarray(np.array([values] * 3, kind)), tmp_path / "a.tif")
    assert pixels.square(image, 3, 1, "x")[0, 0].tolist() == want
    assert pixels.inspect(tmp_path / "a.tif", "headers") == (3, 3)


def test_a_huge_picture_is_decoded_small_and_one_above_the_limit_is_refused(tmp_path):
    Image.new("L", (14_000, 14_000), 90).save(tmp_path / "a.jpg", quality=50)
    limit = Image.MAX_IMAGE_PIXELS
    assert pixels.inspect(tmp_path / "a.jpg", "headers") == (14_000, 14_000)
    assert Image.MAX_IMAGE_PIXELS == limit
    for read in (pixels.opened, pixels.inspect):
        with pytest.raises(UserError, match="a.jpg has 14000 x 14000 pixels, more than data.max_pixels=1000 —"):
            read(tmp_path / "a.jpg", most=1000)


@pytest.mark.parametrize("turned", [1, 6])
def test_a_jpeg_is_decoded_to_no_more_than_is_needed(tmp_path, turned):
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 256, (20, 30, 3), np.uint8))
    exif = Image.Exif()
    exif[0x0112] = turned
    picture.resize((1200, 800), Image.Resampling.BICUBIC).save(tmp_path / "a.jpg", exif=exif, quality=95)
    whole = pixels.opened(tmp_path / "a.jpg")
    for least, side in ((None, 800), (900, 800), (800, 800), (401, 800), (400, 400), (128, 200), (3, 100)):
        found = pixels.opened(tmp_path / "a.jpg", least)
        assert min(found.size) == side
        if least:
            got, want = (pixels.square(image, min(least, 64), 3, "a").astype(int) for image in (found, whole))
            assert np.abs(got - want).mean() < 3
    picture.save(tmp_path / "b.png")
    assert pixels.opened(tmp_path / "b.png", 2).size == (30, 20)
