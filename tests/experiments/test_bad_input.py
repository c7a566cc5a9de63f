"""What is wrong with a user's files ends in one line that names it, and nothing is lost."""

import shutil

import numpy as np
import pytest

from pynn import cli, io
from pynn.models import AlexNetFeatures


def run(out, *arguments):
    return cli.main(["run", *map(str, arguments), "--epochs", "1", "--quiet", "--out", str(out)])


@pytest.fixture(scope="module")
def results_of_digits(tmp_path_factory):
    out = tmp_path_factory.mktemp("results") / "out"
    assert run(out, "faces", "--quick", "--jobs", 1) == 0
    return out


@pytest.fixture
def out(results_of_digits, tmp_path):
    """The folder of an earlier run, with its report and its runs."""
    return shutil.copytree(results_of_digits, tmp_path / "out")


@pytest.fixture
def refused(out, capfd):
    """Runs a command into the earlier run's folder; checks that it fails with one line and that
    the files that were there, or those of a folder, are as they were; gives the line."""

    def check(*arguments, into=out, kept_in=out, jobs=1):
        kept = files(kept_in)
        assert any(path.parent.parent == out / "runs" for path in kept)
        capfd.readouterr()
        assert run(into, *arguments, "--jobs", jobs) == 2
        captured = capfd.readouterr()
        assert captured.out == ""
        assert captured.err.startswith("pynn: ")
        assert captured.err.endswith("\n")
        assert captured.err.count("\n") == 1
        assert kept.items() <= files(kept_in).items()
        return captured.err

    return check


def files(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("study", ["faces", "transfer"])
def test_a_folder_of_faces_that_is_not_there(study, refused, tmp_path):
    line = refused(study, "--faces", tmp_path / "nobody")
    assert f"the folder of faces {tmp_path / 'nobody'} does not exist" in line


def test_a_person_with_too_few_images(refused, faces):
    for number in (1, 2, 3):
        (faces / "s2" / f"{number}.pgm").unlink()
    line = refused("faces", "--faces", faces)
    assert "class s2 has too few rows: 2, where 3 parts of at least one row need 3" in line


def test_a_person_without_images(refused, faces):
    (faces / "s5").mkdir()
    assert f"{faces / 's5'}: no images" in refused("faces", "--faces", faces)


@pytest.mark.parametrize("size", [60, 5, 0], ids=["pixels", "head", "all"])
def test_an_image_that_was_cut(size, refused, faces):
    image = faces / "s3" / "4.pgm"
    image.write_bytes(image.read_bytes()[:size])
    line = refused("faces", "--faces", faces)
    assert f"{image}: not a readable PGM, PPM, PNG or JPEG image" in line


def test_images_that_are_not_as_in_the_manifest(refused, out, faces):
    assert run(out, "faces", "--quick", "--jobs", 1, "--faces", faces) == 0
    image = faces / "s3" / "4.pgm"
    content = bytearray(image.read_bytes())
    content[-1] ^= 1
    image.write_bytes(content)
    line = refused("faces", "--faces", faces)
    assert f"{faces} is not as {out / 'SHA256SUMS'} has it: changed: s3/4.pgm\n" in line
    (faces / "s1" / "2.pgm").rename(faces / "s1" / "6.pgm")
    line = refused("faces", "--faces", faces)
    assert "changed: s3/4.pgm; missing: s1/2.pgm; unknown: s1/6.pgm\n" in line


WRONG_STATES = {
    "missing": (
        {"features.6.bias": None},
        "does not hold the weights of AlexNetFeatures: missing features.6.bias",
    ),
    "extra": (
        {"features.11.weight": np.zeros(3, np.float32)},
        "does not hold the weights of AlexNetFeatures: unknown features.11.weight",
    ),
    "misshaped": (
        {"features.3.weight": np.zeros((192, 64, 3, 3), np.float32)},
        "features.3.weight must have shape (192, 64, 5, 5), got (192, 64, 3, 3)",
    ),
}


@pytest.fixture
def weights(tmp_path):
    """Saves a state dict with some tensors exchanged, or left out."""

    def save(changed):
        state = {**AlexNetFeatures(convolutions=4).state_dict(), **changed}
        path = tmp_path / "mine.safetensors"
        io.save(path, {name: value for name, value in state.items() if value is not None})
        return path

    return save


@pytest.mark.parametrize(("changed", "words"), WRONG_STATES.values(), ids=WRONG_STATES)
def test_a_state_dict_that_is_not_alexnets(changed, words, refused, faces, weights):
    path = weights(changed)
    line = refused("transfer", "--faces", faces, "--weights", path)
    assert f"{path}" in line
    assert words in line


def test_a_mistake_that_another_process_finds(refused, faces, weights):
    changed, words = WRONG_STATES["missing"]
    path = weights(changed)
    assert words in refused("transfer", "--faces", faces, "--weights", path, jobs=2)


def test_weights_that_are_cut_or_not_there(refused, faces, weights, tmp_path):
    path = weights({})
    path.write_bytes(path.read_bytes()[:-1])
    assert f"{path}" in refused("transfer", "--faces", faces, "--weights", path)
    line = refused("transfer", "--faces", faces, "--weights", tmp_path / "none.pth")
    assert f"the file of AlexNet's weights {tmp_path / 'none.pth'} does not exist" in line
    line = refused("transfer", "--squeezenet", tmp_path / "none.npz")
    assert f"the file of SqueezeNet's weights {tmp_path / 'none.npz'} does not exist" in line


@pytest.mark.parametrize("below", [".", "results"])
def test_results_that_have_no_folder(below, refused, tmp_path):
    (tmp_path / "file").write_text("mine")
    assert f"{tmp_path / 'file'}" in refused("faces", "--quick", into=tmp_path / "file" / below)
    assert (tmp_path / "file").read_text() == "mine"


def test_a_report_that_cannot_be_written(out, refused):
    (out / "report.html").unlink()
    (out / "report.html").mkdir()
    line = refused("faces", "--quick", kept_in=out / "runs")
    assert f"cannot write {out / 'report.html'}: it is not a regular file" in line


def test_a_folder_that_was_mended_is_read(refused, out, faces):
    image = faces / "s3" / "4.pgm"
    whole = image.read_bytes()
    image.write_bytes(whole[:60])
    refused("faces", "--faces", faces)
    assert not (out / "SHA256SUMS").exists()
    image.write_bytes(whole)
    assert run(out, "faces", "--quick", "--jobs", 1, "--faces", faces) == 0
    assert (out / "SHA256SUMS").exists()
