"""The command line, as a user runs it."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import pynn
from pynn import cli
from pynn.experiments import STUDIES
from pynn.graph import OPERATORS


def run(*arguments, capsys):
    status = cli.main([str(argument) for argument in arguments])
    captured = capsys.readouterr()
    return status, captured.out, captured.err


def test_convnet_on_digits_writes_everything(tmp_path, capsys):
    status, out, err = run(
        "run", "convnet", "--epochs", 2, "--out", tmp_path / "a", "--json", capsys=capsys
    )
    assert status == 0
    result = json.loads(out.splitlines()[-1])
    assert result["study"] == "convnet"
    assert result["data"] == "digits"
    assert result["epochs"] == 2
    assert result["samples"] == {"train": 1297, "valid": 200, "test": 300}
    assert {"parameters", "train_loss", "valid_accuracy", "test_accuracy", "seconds"} <= set(result)
    assert err.count("variant ") == 3
    names = {path.name for path in (tmp_path / "a").iterdir()}
    assert names == {
        "curves.png", "history.csv", "history.json", "model.safetensors", "report.html",
        "report.md", "result.json", "runs", "variants.png",
    }  # fmt: skip
    assert (tmp_path / "a" / "curves.png").read_bytes().startswith(b"\x89PNG")
    rows = json.loads((tmp_path / "a" / "history.json").read_text())
    assert rows[-1]["train_loss"] == result["train_loss"]
    assert len((tmp_path / "a" / "history.csv").read_text().splitlines()) == 3

    from pynn.data import digits
    from pynn.experiments.convnet import network

    model = network(8, 10).eval()
    model.load_state_dict(pynn.io.load(tmp_path / "a" / "model.safetensors"))
    dataset = digits()
    guesses = model(dataset.test_images / np.float32(255)).argmax(axis=1)
    assert np.mean(guesses == dataset.test_labels) == pytest.approx(result["test_accuracy"])


def test_the_result_is_a_function_of_the_seed(tmp_path, capsys):
    def losses(seed, threads):
        _, out, _ = run(
            "run", "convnet", "--epochs", 1, "--seed", seed, "--threads", threads, "--quiet",
            "--json", "--jobs", 1, "--out", tmp_path / f"{seed}-{threads}", capsys=capsys,
        )  # fmt: skip
        result = json.loads(out.splitlines()[-1])
        return result["train_loss"], result["test_loss"]

    kept = pynn.get_num_threads()
    try:
        first = losses(1, 1)
        assert losses(1, 3) == first
        assert losses(2, 1) != first
    finally:
        pynn.set_num_threads(kept)


def test_run_from_a_folder_of_idx_files(tmp_path, capsys):
    folder = tmp_path / "mine"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 120), ("t10k", 30)):
        labels = rng.integers(0, 4, count).astype(np.uint8)
        images = (rng.random((count, 28, 28)) * 40).astype(np.uint8)
        images[np.arange(count), labels * 6] = 250
        pynn.data.write_idx(folder / f"{part}-images-idx3-ubyte", images)
        pynn.data.write_idx(folder / f"{part}-labels-idx1-ubyte", labels)
    status, out, _ = run(
        "run", "convnet", "--data", folder, "--epochs", 1, "--out", tmp_path / "out", "--quiet",
        capsys=capsys,
    )  # fmt: skip
    assert status == 0
    assert "test accuracy: " in out
    assert "nothing is compared" in out
    assert json.loads((tmp_path / "out" / "result.json").read_text())["samples"]["test"] == 30
    (folder / "t10k-labels-idx1-ubyte").unlink()
    status, _, err = run("run", "convnet", "--data", folder, "--out", tmp_path, capsys=capsys)
    assert status == 2
    assert "t10k-labels-idx1-ubyte" in err


def test_several_studies_at_once(tmp_path, capsys):
    status, out, _ = run(
        "run", "search", "search", "convnet", "--quick", "--epochs", 1, "--quiet", "--jobs", 1,
        "--out", tmp_path, "--json", capsys=capsys,
    )  # fmt: skip
    assert status == 0
    assert [each["study"] for each in json.loads(out)["studies"]] == ["search", "convnet"]
    assert (tmp_path / "index.html").exists()


def test_list_info_version(capsys):
    status, out, _ = run("run", "--list", capsys=capsys)
    assert status == 0
    assert [line.split()[0] for line in out.splitlines()] == list(STUDIES)
    status, out, _ = run("info", "--json", capsys=capsys)
    found = json.loads(out)
    assert found["pynn"] == pynn.__version__
    assert found["operators"] == sorted(OPERATORS)
    status, out, _ = run("info", capsys=capsys)
    assert f"pynn: {pynn.__version__}" in out
    with pytest.raises(SystemExit) as caught:
        cli.main(["--version"])
    assert caught.value.code == 0
    assert capsys.readouterr().out == f"pynn {pynn.__version__}\n"


def test_bench(capsys):
    status, out, _ = run("bench", "relu", "linear", "--json", capsys=capsys)
    assert status == 0
    rows = json.loads(out)["rows"]
    assert {row["operator"] for row in rows} == {"relu", "linear"}
    assert all(row["native_ms"] > 0 and row["gflops"] > 0 and row["ratio"] > 0 for row in rows)
    status, out, _ = run("bench", "softmax", capsys=capsys)
    assert out.splitlines()[0].split()[0] == "operator"
    status, _, err = run("bench", "magic", capsys=capsys)
    assert status == 2
    assert "no benchmark of magic; choose from" in err


def test_selftest(capsys):
    status, out, _ = run("selftest", capsys=capsys)
    assert status == 0
    assert out.endswith(" 0 failed\n")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["run", "convnet", "--data", "nowhere"], "unknown data set 'nowhere': expected mnist"),
        (["run", "convnet", "--threads", "99999"], "must be 1 to 1024, got 99999"),
    ],
)
def test_mistakes_end_in_one_line(arguments, words, tmp_path, capsys):
    status, out, err = run(*arguments, "--out", tmp_path / "x", capsys=capsys)
    assert status == 2
    assert out == ""
    assert err.startswith("pynn: ")
    assert err.count("\n") == 1
    assert words in err


def test_a_library_that_is_not_there_ends_in_one_line(capsys):
    status, _, err = run("info", "--library", "no_such_module", capsys=capsys)
    assert status == 2
    assert err == "pynn: No module named 'no_such_module'\n"


@pytest.mark.parametrize(
    ("variable", "value", "words"),
    [
        ("PYNN_ISA", "avx1", "PYNN_ISA=avx1 is not available here; choose from "),
        *(("PYNN_NUM_THREADS", value, f"PYNN_NUM_THREADS={value} is no number of threads: it must be 1 to 1024, or unset")
          for value in ("two", "2,4", "0", "-1", "1025", "99999999999999999999")),
    ],
)  # fmt: skip
def test_mistakes_in_environment_variables(variable, value, words):
    done = subprocess.run(
        [sys.executable, "-m", "pynn", "info"], check=False,
        capture_output=True, text=True, env={**os.environ, variable: value},
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stdout == ""
    assert done.stderr.startswith(f"pynn: {words}")
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("own", "shared", "threads"), [("3", "5", 3), ("", "5", 5), ("", "5,2", 5), ("1024", "", 1024)]
)
def test_the_number_of_threads_by_environment_variables(own, shared, threads):
    script = "import pynn; print(pynn.get_num_threads())"
    environment = {**os.environ, "PYNN_NUM_THREADS": own, "OMP_NUM_THREADS": shared}
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True, env=environment
    )
    assert done.stdout == f"{threads}\n"


def test_an_output_folder_that_cannot_be_written(tmp_path, capsys):
    (tmp_path / "file").write_text("")
    status, _, err = run("run", "convnet", "--epochs", 1, "--out", tmp_path / "file", capsys=capsys)
    assert status == 2
    assert "file" in err


@pytest.mark.parametrize("arguments", [["run", "magic"], ["run", "convnet", "--epochs", "0"], []])
def test_usage_errors(arguments, capsys):
    with pytest.raises(SystemExit) as caught:
        cli.main(arguments)
    assert caught.value.code == 2
    assert "usage: pynn" in capsys.readouterr().err


def test_python_m_pynn():
    done = subprocess.run(
        [sys.executable, "-m", "pynn", "--version"], capture_output=True, text=True, check=True
    )
    assert done.stdout == f"pynn {pynn.__version__}\n"
