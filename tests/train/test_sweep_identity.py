"""What a kept run depends on."""

import functools
import importlib
import os
import subprocess
import sys

import pytest

from pynn.train.sweep import sweep

TEXT = """
FACTOR = {factor}

def times(setting, run):
    return {{"product": FACTOR * setting["value"]}}
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Writes and imports a module whose function multiplies by a constant of it."""
    monkeypatch.syspath_prepend(str(tmp_path))
    path = tmp_path / "multiplying.py"

    def write(factor):
        path.write_text(TEXT.format(factor=factor))
        os.utime(path, (factor, factor))
        sys.modules.pop("multiplying", None)
        importlib.invalidate_caches()
        return importlib.import_module("multiplying")

    yield write
    sys.modules.pop("multiplying", None)


def products(found):
    return [(result["product"], result["reused"]) for result in found]


def test_a_changed_constant_beside_the_function_runs_it_anew(module, tmp_path):
    settings, out = [{"value": 1}, {"value": 2}], tmp_path / "runs"

    def run(factor):
        return products(sweep(module(factor).times, settings, out, progress=False))

    assert run(3) == [(3, False), (6, False)]
    assert run(3) == [(3, True), (6, True)]
    assert run(50) == [(50, False), (100, False)]
    assert run(3) == [(3, True), (6, True)]


def test_a_function_of_an_interpreter_counts_by_its_own_text(tmp_path):
    namespace = {"__name__": "no_such_module"}
    path = tmp_path / "typed.py"
    path.write_text(TEXT.format(factor=3))
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    found = sweep(namespace["times"], [{"value": 2}], tmp_path / "runs", progress=False)
    assert products(found) == [(6, False)]


def adding(number):
    def run(setting, run):
        return {"product": setting["value"] + number, "reused": None}

    return run


def test_functions_of_one_name_are_told_apart_by_what_they_do_and_hold(tmp_path):
    def run(function):
        (result,) = sweep(function, [{"value": 2}], tmp_path / "runs", progress=False)
        return result["product"], result["reused"]

    assert run(adding(1)) == (3, False)
    assert run(adding(5)) == (7, False)
    assert run(adding(1)) == (3, True)
    doubled, squared = (
        lambda s, r: {"product": 2 * s["value"]},
        lambda s, r: {"product": s["value"] ** 3},
    )
    assert run(doubled) == (4, False)
    assert run(squared) == (8, False)
    assert run(doubled) == (4, True)


def test_what_is_no_function_is_refused(tmp_path):
    partial = functools.partial(lambda factor, setting, run: {"product": factor}, 3)
    with pytest.raises(TypeError, match="what a partial binds belongs into the settings"):
        sweep(partial, [{"value": 2}], tmp_path / "runs", progress=False)


MEMBER = """
import sys
from pynn.train.sweep import sweep

def member(setting, run):
    return {"inside": setting["value"] in {"a", "b", "c", "d", "e", "f"}}

if __name__ == "__main__":
    (result,) = sweep(member, [{"value": "a"}], sys.argv[1], progress=False)
    print(result["inside"], result["reused"])
"""


def test_results_are_found_again_by_another_process(tmp_path):
    (tmp_path / "member.py").write_text(MEMBER)
    command = [sys.executable, str(tmp_path / "member.py"), str(tmp_path / "runs")]
    said = [
        subprocess.run(
            command, env={**os.environ, "PYTHONHASHSEED": str(seed)}, check=True,
            capture_output=True, text=True,
        ).stdout
        for seed in range(3)
    ]  # fmt: skip
    assert said == ["True False\n", "True True\n", "True True\n"]
