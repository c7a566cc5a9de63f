"""`pynn new-op` writes a project that builds, installs and passes its own tests."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

import pynn
from pynn import cli


def test_from_an_empty_folder(tmp_path, capsys, pip_install, run_python, compiler):
    folder = tmp_path / "soft"
    assert cli.main(["new-op", "soft_bend", str(folder)]) == 0
    said = capsys.readouterr().out
    assert f"pip install {folder}" in said
    written = {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}
    assert written == {
        "pyproject.toml", "CMakeLists.txt", "README.md", ".gitignore", "src/soft_bend.cpp",
        "pynn_soft_bend/__init__.py", "tests/test_soft_bend.py",
    }  # fmt: skip
    assert not any("$" in (folder / name).read_text() for name in written)
    site = tmp_path / "site"
    pip_install(folder, site)
    (wheel,) = site.glob("*.dist-info/WHEEL")
    assert "Tag: py3-none-" in wheel.read_text()
    done = run_python(
        "-W", "error", "-m", "pytest", "-q", "-p", "no:cacheprovider", folder / "tests",
        path=site, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "3 passed" in done.stdout
    readme = (folder / "README.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```$", readme, re.DOTALL | re.MULTILINE)
    done = run_python("-W", "error", "-c", program, path=site, cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    done = run_python("-m", "pynn", "info", "--json", path=site, cwd=tmp_path)
    assert "soft_bend" in json.loads(done.stdout)["operators"]


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("relu", "cannot have an operator 'relu': the name is taken"),
        ("register", "the name is taken"),
        ("class", "the name is taken"),
        ("two words", "lower-case letters, digits and underscores, got 'two words'"),
        ("Swish", "lower-case letters"),
        ("größe", "lower-case letters"),
        ("../up", "lower-case letters"),
        ("_hidden", "the name is taken"),
        ("core", "its distribution would be pynn-core, which is pynn itself"),
        ("cmake", "its package would be pynn_cmake, which is pynn's own"),
        ("install", "CMake has a target of this name"),
    ],
)
def test_names_that_are_refused(tmp_path, capsys, name, words):
    assert cli.main(["new-op", name, str(tmp_path / "new")]) == 2
    assert words in capsys.readouterr().err
    assert not (tmp_path / "new").exists()


def test_a_folder_with_something_in_it_is_left_alone(tmp_path, capsys):
    (tmp_path / "mine").write_text("kept")
    assert cli.main(["new-op", "soft_bend", str(tmp_path)]) == 2
    assert "exists and is not an empty folder" in capsys.readouterr().err
    assert cli.main(["new-op", "soft_bend", str(tmp_path / "mine")]) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["mine"]


def test_an_older_or_other_pynn_is_refused_by_cmake(tmp_path, pip_install, compiler):
    cli.main(["new-op", "soft_bend", str(tmp_path / "soft")])
    lists = tmp_path / "soft" / "CMakeLists.txt"
    lists.write_text(lists.read_text().replace("find_package(pynn 1", "find_package(pynn 99"))
    with pytest.raises(AssertionError, match=r"compatible\s+with requested version"):
        pip_install(tmp_path / "soft", tmp_path / "site")


def test_plain_cmake_finds_pynn(tmp_path, compiler, documented):
    """With the lines that the documentation has for it."""
    source, build, installed = tmp_path / "source", tmp_path / "build", tmp_path / "installed"
    (source / "src").mkdir(parents=True)
    header = Path(__file__).parent / "project" / "src" / "swish.hpp"
    code = f'#include "{header.as_posix()}"\n\nPYNN_OPERATORS(Swish)\n'
    (source / "src" / "swish.cpp").write_text(code)
    (source / "CMakeLists.txt").write_text(
        "cmake_minimum_required(VERSION 3.21)\nproject(plain LANGUAGES CXX)\n" + documented("cmake")
    )
    for arguments in (
        ["-S", source, "-B", build, f"-Dpynn_DIR={pynn.get_cmake_dir()}"],
        ["--build", build],
        ["--install", build, "--prefix", installed],
    ):
        subprocess.run(["cmake", *arguments], check=True, capture_output=True)
    library = str(installed / "pynn_swish" / "swish")
    code = f"import pynn; print(pynn.load_library({library!r}))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "['swish']"
