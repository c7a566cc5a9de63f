"""What a kept run depends on."""

import enum
import functools
import importlib
import io
import os
import subprocess
import sys
import threading
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from pynn.nn import ReLU
from pynn.train.sweep import sweep

TEXT = """
FACTOR = {factor}

def times(setting, run):
    return {{"product": FACTOR * setting["value"]}}

def times_by_another(setting, run):
    return {{"product": [factor() for _ in range(2)][1] * setting["value"]}}

def factor():
    return FACTOR

def twice(setting, run):
    return {{"product": scaled(setting["value"])}}

def scaled(value, by=2):
    return value * by

COUNT, SEEN = 0, []

def counted(setting, run):
    global COUNT
    COUNT += 1
    SEEN.append(COUNT)
    return {{"product": COUNT}}
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


def test_globals_count_by_their_values(module, tmp_path, monkeypatch):
    multiplying = module(3)

    def run(name):
        function = getattr(multiplying, name)
        (found,) = products(sweep(function, [{"value": 2}], tmp_path, progress=False))
        return found

    for name in ("times", "times_by_another"):
        for factor, product in ((3, 6), (5.0, 10.0), ("ab", "abab"), ((7,), [7, 7])):
            monkeypatch.setattr(multiplying, "FACTOR", factor)
            assert run(name) == (product, False)
            assert run(name) == (product, True)
    assert run("twice") == (4, False)
    monkeypatch.setattr(multiplying.scaled, "__defaults__", (10,))
    assert run("twice") == (20, False)


def test_globals_that_the_function_itself_changes_do_not_count(module, tmp_path):
    counted = module(3).counted
    for reused in (False, True):
        found = sweep(counted, [{"value": 2}], tmp_path, progress=False)
        assert products(found) == [(1, reused)]


PIXELS = np.arange(3)


def test_arrays_among_globals_count(tmp_path):
    def run(setting, run):
        return {"product": int(PIXELS.sum())}

    for first, expected in ((0, (3, False)), (4, (7, False)), (0, (3, True))):
        PIXELS[0] = first
        assert products(sweep(run, [{"value": 2}], tmp_path, progress=False)) == [expected]


def test_a_function_of_an_interpreter_counts_by_its_own_text(tmp_path):
    namespace = {"__name__": "no_such_module"}
    path = tmp_path / "typed.py"
    path.write_text(TEXT.format(factor=3))
    exec(compile(path.read_text(), str(path), "exec"), namespace)
    found = sweep(namespace["times"], [{"value": 2}], tmp_path / "runs", progress=False)
    assert products(found) == [(6, False)]


CLASSES = """
BY = {by}

class Base:
    def scaled(self, value):
        return value * {factor} * BY

class Scale(Base):
    pass

def run(setting, run):
    return {{"product": Scale().scaled(setting["value"])}}
"""


def test_classes_of_an_interpreter_count_by_what_they_do(tmp_path):
    text = "def run(setting, run):\n    return {'product': Scale().scaled(setting['value'])}\n"
    path = tmp_path / "typed.py"
    path.write_text(text)
    for factor, by, reused in ((2, 1, False), (3, 1, False), (3, 5, False), (2, 1, True)):
        namespace = {"__name__": "no_such_module"}
        classes = CLASSES.format(factor=factor, by=by)
        exec(classes[: classes.index("def run")], namespace)
        exec(compile(text, str(path), "exec"), namespace)
        found = sweep(namespace["run"], [{"value": 2}], tmp_path / "runs", progress=False)
        assert products(found) == [(2 * factor * by, reused)]


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


def around_a_closure(number):
    def inner():
        return number

    return lambda setting, run: {"product": inner()}


def around_a_default(number):
    def inner(number=number):
        return number

    return lambda setting, run: {"product": inner()}


def around_a_keyword(number):
    def inner(*, number=number):
        return number

    def middle():
        return inner()

    return lambda setting, run: {"product": middle()}


def around_a_class(number):
    class Inner:
        def number(self):
            return number

    return lambda setting, run: {"product": Inner().number()}


def around_a_class_below_another(number):
    class Outer:
        class Inner:
            @classmethod
            def number(cls):
                return cls and super().__class__ and number

    class Last(Outer.Inner):
        pass

    return lambda setting, run: {"product": Last.number()}


def around_a_property(number):
    class Inner:
        @property
        def number(self):
            return number

    return lambda setting, run: {"product": Inner().number}


def around_a_constant_of_a_class(number):
    kind = type("Inner", (), {"number": number, "lock": threading.Lock()})
    return lambda setting, run: {"product": kind.number}


def around_itself(number):
    def inner(left):
        return inner(left - 1) if left else number

    return lambda setting, run: {"product": inner(3)}


@pytest.mark.parametrize(
    "make",
    [
        around_a_closure, around_a_default, around_a_keyword, around_a_class,
        around_a_class_below_another, around_a_property, around_a_constant_of_a_class, around_itself,
    ],
)  # fmt: skip
def test_what_the_functions_around_a_function_hold_counts(make, tmp_path):
    for number, reused in ((1, False), (2, False), (1, True)):
        found = sweep(make(number), [{"value": 2}], tmp_path, progress=False)
        assert products(found) == [(number, reused)]


class Scale:
    def __init__(self, factor):
        self.factor = factor

    def times(self, setting, run):
        return {"product": self.factor * setting["value"]}


def test_what_is_no_function_is_refused(tmp_path):
    partial = functools.partial(lambda factor, setting, run: {"product": factor}, 3)
    for function in (partial, Scale(3).times):
        with pytest.raises(TypeError, match="what a partial binds belongs into the settings"):
            sweep(function, [{"value": 2}], tmp_path / "runs", progress=False)


class Colour(enum.Enum):
    RED, GREEN = 1, 2


@dataclass
class Pair:
    first: object
    second: object = None


MATRIX = np.arange(6.0).reshape(2, 3)
DIFFERENT = {
    "numbers": (1, 2.0, 1.0, True, None, 1j, np.float32(1), np.float64(1)),
    "texts": ("1", b"1", Path("1"), np.str_("1")),
    "arrays": (MATRIX, MATRIX.T, MATRIX.astype("f"), MATRIX + 1, np.float64(1), np.array(1.0)),
    "masks": [np.ma.array([1, 2], mask=mask) for mask in ([0, 0], [0, 1])],
    "enums": (*Colour, 1),
    "dataclasses": (Pair(1), Pair(2), Pair(1, MATRIX), Pair(Pair(1))),
    "containers": ([1, 2], [[1], 2], {1, 2}, {1: 2}, {2: 1}, {"1": 2}, [], {}, [MATRIX, 1]),
    "classes_and_functions": (ReLU, Pair, np, np.exp, len, adding, adding(1), adding(2)),
}


@pytest.mark.parametrize("values", DIFFERENT.values(), ids=DIFFERENT)
def test_data_are_told_apart(values, tmp_path):
    def run(data):
        (result,) = sweep(
            lambda setting, run: {}, [{"value": 2}], tmp_path, data=data, progress=False
        )
        return result["reused"]

    assert [run([value]) for value in values] == [False] * len(values)
    assert [run([value]) for value in values] == [True] * len(values)


def test_objects_that_runs_cannot_be_told_apart_by_are_refused(tmp_path):
    scale = Scale(3)

    def default(setting, run, by=(scale,)):
        return {}

    def nothing(setting, run):
        return {}

    def refused(function, data=None):
        with pytest.raises(TypeError) as caught:
            sweep(function, [{"value": 2}], tmp_path / "runs", data=data, progress=False)
        return str(caught.value).partition(";")[0]

    told = "by which runs of a sweep cannot be told apart"
    assert refused(nothing, {"x": Pair(scale)}) == f"data['x'].first is or holds a Scale, {told}"
    for data in (io.StringIO(), scale.times, functools.partial(len), np.random.default_rng()):
        assert refused(nothing, [data]) == f"data is or holds a {type(data).__name__}, {told}"
    objects = np.array([1, {}], dtype=object)
    for data in (objects, np.ma.array(objects)):
        assert refused(nothing, data) == f"data is or holds an array of Python objects, {told}"
    name = default.__qualname__
    assert refused(default) == f"a default of {name} is or holds a Scale, {told}"
    around = refused(lambda setting, run: {"product": scale.factor})
    assert around.startswith("scale, a variable around test_objects")
    assert not (tmp_path / "runs").exists()


def test_tensors_of_torch_are_refused(tmp_path):
    torch = pytest.importorskip("torch", reason="needs torch: pip install torch")
    with pytest.raises(TypeError, match="data is or holds a Tensor"):
        sweep(adding(1), [{"value": 2}], tmp_path, data=torch.zeros(2000), progress=False)


MEMBER = """
import sys
from pynn.train.sweep import sweep

NAMES = frozenset("abcdef")

def helper(value, names={"g", "h", "i", "j", "k"}):
    return value in NAMES and value not in names

def make(names):
    def member(setting, run):
        return {"inside": Inside().asked(setting["value"])}
    class Inside:
        letters = {"a", "b", "c"}
        def __init__(self):
            self.one, self.two, self.three = 1, 2, 3
        def asked(self, value):
            return helper(value) and value in self.letters | names
    return member

if __name__ == "__main__":
    data = {"sets": [set("lmnop"), {("q", 1), ("r", 2)}], "function": helper}
    function = make(set("stuv"))
    (result,) = sweep(function, [{"value": "a"}], sys.argv[1], data=data, progress=False)
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
