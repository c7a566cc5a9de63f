"""Folders of images: what is read, in which order, and what is refused."""

import sys

import numpy as np
import pytest
from PIL import Image

import pynn
from pynn.data.image_folder import image_folder, split_each_class, write_manifest


@pytest.fixture
def folder(tmp_path):
    root = tmp_path / "people"
    rng = np.random.default_rng(0)
    for person in ("s10", "s2", "s1"):
        (root / person).mkdir(parents=True)
        for number, ending in ((10, "pgm"), (9, "png"), (1, "jpg")):
            pixels = rng.integers(0, 256, (6, 4, 3), dtype=np.uint8)
            image = Image.fromarray(pixels)
            (image.convert("L") if ending == "pgm" else image).save(
                root / person / f"{number}.{ending}"
            )
    (root / "notes.txt").write_text("not an image")
    (root / "s1" / "notes.txt").write_text("not an image")
    return root


def test_images_come_in_the_order_of_numbers(folder):
    found = image_folder(folder, (6, 4))
    assert found.classes == ("s1", "s2", "s10")
    assert found.paths[:4] == ("s1/1.jpg", "s1/9.png", "s1/10.pgm", "s2/1.jpg")
    assert found.labels.tolist() == [0, 0, 0, 1, 1, 1, 2, 2, 2]
    assert found.images.shape == (9, 1, 6, 4)
    assert found.images.dtype == np.uint8
    with Image.open(folder / "s2" / "10.pgm") as image:
        np.testing.assert_array_equal(found.images[5, 0], np.asarray(image))
    colours = image_folder(folder, (3, 5), grey=False)
    assert colours.images.shape == (9, 3, 3, 5)
    with Image.open(folder / "s1" / "9.png") as image:
        whole = image_folder(folder, (6, 4), grey=False).images[1]
        np.testing.assert_array_equal(whole, np.asarray(image).transpose(2, 0, 1))


def test_a_manifest_is_checked_before_anything_is_used(folder, tmp_path):
    manifest = tmp_path / "SHA256SUMS"
    write_manifest(folder, manifest)
    assert len(manifest.read_text().splitlines()) == 9
    image_folder(folder, (6, 4), manifest=manifest)
    manifest.write_text(
        "".join(f"{line[:66]}people/{line[66:]}\n" for line in manifest.read_text().splitlines())
    )
    image_folder(folder, (6, 4), manifest=manifest)
    changed = folder / "s2" / "9.png"
    Image.fromarray(np.zeros((6, 4, 3), np.uint8)).save(changed)
    with pytest.raises(
        pynn.FormatError, match=r"s2/9\.png has changed: its SHA-256 is [0-9a-f]{64}"
    ):
        image_folder(folder, (6, 4), manifest=manifest)
    Image.fromarray(np.zeros((6, 4, 3), np.uint8)).save(folder / "s1" / "2.png")
    with pytest.raises(pynn.FormatError, match=r"s1/2\.png is not listed in"):
        image_folder(folder, (6, 4), manifest=manifest)


def test_what_cannot_be_read(folder, tmp_path, monkeypatch):
    with pytest.raises(FileNotFoundError, match=r"there is no folder .*nowhere"):
        image_folder(tmp_path / "nowhere", (4, 4))
    (tmp_path / "empty" / "a").mkdir(parents=True)
    with pytest.raises(
        pynn.FormatError, match="has no images: expected a subfolder for each class"
    ):
        image_folder(tmp_path / "empty", (4, 4))
    good = (folder / "s2" / "9.png").read_bytes()
    for bad in (b"", b"P5 not a picture", good[: len(good) // 2]):
        (folder / "s2" / "9.png").write_bytes(bad)
        with pytest.raises(pynn.FormatError, match=r"s2/9\.png is not an image that can be read"):
            image_folder(folder, (6, 4))
    monkeypatch.setitem(sys.modules, "PIL", None)
    with pytest.raises(pynn.MissingExtraError, match="images need Pillow"):
        image_folder(folder, (6, 4))


def test_every_class_is_dealt_alike_and_no_row_twice():
    labels = np.repeat([2, 0, 1], 10)
    parts = split_each_class(labels, (6, 2, 1), 3)
    assert [len(part) for part in parts] == [18, 6, 3]
    assert len(set(np.concatenate(parts).tolist())) == 27
    for part, size in zip(parts, (6, 2, 1), strict=True):
        assert np.bincount(labels[part]).tolist() == [size] * 3
    again, other = (split_each_class(labels, (6, 2, 1), seed) for seed in (3, 4))
    np.testing.assert_array_equal(again[0], parts[0])
    assert other[0].tolist() != parts[0].tolist()
    with pytest.raises(ValueError, match=r"Bo has 10 images, but 11 are needed: 6 \+ 5"):
        split_each_class(labels, (6, 5), 0, ("Bo", "Mo", "Jo"))
