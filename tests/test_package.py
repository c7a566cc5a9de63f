"""The installed package: one version, types shipped, a light import, forks and threads."""

import importlib.metadata
import json
import os
import re
import subprocess
import sys
import threading
import tomllib
from pathlib import Path

import numpy as np
import pytest

import pynn
from pynn import nn


def run(code, **environment):
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code], capture_output=True, text=True, check=False,
        env={**os.environ, **environment},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


ROOT = Path(__file__).parents[1]


def pyproject():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())


def test_one_version_everywhere():
    assert pynn.__version__ == importlib.metadata.version("pynn-core") == pynn._core.__version__
    assert pynn.__version__ == pyproject()["project"]["version"]
    newest = re.search(r"^## ([^,\n]+)", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest[1] == pynn.__version__
    module = tomllib.loads((ROOT / "packaging" / "cuda13" / "pyproject.toml").read_text())[
        "project"
    ]
    assert module["version"] == pynn.__version__
    assert module["dependencies"] == [f"pynn-core=={pynn.__version__}"]
    (wheel, _), *_ = (
        line.split(";") for line in pyproject()["project"]["optional-dependencies"]["cuda13"]
    )
    assert wheel == f"pynn-core-cuda13=={pynn.__version__}"


def test_wheels_begin_with_the_oldest_python():
    oldest = pyproject()["project"]["requires-python"].removeprefix(">=").replace(".", "")
    builds = pyproject()["tool"]["cibuildwheel"]["build"]
    assert builds[0] == f"cp{oldest}-*"


@pytest.mark.skipif(not (ROOT / ".ci").exists(), reason="the source distribution has no .ci")
def test_a_tag_that_is_not_the_version_is_refused():
    done = subprocess.run(
        [sys.executable, ROOT / ".ci" / "version", "v9.9.9"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert done.returncode != 0
    assert "the tag is v9.9.9" in done.stderr


def test_types_are_shipped():
    folder = Path(pynn.__file__).parent
    assert (folder / "py.typed").exists()
    assert (folder / "_core.pyi").exists()
    assert (folder / "data" / "_batches.pyi").exists()


def test_numpy_is_the_only_requirement():
    required = importlib.metadata.requires("pynn-core")
    assert [line for line in required if "extra ==" not in line] == ["numpy>=2.0"]


def test_every_public_name_exists():
    from pynn import data, io, ops, optim, testing, train

    for module in (pynn, nn, ops, optim, train, data, io, testing):
        assert len(set(module.__all__)) == len(module.__all__)
        for name in module.__all__:
            assert getattr(module, name) is not None
        assert set(module.__all__) <= set(dir(module))


def test_import_loads_no_extra():
    code = (
        "import sys, json, numpy; before = set(sys.modules); import pynn; "
        "print(json.dumps(sorted(set(sys.modules) - before)))"
    )
    modules = set(json.loads(run(code)))
    loaded = {name.partition(".")[0] for name in modules}
    assert not loaded & {"matplotlib", "rich", "sklearn", "torch", "urllib", "ssl", "http", "json"}
    assert not modules & {"numpy.typing", "glob", "importlib.util"}  # that take their time


@pytest.mark.parametrize("name", ["PYNN_NUM_THREADS", "OMP_NUM_THREADS"])
def test_threads_from_the_environment(name):
    environment = {"PYNN_NUM_THREADS": "", "OMP_NUM_THREADS": "", name: "3"}
    assert run("import pynn; print(pynn.get_num_threads())", **environment) == "3"


def test_threads_default_to_the_affinity_mask():
    if not hasattr(os, "sched_setaffinity"):
        pytest.skip("no affinity on this platform")
    code = (
        "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))}); import pynn; "
        "print(pynn.get_num_threads())"
    )
    assert run(code, PYNN_NUM_THREADS="", OMP_NUM_THREADS="") == "1"


@pytest.mark.parametrize("count", [0, -1, 5000])
def test_senseless_numbers_of_threads_are_refused(count):
    with pytest.raises(ValueError, match="1 to 1024"):
        pynn.set_num_threads(count)


FORK = """
import os, numpy as np, pynn
from pynn import nn, optim
pynn.set_num_threads(3)
def train():
    pynn.manual_seed(0)
    model = nn.Sequential(nn.Linear(200, 300), nn.ReLU(), nn.Linear(300, 10))
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    x = np.random.default_rng(0).random((256, 200)).astype("f")
    return [step(x, np.arange(256) % 10) for _ in range(5)]
before = train()
child = os.fork()
if child == 0:
    os._exit(0 if train() == before else 7)
_, status = os.waitpid(child, 0)
print(os.waitstatus_to_exitcode(status), train() == before)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork on this platform")
def test_a_forked_child_computes_on():
    done = subprocess.run(
        [sys.executable, "-c", FORK], capture_output=True, text=True, check=True, timeout=120
    )
    assert done.stdout.strip() == "0 True"


def test_threads_train_side_by_side():
    def train(results, seed):
        model = nn.Sequential(
            nn.Linear(50, 60, rng=np.random.default_rng(seed)), nn.Tanh(),
            nn.Linear(60, 10, rng=np.random.default_rng(seed)),
        )  # fmt: skip
        step = pynn.compile(
            model, nn.CrossEntropyLoss(), pynn.optim.SGD(model.parameters(), lr=0.1)
        )
        x = np.random.default_rng(seed).random((100, 50)).astype("f")
        results[seed] = [step(x, np.arange(100) % 10) for _ in range(30)]

    alone, together = {}, {}
    for seed in range(4):
        train(alone, seed)
    workers = [threading.Thread(target=train, args=(together, seed)) for seed in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert together == alone


def test_sources_without_the_compiled_part_say_so(tmp_path):
    (tmp_path / "pynn").mkdir()
    source = Path(pynn.__file__).read_text()
    (tmp_path / "pynn" / "__init__.py").write_text(source)
    done = subprocess.run(
        [sys.executable, "-S", "-c", "import sys; sys.path.insert(0, '.'); import pynn"], cwd=tmp_path,
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert "install with `pip install -e .`, or start Python in another folder" in done.stderr
