import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from pynn import ops
from pynn.graph import OPERATORS

HERE = Path(__file__).parent


@pytest.fixture(scope="session")
def pip_install():
    """Build a project as its user does, but without the network, and install it into a folder."""

    def install(project, target):
        if importlib.util.find_spec("scikit_build_core") is None:
            pytest.skip("scikit-build-core is not installed")
        if shutil.which("cmake") is None:
            pytest.skip("cmake not found")
        command = [
            sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation", "--no-deps",
            "--no-index", "--disable-pip-version-check", "--target", str(target), str(project),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    return install


@pytest.fixture(scope="session")
def run_python():
    """Another Python, that finds the packages in a folder."""

    def run(*arguments, path, cwd, **environment):
        return subprocess.run(
            [sys.executable, *map(str, arguments)],
            capture_output=True, text=True, check=False, cwd=cwd,
            env={**os.environ, "PYTHONPATH": str(path), "PYNN_NUM_THREADS": "1", **environment},
        )  # fmt: skip

    return run


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory):
    """What `load_inline` compiles is kept for the session only."""
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o700)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYNN_DATA", str(folder))
        yield folder


@pytest.fixture(scope="session")
def compiler():
    """Whether operators can be compiled at all."""
    if not any(map(shutil.which, ("c++", "g++", "clang++"))) and "CXX" not in os.environ:
        pytest.skip("there is no C++ compiler")


@pytest.fixture(scope="session")
def installed(tmp_path_factory, pip_install, compiler):
    """The folder that the project in project/ is installed in."""
    folder = tmp_path_factory.mktemp("examples")
    shutil.copytree(HERE / "project", folder / "source")
    pip_install(folder / "source", folder / "site")
    return folder / "site"


@pytest.fixture(scope="session")
def examples(installed):
    """The package of the project, imported."""
    sys.path.insert(0, str(installed))
    try:
        import pynn_examples

        yield pynn_examples
    finally:
        sys.path.remove(str(installed))
        for name in ("swish", "bias_swish_dropout", "box_filter"):
            ops.unregister(name)


@pytest.fixture(scope="session")
def documented():
    """The one block of a language in the documentation of operators."""
    text = (HERE.parents[1] / "docs" / "operators.md").read_text(encoding="utf-8")

    def block(language):
        (found,) = re.findall(rf"^```{language}\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
        return found

    return block


@pytest.fixture
def forget():
    """Operators that a test loads go when it is over."""
    before = set(OPERATORS)
    yield
    for name in set(OPERATORS) - before:
        ops.unregister(name)
