"""Every study from beginning to end, shortened, on a few digits."""

import json
import warnings

import numpy as np
import pytest

import pynn
from pynn.data import Dataset, digits
from pynn.experiments import STUDIES
from pynn.experiments.runner import run_studies, run_study
from pynn.experiments.setup import Setup


@pytest.fixture(scope="module")
def few():
    found = digits()
    return Dataset(
        "digits", found.train_images[:400], found.train_labels[:400], found.test_images[:100],
        found.test_labels[:100], found.classes,
    )  # fmt: skip


@pytest.mark.parametrize("name", STUDIES)
def test_a_study_runs_and_reports(name, few, tmp_path):
    setup = Setup(few, tmp_path / name, quick=True, epochs=1, progress=False)
    report = run_study(name, setup)
    assert report.comparisons
    assert {each.verdict for each in report.comparisons} == {"not compared"}
    assert "nothing is compared" in report.outcome()
    result = json.loads((tmp_path / name / "result.json").read_text())
    assert result["study"] == name
    page = (tmp_path / name / "report.html").read_text()
    assert page.count("data:image/png;base64,") == page.count("<figcaption>") > 0


def test_a_study_that_is_run_again_takes_what_is_there(few, tmp_path):
    setup = Setup(few, tmp_path, quick=True, epochs=1, progress=False)
    first = run_study("search", setup).as_json()
    second = run_study("search", setup).as_json()
    assert first["tables"] == second["tables"]  # the seconds of each run as well


def test_several_studies_share_a_folder_with_an_index(few, tmp_path):
    reports = run_studies(
        ["search", "convnet"], few, tmp_path, together=True, quick=True, epochs=1, progress=False
    )
    text = (tmp_path / "RESULTS.md").read_text()
    index = (tmp_path / "index.html").read_text()
    for report in reports:
        assert f"| {report.study} |" in text
        assert f'href="{report.study}/report.html"' in index
        assert (tmp_path / report.study / "report.html").exists()
    assert "the best perceptron of the search: " in text
    assert f"Made by `pynn run search convnet --data {few.name} --epochs 1 --quick`;" in text


def test_studies_share_a_queue_timings_first(few, tmp_path, capsys):
    options = {"quick": True, "epochs": 1, "progress": True}
    reports = run_studies(["momentum", "search"], few, tmp_path, together=True, **options)
    assert [report.study for report in reports] == ["momentum", "search"]
    names = [line.split("/")[0].rsplit(" ", 1)[0] for line in capsys.readouterr().err.splitlines()]
    assert names == [
        "momentum: cost_of_gradients", *["search"] * 4, *["momentum: train"] * 6,
        "momentum: check_gradient",
    ]  # fmt: skip


def test_a_run_that_diverges_is_reported_without_warnings(few, tmp_path):
    from pynn.experiments.ladder import train
    from pynn.train.sweep import SweepRun

    setting = {
        "network": 4, "lr": 1e30, "epochs": 1, "held_out": 50, "measure_every": 100, "setting": 1,
    }  # fmt: skip
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = train(setting, SweepRun(setting, tmp_path, 0, few))
    assert "the loss is" in result["diverged"]
    assert "learning rate 1e+30" in result["diverged"]


def test_numbers_of_parameters():
    from pynn.experiments import convnet, initialisation, ladder, search

    def size(model):
        return sum(parameter.size for parameter in model.parameters())

    assert [size(convnet.network(28, 10, variant)) for variant in convnet.VARIANTS] == [206_500] * 3
    assert size(initialisation.network(784, 500, 400, "Glorot")) == 596_910
    assert search.parameters(784, 600, 400, 10) == 715_410
    assert [size(ladder.network(number, 28)) for number in (1, 2, 3, 4)] == [
        7850, 25_450, 26_506, 80 + 584 + 392 * 32 + 32 + 330,
    ]  # fmt: skip


def test_the_search_has_72_networks(tmp_path):
    from pynn.experiments.search import settings

    images, labels = np.zeros((60, 1, 28, 28), np.uint8), np.arange(60) % 10
    dataset = Dataset("mnist", images, labels, images, labels, tuple("0123456789"))
    found = settings(Setup(dataset, tmp_path))
    assert len(found) == 72
    assert all(setting["epochs"] == 15 for setting in found)
    assert Setup(dataset, tmp_path).compared
    assert not Setup(dataset, tmp_path, quick=True).compared


@pytest.mark.parametrize("shape", [(1, 12, 12), (3, 28, 28), (1, 28, 8)])
def test_images_that_no_study_takes(shape, tmp_path):
    images, labels = np.zeros((5, *shape), np.uint8), np.zeros(5, int)
    dataset = Dataset("mine", images, labels, images, labels, ("a",))
    with pytest.raises(pynn.ShapeError, match="28 x 28 or 8 x 8 pixels, got "):
        Setup(dataset, tmp_path)
