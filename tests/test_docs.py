"""The programs of the documentation run as printed, and print what is printed below them."""

import doctest
import importlib.util
import os
import re
import shlex
import shutil
import tomllib
import warnings
from pathlib import Path
from typing import NamedTuple

import pytest

import pynn
from pynn import cli, ops
from pynn.graph import OPERATORS

DOCS = Path(__file__).parents[1] / "docs"
NEEDS = ("a C++ compiler", "onnx")
BLOCK = re.compile(
    r"(?P<needs>^<!-- [^\n]* -->\n)?"
    r"^```(?P<kind>python|sh)\n(?P<source>.*?)^```$"
    r"(?:\n\n```text\n(?P<output>.*?)^```$)?",
    re.DOTALL | re.MULTILINE,
)
# What `.ci/wheels` runs, as the pages have it.
OF_CI = {
    'pip install ".[run]"\n',
    "pip wheel --no-deps -w dist .\nexport PIP_FIND_LINKS=$PWD/dist\n",
    'pip install "./my-softsign[test]"\npytest my-softsign\n',
    "sha256sum --check --ignore-missing SHA256SUMS\n",
}
PAGES = sorted(path.relative_to(DOCS).as_posix() for path in DOCS.rglob("*.md"))


class Block(NamedTuple):
    """A block of code; output is None where the page does not say what it prints."""

    line: int
    kind: str
    source: str
    output: str | None
    needs: str | None


def blocks(page):
    text = (DOCS / page).read_text(encoding="utf-8")
    for match in BLOCK.finditer(text):
        if match["kind"] == "python" or match["source"].startswith("pynn "):
            line = text.count("\n", 0, match.start("source")) + 1
            found = (match["needs"] or "").strip()
            needs = next((what for what in NEEDS if found == f"<!-- needs {what} -->"), None)
            yield Block(line, match["kind"], match["source"], match["output"], needs)


def run(block, page, namespace):
    if block.kind == "sh":
        for line in block.source.splitlines():
            assert cli.main(shlex.split(line, comments=True)[1:]) == 0, line
    else:
        padding = "\n" * (block.line - 1)  # so that tracebacks have the lines of the page
        exec(compile(padding + block.source, DOCS / page, "exec"), namespace)


def is_here(what):
    if what == "onnx":
        return importlib.util.find_spec("onnx") is not None
    return "CXX" in os.environ or any(map(shutil.which, ("c++", "g++", "clang++")))


@pytest.fixture(scope="module")
def cache(tmp_path_factory):
    folder = tmp_path_factory.mktemp("cache")
    folder.chmod(0o700)
    return folder


@pytest.fixture
def as_before(tmp_path, monkeypatch, cache):
    """A page runs in a folder of its own; its operators go, and threads are as before."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYNN_DATA", str(cache))
    known, threads = set(OPERATORS), pynn.get_num_threads()
    yield
    pynn.set_num_threads(threads)
    for name in set(OPERATORS) - known:
        ops.unregister(name)


@pytest.mark.parametrize("page", [page for page in PAGES if any(blocks(page))])
def test_page(page, capsys, as_before):
    namespace = {"__name__": "docs"}
    checker, flags = doctest.OutputChecker(), doctest.ELLIPSIS | doctest.NORMALIZE_WHITESPACE
    skipped = []
    for block in blocks(page):
        if block.needs and not is_here(block.needs):
            skipped.append(block.needs)
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            run(block, page, namespace)
        printed = capsys.readouterr().out
        if block.output is not None and not checker.check_output(block.output, printed, flags):
            pytest.fail(
                f"{page}:{block.line} printed\n{printed}\nwhere the page has\n{block.output}"
            )
    if skipped:
        pytest.skip(
            f"{len(skipped)} blocks need {skipped[0]}, which is not here; the others have run"
        )


def test_pages_are_found():
    assert {"index.md", "quickstart.md", "tutorial.md", "plans.md", "operators.md"} <= set(PAGES)


@pytest.mark.parametrize("page", PAGES)
def test_every_fence_is_of_a_known_kind(page):
    """A misspelt or indented fence would not be run."""
    text = (DOCS / page).read_text(encoding="utf-8")
    fences = re.findall(r"^([ \t]*)```(.*)$", text, re.MULTILINE)
    known = {"python", "sh", "bat", "text", "c", "cmake", "cython"}
    for (indent, kind), (_, end) in zip(fences[::2], fences[1::2], strict=True):
        assert (indent, end) == ("", "")
        assert kind in known
    found = sum(kind == "python" for _, kind in fences[::2])
    assert found == sum(block.kind == "python" for block in blocks(page))
    comments = re.findall(r"^<!--.*$", text, re.MULTILINE)
    assert len(comments) == sum(block.needs is not None for block in blocks(page))


def test_commands_that_are_not_run_here_are_run_by_ci():
    pages = [(DOCS / page).read_text(encoding="utf-8") for page in PAGES]
    commands = {match["source"] for text in pages for match in BLOCK.finditer(text)
                if match["kind"] == "sh" and not match["source"].startswith("pynn ")}  # fmt: skip
    assert commands == OF_CI


def test_windows_is_set_up_as_for_its_wheels():
    (block,) = re.findall(r"^```bat\n(.*?)^```$", (DOCS / "installing.md").read_text(), re.S | re.M)
    pyproject = tomllib.loads((DOCS.parent / "pyproject.toml").read_text())
    wheels = pyproject["tool"]["cibuildwheel"]["windows"]["environment"]
    *settings, install = block.splitlines()
    assert settings == [f"set {name}={value}" for name, value in wheels.items()]
    assert install + "\n" in OF_CI


def test_the_files_of_an_operator_are_all_named():
    root = DOCS.parent
    section = (DOCS / "operators.md").read_text(encoding="utf-8")
    section = section[section.index("## An operator in pynn itself") :]
    named = set(re.findall(r"`([\w/]+\.\w+)`", section))
    sources = [
        root / "CMakeLists.txt",
        *(root / "csrc").rglob("*.*"),
        *(root / "pynn").rglob("*.py*"),
    ]
    found = {
        path.relative_to(root).as_posix()
        for path in sources
        if path.suffix in {".txt", ".h", ".cpp", ".py", ".pyi"}
        and re.search("leaky_?relu", path.read_text(encoding="utf-8"), re.IGNORECASE)
    }
    assert named == found
    assert f"it is in {len(found)} files" in section
