"""Operators from a string."""

import os
import re
import stat
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn import nn, ops, optim
from pynn.extension import inline

pytestmark = pytest.mark.usefixtures("compiler", "forget")

SOURCE = """
#include <pynn/op.hpp>

struct Cube {
  static void describe(pynn::op::Description<Cube>& d) {
    d.name("inline_cube").pointwise().backward_reads_inputs();
    d.input("x");
    d.sample("rows", "(5, 7)");
  }
  template <typename T> void forward(const pynn::op::Forward<T>& call) const noexcept {
    const auto x = call.input(0);
    for (std::int64_t i = 0; i < x.size(); ++i) call.y()[i] = x[i] * x[i] * x[i];
  }
  template <typename T> void backward(const pynn::op::Backward<T>& call) const noexcept {
    const auto x = call.input(0), dy = call.dy();
    for (std::int64_t i = 0; i < x.size(); ++i) call.gradient(0)[i] = 3 * x[i] * x[i] * dy[i];
  }
};

PYNN_OPERATORS(Cube)
"""
BOX = Path(__file__).parent / "project" / "src" / "box_filter.hpp"
X = np.linspace(-1, 1, 12).reshape(3, 4)
QUICK = ["-O0"]


def test_the_box_filter_at_run_time():
    """The worked example: a shape rule, at run time."""
    source = BOX.read_text() + "\nPYNN_OPERATORS(BoxFilter)\n"
    assert pynn.load_inline(source) == ["box_filter"]

    def reference(x, size=3):
        windows = np.lib.stride_tricks.sliding_window_view(x, (size, size), axis=(2, 3))
        return windows.mean(axis=(4, 5))

    assert pynn.testing.opcheck("box_filter", reference=reference).failed == ()

    class Blur(nn.Module):
        def forward(self, x):
            return ops.box_filter(x, size=2)

    model = nn.Sequential(nn.Conv2d(1, 3, 3), Blur(), nn.Flatten(), nn.Linear(27, 2))
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.5))
    x = np.random.default_rng(0).standard_normal((32, 1, 6, 6))
    y = (x.mean(axis=(1, 2, 3)) > 0).astype(int)
    losses = [step(x, y) for _ in range(30)]
    assert losses[-1] < losses[0]
    assert step.plan(x.shape).core.foreign == []


def test_compiled_once_for_each_content(monkeypatch, cache):
    assert pynn.load_inline(SOURCE, flags=QUICK) == ["inline_cube"]
    np.testing.assert_allclose(ops.inline_cube(X), X**3, rtol=1e-15)
    commands = []
    run = inline._run
    monkeypatch.setattr(inline, "_run", lambda command: commands.append(command) or run(command))
    assert pynn.load_inline(SOURCE, flags=QUICK) == ["inline_cube"]
    assert all(command[-1] == "--version" for command in commands)
    pynn.load_inline(SOURCE, flags=[*QUICK, "-g"])
    assert "-g" in commands[-1]


def test_a_changed_source_replaces_what_it_replaces():
    pynn.load_inline(SOURCE, flags=QUICK)

    class Layer(nn.Module):
        def forward(self, x):
            return ops.inline_cube(x)

    model = Layer()
    before = model(X)
    changed = SOURCE.replace("call.y()[i] = ", "call.y()[i] = 1 + ")
    assert pynn.load_inline(changed, flags=QUICK) == ["inline_cube"]
    np.testing.assert_allclose(ops.inline_cube(X), X**3 + 1, rtol=1e-15)
    np.testing.assert_array_equal(model(X), before)
    np.testing.assert_allclose(Layer()(X), X**3 + 1, rtol=1e-6)
    with pytest.raises(pynn.LibraryError, match="has something called 'inline_cube' already"):
        pynn.load_inline(SOURCE, flags=QUICK, replace=False)
    pynn.load_inline(SOURCE, flags=QUICK)
    np.testing.assert_allclose(ops.inline_cube(X), X**3, rtol=1e-15)
    with pytest.raises(pynn.LibraryError, match="has something called 'relu' already"):
        pynn.load_inline(SOURCE.replace("inline_cube", "relu"), flags=QUICK)


ARGUMENTS = """
#include <cstdio>
#include <pynn/op.hpp>

struct Sum {
  std::int64_t whole = 1;
  std::string text = "a";
  std::vector<std::int64_t> list{1, 2};
  std::vector<std::int64_t> shape;  // no shape rule: an attribute may be called so

  static void describe(pynn::op::Description<Sum>& d) {
    d.name("inline_sum").per_sample();
    d.input("x");
    d.input("isinstance").optional();
    d.attribute("whole", &Sum::whole).attribute("text", &Sum::text).attribute("list", &Sum::list);
    d.attribute("shape", &Sum::shape);
    d.sample("rows", "(5, 7), (5, 7)");
  }
  template <typename T> std::int64_t workspace(const pynn::op::Call&, pynn::op::Pass) const {
    return whole;
  }
  template <typename T> void forward(const pynn::op::Forward<T>& call) const {
    std::puts("forward");
    const auto x = call.input(0), other = call.input(1);
    for (std::int64_t i = 0; i < x.size(); ++i) call.y()[i] = x[i] + (other ? other[i] : T(0));
  }
  template <typename T> void backward(const pynn::op::Backward<T>& call) const {
    for (int input = 0; input < 2; ++input)
      for (std::int64_t i = 0; call.gradient(input) && i < call.dy().size(); ++i)
        call.gradient(input)[i] = call.dy()[i];
  }
};

PYNN_OPERATORS(Sum)
"""


def test_arguments_of_all_kinds():
    pynn.load_inline(ARGUMENTS, flags=QUICK)
    np.testing.assert_array_equal(ops.inline_sum(X, X), 2 * X)
    np.testing.assert_array_equal(ops.inline_sum(X, isinstance=None, text="é", list=()), X)
    for attributes, error, words in [
        ({"whole": 2**63}, ValueError, r"whole must be within -2\^63 ... 2\^63 - 1, got 92233"),
        ({"list": [1, -(2**70)]}, ValueError, r"list must be within -2\^63 .* got \[1, -118059"),
        ({"list": np.array(3)}, TypeError, r"list must be a list of ints, got array\(3\)"),
        ({"list": {3}}, TypeError, r"list must be a list of ints, got \{3\}"),
        ({"text": "a\0b"}, ValueError, "text must have neither surrogates nor a character 0"),
        ({"text": "\ud800"}, ValueError, "text must have neither surrogates nor a character 0"),
        ({"whole": 2**61}, pynn.OperatorError, "workspace failed: it asked for 23058430092"),
        ({"whole": -1}, pynn.OperatorError, "workspace failed: it asked for -1 elements"),
    ]:
        with pytest.raises(error, match=f"^inline_sum: {words}"):
            ops.inline_sum(X, **attributes)
    assert {"inline_sum", "inline_sum_backward", "relu"} <= set(dir(ops))


class Greedy(nn.Module):
    def forward(self, x):
        return ops.inline_sum(x, whole=-1)


@pytest.mark.parametrize("samples", [2, 20])
def test_a_plan_names_the_layer_whose_workspace_fails(samples):
    pynn.load_inline(ARGUMENTS, flags=QUICK)
    model = nn.Sequential(nn.ReLU(), Greedy())
    with pytest.raises(pynn.OperatorError, match=r"^1 \(Greedy\): inline_sum: workspace failed"):
        model(np.ones((samples, 3), np.float32))


def test_opcheck_of_an_operator_that_prints():
    pynn.load_inline(ARGUMENTS, flags=QUICK)
    assert pynn.testing.opcheck("inline_sum").failed == ()


@pytest.mark.parametrize(
    ("function", "words"),
    [
        ("int workspace(const pynn::op::Call&, pynn::op::Pass) const { return 1; }",
         "workspace must be: template <typename T>"),
        ("std::int64_t saved(const pynn::op::Call&) const { return 1; }",
         "saved must be: template <typename T>"),
        ("template <typename T> void backward(const pynn::op::Backward<T>&) {}",
         "backward must be: template <typename T>"),
        ("pynn::op::Shape shape(const pynn::op::Call&) const { return {}; }",
         r"shape must be: pynn::op::Shape shape\(const pynn::op::Inputs&\) const"),
        ("double flops() const { return 1; }",
         r"flops must be: std::int64_t flops\(const pynn::op::Call&\) const"),
    ],
)  # fmt: skip
def test_functions_that_would_never_be_called(function, words):
    name = function.split("(")[0].split()[-1]
    source = re.sub(
        rf"  template <typename T> \S+ {name}\(.*?\n  }}\n", "", SOURCE, flags=re.DOTALL
    )
    with pytest.raises(pynn.BuildError, match=words):
        pynn.load_inline(
            source.replace("struct Cube {", "struct Cube {\n  " + function), flags=QUICK
        )


def test_what_the_compiler_says_is_shown(tmp_path, monkeypatch):
    with pytest.raises(pynn.BuildError) as caught:
        pynn.load_inline(SOURCE.replace("x[i] * x[i] * x[i]", "x[i] * nonsense"), flags=QUICK)
    assert "nonsense" in str(caught.value)
    assert "exit status" in str(caught.value).splitlines()[0]
    warned = "".join(f"static int unused{i};\n" for i in range(50))
    with pytest.raises(pynn.BuildError, match="nonsense"):
        pynn.load_inline(warned + "int a = nonsense;\n", flags=[*QUICK, "-Wunused-variable"])
    with pytest.raises(pynn.BuildError, match=r"more lines$"):
        pynn.load_inline("\n".join(f"int a{i} = b{i};" for i in range(100)), flags=QUICK)


def test_source_that_is_no_library():
    with pytest.raises(pynn.LibraryError, match="does not export pynn_get_library"):
        pynn.load_inline("extern int answer; int answer = 42;", flags=QUICK)


@pytest.mark.parametrize(
    ("compiler", "words"),
    [
        ("no-such-compiler", "the compiler no-such-compiler cannot be run: No such file"),
        ("false", r"false is no C\+\+ compiler that pynn knows: `--version` gave exit status 1"),
        ("true", "the compiler gave exit status 0"),
        ("'g++", "CXX='g\\+\\+ names no compiler: No closing quotation"),
    ],
)
def test_a_compiler_that_does_not_compile(monkeypatch, compiler, words):
    monkeypatch.setenv("CXX", compiler)
    with pytest.raises(pynn.BuildError, match=words):
        pynn.load_inline(SOURCE + f"// {compiler}\n", flags=QUICK)
    assert np.all(ops.relu(X) >= 0)


@pytest.mark.parametrize("flags", ["-O2", [3], None])
def test_flags_are_a_list(flags):
    with pytest.raises(TypeError, match=r"flags must be a list of arguments, such as \['-O2'\]"):
        pynn.load_inline(SOURCE, flags=flags)


def test_source_is_a_text():
    with pytest.raises(TypeError, match=r"source must be the text of a program in C\+\+, got b'"):
        pynn.load_inline(SOURCE.encode())


def test_a_cache_that_cannot_be_written(monkeypatch, tmp_path):
    (tmp_path / "inline").touch()
    monkeypatch.setenv("PYNN_DATA", str(tmp_path))
    with pytest.raises(
        pynn.BuildError, match=r"inline, where compiled .* set PYNN_DATA to a folder"
    ):
        pynn.load_inline(SOURCE)


def test_no_compiler(monkeypatch, tmp_path):
    monkeypatch.delenv("CXX", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(pynn.BuildError, match=r"there is no C\+\+ compiler here: install g\+\+ or"):
        pynn.load_inline(SOURCE)


def test_an_old_standard_is_said_to_be_too_old():
    with pytest.raises(pynn.BuildError, match=r"pynn/op\.hpp needs C\+\+17"):
        pynn.load_inline(SOURCE, flags=["-std=c++98"])


@pytest.mark.skipif(os.name == "nt", reason="permissions of POSIX")
def test_a_folder_that_others_can_write_to_is_not_loaded_from(monkeypatch, tmp_path):
    monkeypatch.setenv("PYNN_DATA", str(tmp_path / "cache"))
    pynn.load_inline(SOURCE, flags=QUICK)
    folder = tmp_path / "cache" / "inline"
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    folder.chmod(0o777)
    with pytest.raises(pynn.BuildError, match="others than you can write to"):
        pynn.load_inline(SOURCE, flags=QUICK)


def test_several_threads_and_processes_compile_the_same(tmp_path, monkeypatch):
    monkeypatch.setenv("PYNN_DATA", str(tmp_path / "cache"))
    code = f"import pynn; print(pynn.load_inline({SOURCE!r}, flags={QUICK!r}))"
    processes = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    threads = [
        threading.Thread(target=pynn.load_inline, args=(SOURCE,), kwargs={"flags": QUICK})
        for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for process in processes:
        assert process.communicate()[0].strip() == "['inline_cube']"
    assert len(list((tmp_path / "cache" / "inline").iterdir())) == 1
    np.testing.assert_allclose(ops.inline_cube(X), X**3, rtol=1e-15)


@pytest.mark.skipif(os.name == "nt", reason="symbols are looked up as on POSIX")
def test_they_run_without_the_gil():
    source = """
#include <dlfcn.h>
#include <pynn/op.hpp>

struct HasGil {
  static void describe(pynn::op::Description<HasGil>& d) {
    d.name("has_gil").per_sample();
    d.input("x").no_gradient();
    d.sample("rows", "(5, 7)");
  }
  template <typename T> void forward(const pynn::op::Forward<T>& call) const noexcept {
    const auto check = reinterpret_cast<int (*)()>(dlsym(RTLD_DEFAULT, "PyGILState_Check"));
    for (T& y : call.y()) y = check ? T(check()) : T(-1);
  }
};

PYNN_OPERATORS(HasGil)
"""
    pynn.load_inline(source, flags=QUICK)

    class Layer(nn.Module):
        def forward(self, x):
            return x + ops.has_gil(x)

    x = np.zeros((32, 300), np.float32)
    threads = pynn.get_num_threads()
    pynn.set_num_threads(1)  # so that the thread that calls Python computes
    try:
        model = nn.Sequential(nn.Linear(300, 300, weight_init=0.0, bias_init=0.0), Layer())
        assert (model.eval()(x) == 0).all()
        step = pynn.compile(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.0))
        assert step(x, np.zeros((32, 300), np.float32)) == 0
        assert (step.output == 0).all()
        assert (ops.has_gil(x) == 0).all()
    finally:
        pynn.set_num_threads(threads)
