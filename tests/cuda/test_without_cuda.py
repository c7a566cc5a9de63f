"""Without the module, the driver or a GPU: everything else works, and what is missing is said."""

import json
import os
import subprocess
import sys

import pytest

import pynn
from pynn import cuda
from pynn.cli import main


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.strip().splitlines()[-1])


ASK = """
import json, sys
{before}
import pynn
assert "pynn._cuda" not in sys.modules or sys.modules["pynn._cuda"] is None, "loaded too early"
try:
    with pynn.backend("cuda"):
        text = None
except pynn.BackendError as error:
    text = str(error)
print(json.dumps([text, pynn.cuda.is_available(), pynn.cuda.device_count()]))
"""


def test_without_the_module():
    text, available, count = run(ASK.format(before="sys.modules['pynn._cuda'] = None"))
    assert text.startswith("pynn was built without CUDA")
    assert "pynn-core-cuda13" in text
    assert "PYNN_CUDA=ON" in text
    assert (available, count) == (False, 0)


def test_what_is_missing_is_said_or_nothing_is():
    text, available, count = run(ASK.format(before=""))
    assert (text is None) == available == (count > 0)
    if text is not None:
        assert text.startswith(("pynn was built without CUDA", "the CUDA back end cannot run here"))


@pytest.mark.parametrize(
    ("name", "reason"),
    [("cuda", "pynn was built without CUDA"), ("gpu", "no back end is called 'gpu'; choose from ")],
)
def test_the_environment_names_a_back_end_that_is_not_there(name, reason):
    done = subprocess.run(
        [sys.executable, "-c", "import sys; sys.modules['pynn._cuda'] = None; import pynn"],
        capture_output=True, text=True, check=False, env={**os.environ, "PYNN_BACKEND": name},
    )  # fmt: skip
    assert done.returncode != 0
    assert f"BackendError: PYNN_BACKEND is '{name}': {reason}" in done.stderr


def enter(name, precision):
    with pynn.backend(name, precision=precision):
        pass


def test_precisions_are_of_the_gpu():
    with pytest.raises(pynn.BackendError, match="only the back end 'cuda' has precision 'tf32'"):
        enter("native", "tf32")
    with pytest.raises(
        ValueError, match="precision must be one of float32, tf32, bf16, got 'half'"
    ):
        enter("numpy", "half")


@pytest.mark.skipif(cuda.is_available(), reason="there is a device here")
def test_the_command_line_says_what_is_missing(capsys, tmp_path):
    assert main(["run", "convnet", "--backend", "cuda", "--out", str(tmp_path)]) == 2
    assert "CUDA" in capsys.readouterr().err


@pytest.mark.skipif(cuda.is_available(), reason="there is a device here")
def test_functions_of_the_device_say_what_is_missing():
    for function in (
        cuda.memory_info,
        cuda.synchronize,
        cuda.describe,
        lambda: cuda.asarray([1.0]),
    ):
        with pytest.raises(pynn.BackendError):
            function()
