import io
import struct
import sys
import zlib

import numpy as np
import pytest

from pynn.data import read_image, resize
from pynn.errors import DTypeError, FormatError, MissingExtraError, ShapeError

Image = pytest.importorskip("PIL.Image", reason="needs Pillow: pip install Pillow")

GREY = (np.arange(6 * 4, dtype=np.uint8) * 10).reshape(6, 4)
COLOUR = np.stack([GREY, GREY[::-1], 255 - GREY])


def pgm(pixels):
    height, width = pixels.shape
    return b"P5\n%d %d\n255\n" % (width, height) + pixels.tobytes()


def encoded(pixels, kind, **options):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return buffer.getvalue()


def written(tmp_path, content, name="image"):
    (tmp_path / name).write_bytes(content)
    return tmp_path / name


def test_pgm_bytes_are_the_pixels(tmp_path):
    image = read_image(written(tmp_path, pgm(GREY)))
    assert image.dtype == np.uint8
    np.testing.assert_array_equal(image, GREY[np.newaxis])


@pytest.mark.parametrize("kind", ["PNG", "PPM"])
def test_lossless_colours(tmp_path, kind):
    path = written(tmp_path, encoded(np.ascontiguousarray(COLOUR.transpose(1, 2, 0)), kind))
    np.testing.assert_array_equal(read_image(path, channels=3), COLOUR)
    grey = (COLOUR * np.array([0.299, 0.587, 0.114])[:, None, None]).sum(0)
    assert np.abs(read_image(path)[0] - grey).max() <= 1


def test_grey_as_rgb_has_three_equal_planes(tmp_path):
    image = read_image(written(tmp_path, encoded(GREY, "PNG")), channels=3)
    np.testing.assert_array_equal(image, np.stack([GREY] * 3))


def test_jpeg_is_near(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8) * 4
    image = read_image(written(tmp_path, encoded(smooth, "JPEG", quality=95)))
    assert np.abs(image[0].astype(int) - smooth).max() <= 4


def test_photographs_are_turned_upright(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate a quarter clockwise to view
    block = np.zeros((16, 32), np.uint8)
    block[:8] = 200
    path = written(tmp_path, encoded(block, "JPEG", exif=exif, quality=95))
    image = read_image(path)[0]
    assert image.shape == (32, 16)
    assert image[:, 9:].min() > 150
    assert image[:, :7].max() < 50


def test_resizing_averages_and_keeps_a_constant(tmp_path):
    assert (read_image(written(tmp_path, pgm(np.full((40, 30), 77, np.uint8))), size=8) == 77).all()
    checks = np.indices((32, 32)).sum(0) % 2 * 200
    small = read_image(written(tmp_path, pgm(checks.astype(np.uint8))), size=(8, 16))
    assert small.shape == (1, 8, 16)
    assert np.abs(small[0, 1:-1, 1:-1].astype(int) - 100).max() <= 1  # no checks: no aliasing


def test_resize_is_that_of_reading(tmp_path):
    path = written(tmp_path, pgm(GREY))
    whole = read_image(path)[np.newaxis]
    for size in (3, (5, 9), (6, 4)):
        np.testing.assert_array_equal(resize(whole, size)[0], read_image(path, size=size))
        three = resize(whole, size, channels=3)
        np.testing.assert_array_equal(three[0], read_image(path, size=size, channels=3))
    grey = resize(COLOUR[np.newaxis], (6, 4), channels=1)
    assert grey.shape == (1, 1, 6, 4)


def test_resize_without_change_needs_no_pillow(monkeypatch):
    monkeypatch.setitem(sys.modules, "PIL", None)
    images = GREY.reshape(1, 1, 6, 4)
    result = resize(images, (6, 4), channels=3)
    result[:] = 0  # a copy
    assert images.max() > 0
    with pytest.raises(MissingExtraError, match=r"pynn-core\[run\]"):
        resize(images, 3)


def test_resize_refuses():
    with pytest.raises(DTypeError, match="uint8, got float64"):
        resize(np.zeros((1, 1, 2, 2)), 2)
    with pytest.raises(ShapeError, match=r"got \(1, 2, 2, 2\)"):
        resize(np.zeros((1, 2, 2, 2), np.uint8), 2)
    with pytest.raises(ValueError, match="channels must be 1"):
        resize(np.zeros((1, 1, 2, 2), np.uint8), 2, channels=2)
    with pytest.raises(ValueError, match="size must be 1 or more, got 0"):
        resize(np.zeros((1, 1, 2, 2), np.uint8), 0)


def png_of(width, height):
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = [(b"IHDR", header), (b"IDAT", zlib.compress(b"\0")), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )


PNG = encoded(GREY, "PNG")
JPEG = encoded(np.zeros((64, 64), np.uint8) + GREY[0, 1], "JPEG")
CORRUPT = {
    "empty": b"",
    "text": b"this is no image\n" * 10,
    "pgm_cut": pgm(GREY)[:-1],
    "pgm_without_size": b"P5\n",
    "pgm_negative_size": b"P5\n-4 6\n255\n" + GREY.tobytes(),
    "pgm_letters_as_size": b"P5\nab cd\n255\n" + GREY.tobytes(),
    "png_cut": PNG[: len(PNG) // 2],
    "png_wrong_sum": PNG[:30] + bytes([PNG[30] ^ 255]) + PNG[31:],
    "png_header_alone": PNG[:33],
    "jpeg_cut": JPEG[: len(JPEG) // 2],
    "gif_is_not_read": encoded(GREY, "GIF"),
    "sixteen_bits": encoded(GREY.astype(np.uint16) * 256, "PNG"),
    "a_hundred_thousand_squared": png_of(100_000, 100_000),
    "size_zero": png_of(0, 5),
}


@pytest.mark.parametrize("content", CORRUPT.values(), ids=CORRUPT)
def test_corrupt_images_are_named(tmp_path, content):
    with pytest.raises(FormatError, match=r"s7\.pgm: .+"):
        read_image(written(tmp_path, content, "s7.pgm"))


def test_limit_of_pixels(tmp_path):
    path = written(tmp_path, pgm(GREY))
    assert read_image(path, limit=24).shape == (1, 6, 4)
    with pytest.raises(FormatError, match="4 x 6 pixels exceed the limit of 23"):
        read_image(path, limit=23)


@pytest.mark.parametrize("seed", range(60))
def test_damaged_images_give_an_image_or_an_error_that_names_them(tmp_path, seed):
    rng = np.random.default_rng(seed)
    content = bytearray((PNG, JPEG, pgm(GREY))[seed % 3])
    for place in rng.integers(0, len(content), rng.integers(1, 6)):
        content[place] = rng.integers(256)
    path = written(tmp_path, bytes(content), "face.png")
    try:
        outcome = f"face.png has {read_image(path).ndim} axes"
    except FormatError as error:
        outcome = str(error)
    assert "face.png" in outcome


def test_missing_file_and_missing_pillow(tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match="nowhere"):
        read_image(tmp_path / "nowhere.pgm")
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(MissingExtraError, match="Pillow"):
        read_image(written(tmp_path, pgm(GREY)))
