import hashlib
import os
import shutil
import subprocess

import pytest

from pynn.data import check_manifest, find_manifest, write_manifest
from pynn.data.manifest import read_manifest
from pynn.errors import FormatError


@pytest.fixture
def folder(tmp_path):
    """Images s1/1.pgm, s1/2.pgm, s2/1.png; a manifest reads no image."""
    for name in ("s1/1.pgm", "s1/2.pgm", "s2/1.png"):
        path = tmp_path / "faces" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return tmp_path / "faces"


def test_a_manifest_is_what_sha256sum_writes(folder):
    path = write_manifest(folder)
    assert path == find_manifest(folder) == folder / "SHA256SUMS"
    lines = path.read_text().splitlines()
    assert lines[0] == f"{hashlib.sha256(b's1/1.pgm').hexdigest()}  s1/1.pgm"
    assert len(lines) == 3
    assert check_manifest(folder) == 3


def test_a_manifest_above_or_elsewhere(folder, tmp_path):
    assert find_manifest(folder) is None
    above = write_manifest(folder, tmp_path / "SHA256SUMS")
    assert find_manifest(folder) == above
    assert above.read_text().splitlines()[2].endswith("  faces/s2/1.png")
    with above.open("a") as file:
        file.write(f"{'0' * 64}  others/s1/1.pgm\n{'0' * 64} *faces/README\n")
    assert check_manifest(folder, above) == 3
    elsewhere = tmp_path / "out" / "sums"
    elsewhere.parent.mkdir()
    write_manifest(folder, elsewhere)
    assert elsewhere.read_text().splitlines()[2].endswith("  s2/1.png")
    assert check_manifest(folder, elsewhere) == 3


@pytest.mark.parametrize(
    "name", ["back\\slash", "two\nlines", "a\rb", "ä\x85\u2028\x1c", b"\xff\xfe"]
)
def test_any_name(folder, name):
    name = os.fsdecode(name) + ".png"
    (folder / "s2" / name).write_text("image")
    path = write_manifest(folder)
    assert check_manifest(folder) == 4
    assert set(read_manifest(path)) == {"s1/1.pgm", "s1/2.pgm", "s2/1.png", f"s2/{name}"}
    if shutil.which("sha256sum"):
        subprocess.run(["sha256sum", "--check", "--quiet", path], cwd=folder, check=True)
    (folder / "s2" / name).write_text("another")
    with pytest.raises(FormatError, match="changed"):
        check_manifest(folder)


def test_a_manifest_of_windows(folder):
    path = write_manifest(folder)
    path.write_bytes(path.read_bytes().replace(b"\n", b"\r\n"))
    assert check_manifest(folder) == 3


def test_what_differs_is_named(folder):
    write_manifest(folder)
    (folder / "s1" / "2.pgm").write_text("touched")
    with pytest.raises(
        FormatError, match=r"faces is not as .*SHA256SUMS has it: changed: s1/2\.pgm$"
    ):
        check_manifest(folder)
    (folder / "s1" / "2.pgm").rename(folder / "s1" / "3.pgm")
    with pytest.raises(FormatError, match=r"missing: s1/2\.pgm; unknown: s1/3\.pgm$"):
        check_manifest(folder)


def test_many_differences_are_counted(folder):
    write_manifest(folder)
    for number in range(10, 18):
        (folder / "s2" / f"{number}.jpg").write_text("new")
    with pytest.raises(FormatError, match=r"unknown: s2/10\.jpg.* s2/14\.jpg and 3 more$"):
        check_manifest(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("abc  s1/1.pgm\n", "line 1 is not a SHA-256 and a name: 'abc  s1/1.pgm'"),
        (f"{'0' * 64}  a\n\n", "line 2 is not"),
        (f"{'0' * 64}  a\n{'1' * 64}  a\n", "line 2 names a file again"),
        (f"{'0' * 64}\n", "line 1 is not"),
        (f"\\{'0' * 64}  a\\tb\n", "line 1 is not"),
    ],
)
def test_a_manifest_that_is_none(folder, text, message):
    (folder / "SHA256SUMS").write_text(text)
    with pytest.raises(FormatError, match=message):
        check_manifest(folder)


def test_real_faces(shared_data):
    faces = shared_data("orl-faces")
    manifest = find_manifest(faces)
    assert manifest.samefile(faces.parent / "SHA256SUMS")
    assert check_manifest(faces, manifest) == 400
