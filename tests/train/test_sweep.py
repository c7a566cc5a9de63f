"""Runs over settings: kept as they end, taken up again, in one process and in several."""

import importlib
import io
import json
import re
import subprocess
import sys
import time

import numpy as np
import pytest

import pynn
from pynn.data import Dataset, digits
from pynn.experiments.search import train
from pynn.train.settings import grid
from pynn.train.sweep import Sweep, sweep, sweep_all

CALLS = []


def square(setting, run):
    """What a run does: leaves a file, tells how far it is, returns numbers."""
    CALLS.append(setting["x"])
    if setting["x"] == 13:
        raise RuntimeError("unlucky")
    run.epoch(1, 2, error=0.5)
    np.save(run.folder / "x.npy", np.arange(setting["x"]))
    return {
        "square": setting["x"] ** 2, "seed": run.seed, "data": run.data, "draw": np.float32(0.5),
        "threads": pynn.get_num_threads(),
    }  # fmt: skip


@pytest.fixture(autouse=True)
def _forget():
    CALLS.clear()


def settings(*values):
    return [{"x": value} for value in values]


def test_results_come_in_the_order_of_settings_and_are_kept(tmp_path):
    results = sweep(square, settings(3, 1, 2, 3), tmp_path, data=[7], seed=5, threads=1)
    assert [result["square"] for result in results] == [9, 1, 4, 9]
    assert CALLS == [3, 1, 2]
    assert results[0]["seed"] == 5
    assert results[0]["data"] == [7]
    assert results[0]["draw"] == 0.5
    assert not any(result["reused"] for result in results)
    for result in results:
        assert len(np.load(f"{result['folder']}/x.npy")) ** 2 == result["square"]
    again = sweep(square, settings(2, 4), tmp_path, data=[7], seed=5, threads=1)
    assert CALLS == [3, 1, 2, 4]
    assert [result["reused"] for result in again] == [True, False]
    assert {**again[0], "reused": False} == results[2]


@pytest.mark.parametrize("changed", [{"seed": 1}, {"data": [8]}])
def test_other_data_or_seed_is_another_run(changed, tmp_path):
    sweep(square, settings(2), tmp_path, data=[7], seed=0)
    sweep(square, settings(2), tmp_path, **({"data": [7], "seed": 0} | changed))
    with pynn.backend("numpy"):
        sweep(square, settings(2), tmp_path, data=[7], seed=0)
    assert CALLS == [2, 2, 2]


def test_a_sweep_leaves_the_seed_of_its_caller(tmp_path):
    pynn.manual_seed(5)
    first, second = pynn.default_rng().random(2)
    pynn.manual_seed(5)
    assert pynn.default_rng().random() == first
    sweep(square, settings(3), tmp_path, seed=9)
    assert pynn.get_seed() == 5
    assert pynn.default_rng().random() == second


def test_runs_that_ended_before_an_error_are_kept(tmp_path):
    with pytest.raises(RuntimeError, match="unlucky") as caught:
        sweep(square, settings(1, 13, 2), tmp_path)
    assert "'x': 13" in caught.value.__notes__[0]
    results = sweep(square, settings(1, 2), tmp_path)
    assert CALLS == [1, 13, 2]
    assert [result["reused"] for result in results] == [True, False]


def test_a_run_that_was_interrupted_begins_anew(tmp_path):
    (result,) = sweep(square, settings(3), tmp_path)
    stored = tmp_path / result["folder"] / "result.json"
    stored.write_text(stored.read_text()[:20])
    (again,) = sweep(square, settings(3), tmp_path)
    assert CALLS == [3, 3]
    assert not again["reused"]
    assert json.loads(stored.read_text())["result"]["square"] == 9


def test_several_processes_give_the_same(tmp_path):
    # Their function comes from a module that every process can import.
    found = digits()
    part = found.train_images[:80], found.train_labels[:80]
    dataset = Dataset("few", *part, *part, found.classes)
    shared = {"first": 5, "second": 4, "batch_size": 16, "epochs": 2, "held_out": 20}
    chosen = [{"lr": lr, **shared} for lr in (0.01, 0.1, 0.5)]
    one, several = (
        sweep(train, chosen, tmp_path / str(jobs), data=dataset, threads=1, jobs=jobs)
        for jobs in (1, 2)
    )
    for a, b in zip(one, several, strict=True):
        assert (a["valid_loss"], a["parameters"]) == (b["valid_loss"], b["parameters"])
    assert len({result["valid_loss"] for result in several}) == 3


def test_sweeps_share_a_queue(tmp_path):
    asked = [
        Sweep(square, settings(1, 2, 1), tmp_path, data=[7], length=lambda s: s["x"]),
        Sweep(square, settings(5), tmp_path, data=[7]),
        Sweep(square, settings(3, 4), tmp_path, data=[8], first=True),
    ]
    seen = []
    for number, results in sweep_all(asked, threads=1):
        seen.append((number, [result["square"] for result in results], list(CALLS)))
    assert seen == [
        (2, [9, 16], [3, 4]),
        (0, [1, 4, 1], [3, 4, 2, 1]),
        (1, [25], [3, 4, 2, 1, 5]),
    ]
    kept = list(sweep_all([asked[1], Sweep(square, settings(6), tmp_path), asked[0]], threads=1))
    assert [number for number, _ in kept] == [0, 2, 1]
    assert CALLS == [3, 4, 2, 1, 5, 6]


def test_lines_say_how_it_goes(tmp_path, capsys):
    sweep(square, settings(2, 1), tmp_path, monitor="square", progress=True)
    sweep(square, settings(2), tmp_path, monitor="square", progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("square 1/2: x 2 (")
    assert lines[1].endswith("best square 1.0000")
    assert lines[2].startswith("square 1/1: x 2 (kept)")


def test_nothing_is_shown_where_there_is_no_standard_error(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    assert len(sweep(square, settings(2), tmp_path)) == 1
    assert capsys.readouterr().out == ""


def test_numbers_of_numpy_are_kept_and_reported(tmp_path):
    def report(setting, run):
        run.epoch(1, 2, loss=np.float32(0.5))
        return json.loads((run.folder / "progress.json").read_text())

    chosen = grid({"x": np.arange(2, 4), "rate": np.float32([0.25])})
    results = sweep(report, chosen, tmp_path, progress=False)
    assert [result["setting"] for result in results] == [
        {"x": 2, "rate": 0.25}, {"x": 3, "rate": 0.25},
    ]  # fmt: skip
    assert results[0]["loss"] == 0.5


class Terminal(io.StringIO):
    """What is shown, without the codes for colours and places."""

    def isatty(self):
        return True

    @property
    def text(self):
        return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", self.getvalue())

    def wait_for(self, pattern):
        """Bars are drawn from time to time."""
        end = time.monotonic() + 60
        while not re.search(pattern, self.text) and time.monotonic() < end:
            time.sleep(0.01)
        assert re.search(pattern, self.text)


def test_bars_in_a_terminal_show_runs_epochs_and_the_best(tmp_path, monkeypatch):
    pytest.importorskip("rich", reason="needs rich: pip install rich")
    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setenv("COLUMNS", "200")
    monkeypatch.setattr("pynn.train.sweep_progress._LOOK_EVERY", 0.01)

    def watched(setting, run):
        done = {4: 0, 2: 1, 3: 2}[setting["x"]]
        run.epoch(done + 1, 7)
        sys.stderr.wait_for(rf"watched: runs .* {done}/3 ")
        sys.stderr.wait_for(rf"epochs under way .* {done + 1}/7 ")
        if done:
            sys.stderr.wait_for(f"best accuracy {(0.75, 0.75)[done - 1]:.4f}")
        return {"accuracy": {4: 0.75, 2: 0.5, 3: 0.875}[setting["x"]]}

    sweep(watched, settings(4, 2, 3), tmp_path, monitor="accuracy", progress="auto")
    last = terminal.text.rpartition("watched: runs")[2]
    assert re.match(r" .* 3/3 .* best accuracy 0\.8750", last)
    assert "epochs under way" not in last


def run_in_this_process(seen):
    def execute(tasks, jobs):
        seen.append(jobs)
        return ((number, task()) for number, task in enumerate(tasks))

    return execute


@pytest.mark.parametrize(
    ("processors", "jobs", "runs", "shared", "each"),
    [(8, 4, 5, 4, 2), (8, 3, 5, 3, 2), (8, 4, 2, 2, 4), (8, 1, 5, 1, 8), (2, 4, 5, 4, 1)],
)
def test_jobs_share_the_processors(processors, jobs, runs, shared, each, tmp_path, monkeypatch):
    module, seen = importlib.import_module("pynn.train.sweep"), []
    monkeypatch.setattr(module, "config", lambda: {"usable_processors": processors})
    monkeypatch.setattr(module, "_execute", run_in_this_process(seen))
    before = pynn.get_num_threads()
    results = sweep(square, settings(*range(runs)), tmp_path, jobs=jobs)
    assert seen == [shared]
    assert [result["threads"] for result in results] == [each] * runs
    assert pynn.get_num_threads() == before
    given = sweep(square, settings(*range(20, 23)), tmp_path, jobs=jobs, threads=3)
    assert [result["threads"] for result in given] == [3] * 3


WORKERS = """
import importlib, sys
import pynn
module = importlib.import_module("pynn.train.sweep")

def tell(setting, run):
    return {"threads": pynn.get_num_threads(), "winograd": pynn.get_winograd()}

if __name__ == "__main__":
    module.config = lambda: {"usable_processors": 7}
    for wanted in (False, True):
        pynn.set_winograd(wanted)
        results = module.sweep(
            tell, [{"x": n} for n in range(3)], sys.argv[1], jobs=2, progress=False
        )
        print([(result["threads"], result["winograd"]) for result in results])
"""


def test_processes_have_their_share_of_threads_and_the_settings_of_their_caller(tmp_path):
    pytest.importorskip("joblib", reason="needs joblib: pip install joblib")
    (tmp_path / "workers.py").write_text(WORKERS)
    done = subprocess.run(
        [sys.executable, tmp_path / "workers.py", tmp_path / "out"], capture_output=True, text=True,
        check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr) == (0, "")
    each = [[(3, wanted)] * 3 for wanted in (False, True)]
    assert done.stdout == f"{each[0]}\n{each[1]}\n"


def test_what_cannot_be(tmp_path, monkeypatch):
    with pytest.raises(ValueError, match="jobs must be 1 or more, got 0"):
        sweep(square, settings(1), tmp_path, jobs=0)
    with pytest.raises(
        TypeError, match=r"a run returned what cannot be kept: JSON holds .*, not object"
    ):
        sweep(lambda setting, run: {"what": object()}, settings(1), tmp_path)
    CALLS.clear()
    for wrong, said in (
        ({"layer": pynn.nn.ReLU}, "the setting .*ReLU.* cannot be kept: JSON holds .*, not type"),
        ({(1, 2): 3}, "the setting .* cannot be kept: keys must be str, .* not tuple"),
        ("x", "a setting must be a dictionary, got 'x'"),
    ):
        with pytest.raises(TypeError, match=said):
            sweep(square, [{"x": 1}, wrong], tmp_path)
    assert CALLS == []
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        sweep(square, settings(1), tmp_path / "file")
    monkeypatch.setitem(sys.modules, "joblib", None)
    with pytest.raises(pynn.MissingExtraError, match=r"pip install 'pynn-core\[run\]'"):
        sweep(square, settings(1, 2), tmp_path, jobs=2)
