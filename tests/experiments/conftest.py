import numpy as np
import pytest


def write_pgm(path, pixels):
    path.parent.mkdir(parents=True, exist_ok=True)
    height, width = pixels.shape
    path.write_bytes(b"P5\n%d %d\n255\n" % (width, height) + pixels.tobytes())


@pytest.fixture
def faces(tmp_path):
    """A folder of four people, s1 to s4, each with five images of 12 x 10 pixels: a bright band at
    a height that is the person's own, and noise."""
    rng = np.random.default_rng(0)
    for person in range(4):
        for number in range(5):
            pixels = rng.integers(0, 60, (12, 10), dtype=np.uint8)
            pixels[3 * person : 3 * person + 3] += 180
            write_pgm(tmp_path / "faces" / f"s{person + 1}" / f"{number + 1}.pgm", pixels)
    return tmp_path / "faces"
