"""pynn's kernels from Cython and from C, without Python objects."""

import importlib.util
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn import cython_api, ops

HERE = Path(__file__).parent
RNG = np.random.default_rng(0)


def build(compiler, source, folder, name, *flags):
    """An extension module from C or C++."""
    target = folder / (name + sysconfig.get_config_var("EXT_SUFFIX"))
    command = [
        *compiler, "-O1", "-fPIC", "-shared", f"-I{sysconfig.get_path('include')}", *flags,
        str(source), "-o", str(target),
    ]  # fmt: skip
    if sys.platform == "darwin":
        command.append("-Wl,-undefined,dynamic_lookup")
    subprocess.run(command, check=True)
    spec = importlib.util.spec_from_file_location(name, target)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def user(tmp_path_factory, compiler):
    if importlib.util.find_spec("Cython") is None:
        pytest.skip("Cython is not installed")
    folder = tmp_path_factory.mktemp("cython")
    generated = folder / "cython_user.cpp"
    command = [sys.executable, "-m", "cython", "-3", "--cplus", "-Werror"]
    subprocess.run([*command, str(HERE / "cython_user.pyx"), "-o", str(generated)], check=True)
    compiler = shutil.which("c++") or shutil.which("g++") or shutil.which("clang++")
    return build([compiler], generated, folder, "cython_user", "-w")


def test_products_and_softmax(user):
    x, w = RNG.standard_normal((7, 5)), RNG.standard_normal((3, 5))
    logits, out = np.empty((7, 3)), np.empty((7, 3))
    assert user.probabilities(x, w, logits, out) == 0
    np.testing.assert_array_equal(logits, ops.matmul(x, w.T))
    np.testing.assert_array_equal(out, ops.softmax(logits))


def test_convolution_and_pool(user):
    x = RNG.standard_normal((3, 2, 8, 6)).astype("f")
    w = RNG.standard_normal((4, 2, 3, 3)).astype("f")
    y, pooled = np.empty((3, 4, 8, 6), "f"), np.empty((3, 4, 4, 3), "f")
    argmax = np.empty(pooled.shape, np.int64)
    assert user.block(x, w, y, pooled, argmax) == (0, 0)
    expected = ops.relu(ops.conv2d(x, w, padding=1))
    np.testing.assert_array_equal(y, expected)
    best, where = ops.max_pool2d(expected, 2, return_indices=True)
    np.testing.assert_array_equal(pooled, best)
    np.testing.assert_array_equal(argmax, where)


def test_gradient_of_a_convolution(user):
    x = RNG.standard_normal((3, 4, 6, 6)).astype("f")
    w = RNG.standard_normal((2, 2, 3, 3)).astype("f")
    dy = RNG.standard_normal((3, 2, 4, 4)).astype("f")
    dw = np.empty_like(w)
    assert user.weight_gradient(dy, x, w, dw, 2) == 0
    np.testing.assert_array_equal(dw, ops.conv2d_backward(dy, x, w, groups=2)[1])
    assert user.weight_gradient(dy, x, w, dw, 3) != 0


def test_threads_and_refusals(user):
    x = RNG.standard_normal(100_000).astype("f")
    expected = ops.sigmoid(x)
    assert user.sigmoid(x) == 0
    np.testing.assert_array_equal(x, expected)
    assert user.negative_size(np.ones((1, 1), "f")) != 0
    assert user.threads() == pynn.get_num_threads()


def test_the_documentation_shows_what_is_tested(documented):
    function = documented("cython").split("\n\n", 1)[1]
    assert function.startswith("def probabilities(")
    assert function in (HERE / "cython_user.pyx").read_text(encoding="utf-8")


def test_from_c_through_the_capsule(tmp_path, documented):
    compiler = shutil.which("cc") or shutil.which("gcc")
    if compiler is None or not (Path(sysconfig.get_path("include")) / "Python.h").exists():
        pytest.skip("there is no C compiler, or no Python.h")
    (tmp_path / "c_user.c").write_text(documented("c"))
    flags = ["-Wall", "-Wextra", "-Werror", f"-I{pynn.get_include()}"]
    module = build([compiler], tmp_path / "c_user.c", tmp_path, "c_user", *flags)
    assert module.exponential(1) == pytest.approx(np.e, rel=1e-15)
    with pytest.raises(TypeError):
        module.exponential("1")


def test_what_it_exports_is_what_the_pxd_declares():
    """As scipy.linalg.cython_blas does: functions by name, with their signatures."""
    declared = Path(cython_api.__file__).parent / "cython_api.pxd"
    if not declared.exists():  # an editable installation keeps it with the sources
        declared = Path(pynn.__file__).parent / "cython_api.pxd"
    names = {
        line.split("(")[0].split()[-1]
        for line in declared.read_text().splitlines()
        if line.startswith("cdef ")
    }
    assert names == set(cython_api.__pyx_capi__)
    assert "sgemm" in names
