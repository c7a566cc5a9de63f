"""What `load_library` takes and refuses. The process lives."""

import ctypes
import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn import _core, nn, ops, optim
from pynn.graph import OPERATORS

HERE = Path(__file__).parent
X = np.arange(12, dtype=np.float32).reshape(3, 4)

pytestmark = pytest.mark.usefixtures("forget")


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """tables.c as a shared library, by a compiler of plain C."""
    compiler = shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if compiler is None:
        pytest.skip("there is no C compiler")
    library = tmp_path_factory.mktemp("tables") / "tables.so"
    command = [
        compiler, "-std=c99", "-Wall", "-Wextra", "-Wpedantic", "-Werror", "-fPIC", "-shared",
        f"-I{pynn.get_include()}", str(HERE / "tables.c"), "-o", str(library),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    return library


@pytest.fixture
def capsule(built, tmp_path):
    """A capsule of one variant; each has memory of its own."""

    def make(variant, name=b"pynn.library"):
        own = tmp_path / f"{variant.replace(' ', '_')}.so"
        shutil.copy(built, own)
        kept.append(ctypes.CDLL(str(own)))
        make_library = kept[-1].make_library
        make_library.restype, make_library.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
        new = ctypes.pythonapi.PyCapsule_New
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        kept.append(name)
        return new(make_library(variant.encode()), name, None)

    kept = KEPT
    return make


KEPT = []  # what capsules point to


def test_an_operator_in_plain_c(capsule):
    assert pynn.load_library(capsule("good")) == ["scaled_in_c"]
    np.testing.assert_array_equal(ops.scaled_in_c(X), 2 * X)
    np.testing.assert_array_equal(ops.scaled_in_c(X.astype("d"), factor=0.5), X / 2)
    report = pynn.testing.opcheck("scaled_in_c")
    assert report.skipped == ("memory beside its arrays (the library has no file)",)
    assert "float32 against float64" in report.passed


def test_an_operator_without_gradient(capsule):
    pynn.load_library(capsule("no gradient needed"))
    assert not hasattr(ops, "scaled_in_c_backward")

    class Masked(nn.Module):
        def forward(self, x):
            return x + ops.scaled_in_c(x)

    for samples in (3, 40):  # in plans on arrays and on blocks
        model = Masked()
        model(np.ones((samples, 4)))
        np.testing.assert_array_equal(
            model.backward(np.full((samples, 4), 3.0)), np.full((samples, 4), 3.0)
        )


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        (
            "newer",
            "was built for version 2 of pynn's operator ABI, this pynn .* has version 1: upg",
        ),
        ("no version", "it has no version"),
        ("no operators", "it has no operators"),
        ("null operator", "an operator is missing"),
        ("error", "its operators could not be described: it rains"),
        ("short operator", "an operator is too short"),
        ("no name", "an operator is called ''"),
        ("name of spaces", "an operator is called 'a b'"),
        ("keyword", "lambda: nothing may be called 'lambda'"),
        ("taken", "pynn.ops has something called 'relu' already"),
        ("not a function but taken", "pynn.ops has something called 'register' already"),
        ("twice", "has two operators called 'scaled_in_c'"),
        ("no forward", "scaled_in_c: it has no forward"),
        ("no backward", "scaled_in_c: it has no backward, and not all of its inputs are marked"),
        ("no inputs", "it has 0 inputs; 1 to 16 are possible"),
        ("no list of inputs", "no list of inputs"),
        ("short input", "input is too short"),
        ("input without name", "an input is called ''"),
        ("argument of backward", "nothing may be called 'dy'"),
        ("two of one name", "two arguments are called 'x'"),
        ("attribute called as input", "two arguments are called 'x'"),
        ("optional before required", "input w comes after an optional one and is not optional"),
        ("first is a parameter", "the first input must be an array with a batch axis"),
        ("unknown flags", "unknown flags 1048576"),
        ("unknown input flags", "input x has unknown flags"),
        ("unknown type", "attribute factor has the unknown type 17"),
        ("no default", "attribute mode has no default"),
        ("default in latin 1", "the default of attribute mode is not UTF-8"),
        ("name in latin 1", r"an operator is called '\?t\?'"),
        ("pointwise with workspace", "a pointwise operator has no shape rule, no workspace"),
        ("pointwise with parameter", "inputs of a pointwise operator are neither optional nor par"),
        ("sample without shapes", "a sample lacks its name, shapes or kind"),
    ],
)
def test_tables_that_are_refused(capsule, variant, words):
    before = set(OPERATORS)
    with pytest.raises(pynn.LibraryError, match=words):
        pynn.load_library(capsule(variant))
    assert set(OPERATORS) == before


@pytest.mark.parametrize(
    ("variant", "error", "words"),
    [
        ("fails", pynn.OperatorError, "^scaled_in_c: forward failed: no luck with 1 arrays$"),
        ("fails in silence", pynn.OperatorError, "forward failed: it gave no reason"),
        ("fails in latin 1", ValueError, r"^scaled_in_c: d\?jà vu \?\?$"),
        ("endless message", pynn.OperatorError, "forward failed: x{1023}$"),
        ("many axes", pynn.OperatorError, "the shape rule gave 99 axes"),
        ("huge shape", pynn.ShapeError, "the output is too large"),
        ("huge workspace", pynn.OperatorError, "workspace asked for -5 bytes"),
    ],
)
def test_calls_that_fail(capsule, variant, error, words):
    pynn.load_library(capsule(variant))
    with pytest.raises(error, match=words):
        ops.scaled_in_c(X)


def test_a_doc_that_is_not_utf_8(capsule):
    pynn.load_library(capsule("doc in latin 1"))
    assert ops.scaled_in_c.__doc__.startswith("l'?t? été\n")


class Scaled(nn.Module):
    def forward(self, x):
        return ops.scaled_in_c(x)


@pytest.mark.parametrize("samples", [8, 40])
@pytest.mark.parametrize("variant", ["fails", "fails backward"])
def test_a_step_that_fails_leaves_the_model_as_it_was(capsule, variant, samples):
    pynn.load_library(capsule(variant))
    model = nn.Sequential(nn.Linear(4, 4), Scaled(), nn.Linear(4, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer)
    before = model.state_dict()
    with pytest.raises(pynn.OperatorError) as caught:
        step(np.ones((samples, 4)), np.zeros(samples, int))
    said = str(caught.value) + "".join(getattr(caught.value, "__notes__", []))
    assert "no luck" in said
    assert "1 (Scaled)" in said
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])
        assert all(parameter.grad is None for parameter in model.parameters())


@pytest.mark.parametrize(
    ("variant", "words"),
    [
        ("sample of nonsense", "'3 by 4' is not a list of shapes"),
        ("sample of code", "are no attributes such as"),
        ("too many shapes", "2 shapes for 1 arrays"),
    ],
)
def test_samples_that_cannot_be_read(capsule, variant, words):
    pynn.load_library(capsule(variant))
    with pytest.raises(pynn.LibraryError, match=words):
        pynn.testing.opcheck("scaled_in_c")


def test_capsules_of_other_things(capsule):
    with pytest.raises(pynn.LibraryError, match=r"is called 'other', not 'pynn\.library'"):
        pynn.load_library(capsule("good", b"other"))
    with pytest.raises(TypeError, match="a library is a path or a capsule, got 3"):
        pynn.load_library(3)


def test_files_of_other_things(built, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"there is no library .*nothing\.so"):
        pynn.load_library(tmp_path / "nothing")
    text = tmp_path / "text.so"
    text.write_text("not a library")
    with pytest.raises(pynn.LibraryError, match=r"text\.so cannot be loaded: "):
        pynn.load_library(text)
    with pytest.raises(pynn.LibraryError, match="cannot be loaded"):
        pynn.load_library(str(tmp_path))
    with pytest.raises(pynn.LibraryError, match="it does not export pynn_get_library"):
        pynn.load_library(built)
    with pytest.raises(pynn.LibraryError, match="it does not export pynn_get_library"):
        pynn.load_library(_core.__file__)


OPERATOR = """
#include <pynn/op.hpp>
struct Op {
  static void describe(pynn::op::Description<Op>& d) {
    d.name("NAME").pointwise();
    d.input("x");
    BODY
  }
  template <typename T> void forward(const pynn::op::Forward<T>& call) const {
    for (std::int64_t i = 0; i < call.y().size(); ++i) call.y()[i] = 2 * call.input(0)[i];
  }
  BACKWARD
};
PYNN_OPERATORS(Op)
"""
BACKWARD = """
  template <typename T> void backward(const pynn::op::Backward<T>& call) const {
    for (std::int64_t i = 0; i < call.dy().size(); ++i) call.gradient(0)[i] = 2 * call.dy()[i];
  }
"""


def source(name, body="", backward=BACKWARD):
    return OPERATOR.replace("NAME", name).replace("BODY", body).replace("BACKWARD", backward)


def inline(*arguments, **options):
    return pynn.load_inline(source(*arguments, **options), flags=["-O0"])


@pytest.mark.usefixtures("compiler")
def test_a_class_without_backward_or_with_a_throwing_description():
    with pytest.raises(pynn.LibraryError, match="no_way_back: it has no backward"):
        inline("no_way_back", backward="")
    with pytest.raises(pynn.LibraryError, match="could not be described: too tired"):
        inline("tired", 'throw std::runtime_error("too tired");')


@pytest.mark.usefixtures("compiler")
def test_an_exception_that_leaves_a_library_is_caught():
    raw = """
#include <pynn/abi.h>
static pynn_status forward(const pynn_call*) { throw 5; }
static pynn_input x{sizeof x, "x", "", PYNN_NO_GRADIENT};
static const pynn_input* inputs[] = {&x};
static pynn_operator op;
static const pynn_operator* operators[] = {&op};
static pynn_library library{PYNN_ABI_VERSION, 1, sizeof library, operators, nullptr};
extern "C" PYNN_EXPORT const pynn_library* pynn_get_library() {
  op.size = sizeof op, op.name = "lets_out", op.input_count = 1, op.inputs = inputs;
  op.forward = forward;
  return &library;
}
"""
    assert pynn.load_inline(raw) == ["lets_out"]
    with pytest.raises(pynn.OperatorError, match=r"lets_out: forward failed: it let a C\+\+ exc"):
        ops.lets_out(X)


@pytest.mark.usefixtures("compiler")
def test_loading_twice_and_from_several_threads():
    from pynn.extension.inline import compile_library

    path = compile_library(source("many_times"), ["-O0"])
    threads = [threading.Thread(target=pynn.load_library, args=(path,)) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert pynn.load_library(path) == ["many_times"]
    assert pynn.load_library(path.with_suffix("")) == ["many_times"]
    np.testing.assert_array_equal(ops.many_times(X), 2 * X)
    path.touch()
    with pytest.raises(pynn.LibraryError, match="has changed since it was loaded"):
        pynn.load_library(path)


@pytest.mark.usefixtures("compiler")
def test_two_libraries_cannot_have_one_name(tmp_path):
    from pynn.extension.inline import compile_library

    pynn.load_library(compile_library(source("contested"), ["-O0"]))
    second = compile_library(source("contested", "// other"), ["-O0"])
    with pytest.raises(pynn.LibraryError, match="has something called 'contested' already"):
        pynn.load_library(second)
    np.testing.assert_array_equal(ops.contested(X), 2 * X)


def test_loading_costs_nothing_before_it_is_used():
    code = "import sys, pynn; print('pynn.extension' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


NUMBERED = """
#include <pynn/op.hpp>

struct Times {
  static void describe(pynn::op::Description<Times>& d) {
    d.name("times_NUMBER").pointwise();
    d.input("x").no_gradient();
  }
  template <typename T>
  void forward(const pynn::op::Forward<T>& call) const noexcept {
    for (std::int64_t i = 0; i < call.y().size(); ++i) call.y()[i] = call.input(0)[i] * T(NUMBER);
  }
};

PYNN_OPERATORS(Times)
"""


def test_libraries_whose_classes_have_one_name_are_apart(tmp_path, compiler):
    for number in ("2", "3"):
        source, library = tmp_path / f"{number}.cpp", tmp_path / f"{number}.so"
        source.write_text(NUMBERED.replace("NUMBER", number))
        command = [
            os.environ.get("CXX") or shutil.which("c++") or shutil.which("g++") or "clang++",
            "-std=c++17", "-shared", "-fPIC", f"-I{pynn.get_include()}", str(source),
            "-o", str(library),
        ]  # fmt: skip
        subprocess.run(command, check=True)
        assert pynn.load_library(library) == [f"times_{number}"]
    try:
        assert (ops.times_2(X) == 2 * X).all()
        assert (ops.times_3(X) == 3 * X).all()
    finally:
        ops.unregister("times_2")
        ops.unregister("times_3")
