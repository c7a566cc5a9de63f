import shutil

import numpy as np
import pytest

from pynn.data import list_images, read_image_folder
from pynn.errors import FormatError, ShapeError

pytest.importorskip("PIL", reason="needs Pillow: pip install Pillow")


def write(path, value, shape=(3, 2)):
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.full(shape, value, np.uint8)
    path.write_bytes(b"P5\n%d %d\n255\n" % shape[::-1] + pixels.tobytes())


@pytest.fixture
def folder(tmp_path):
    """Three people: s1 with two images, s2 with one, s10 with three."""
    for person, images in ((1, (10, 2)), (10, (1, 2, 3)), (2, (7,))):
        for image in images:
            write(tmp_path / "faces" / f"s{person}" / f"{image}.pgm", person * 10 + image)
    return tmp_path / "faces"


def test_people_and_images_come_in_the_order_of_counting(folder):
    (folder / "README").write_text("not an image")
    (folder / ".git").mkdir()
    (folder / "s2" / "notes.txt").write_text("not an image")
    (folder / "s2" / "._7.pgm").write_text("left by another system")
    found = read_image_folder(folder)
    assert found.name == "faces"
    assert found.classes == ("s1", "s2", "s10")
    assert found.files == (
        "s1/2.pgm", "s1/10.pgm", "s2/7.pgm", "s10/1.pgm", "s10/2.pgm", "s10/3.pgm",
    )  # fmt: skip
    assert found.labels.tolist() == [0, 0, 1, 2, 2, 2]
    assert found.images.shape == (6, 1, 3, 2)
    assert found.images[:, 0, 0, 0].tolist() == [12, 20, 27, 101, 102, 103]


def test_names_may_have_digits_of_any_script(folder):
    (folder / "s2").rename(folder / "²")
    assert [name for name, _ in list_images(folder)] == ["s1", "s10", "²"]


def test_size_and_channels(folder):
    write(folder / "s1" / "3.PGM", 5, shape=(8, 8))
    assert read_image_folder(folder, size=4, channels=3).images.shape == (7, 3, 4, 4)
    with pytest.raises(ShapeError, match=r"s1/3\.PGM has 8 x 8 pixels, but s1/2\.pgm has 3 x 2"):
        read_image_folder(folder)


def test_what_is_wrong_is_named(folder, tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere does not exist"):
        list_images(tmp_path / "nowhere")
    with pytest.raises(NotADirectoryError, match=r"2\.pgm is not a folder"):
        list_images(folder / "s1" / "2.pgm")
    with pytest.raises(FormatError, match="s1: expected one subfolder of images for each class"):
        list_images(folder / "s1")
    (folder / "s3").mkdir()
    with pytest.raises(FormatError, match=r"s3: no images \(expected \.jpeg"):
        read_image_folder(folder)
    shutil.rmtree(folder / "s3")
    (folder / "s2" / "7.pgm").write_bytes(b"P5 damaged")
    with pytest.raises(FormatError, match=r"s2/7\.pgm: not a readable"):
        read_image_folder(folder)


def test_real_faces(shared_data):
    found = read_image_folder(shared_data("orl-faces"))
    assert found.images.shape == (400, 1, 112, 92)
    assert found.classes == tuple(f"s{number}" for number in range(1, 41))
    assert np.bincount(found.labels).tolist() == [10] * 40
    assert found.files[9:11] == ("s1/10.pgm", "s2/1.pgm")
