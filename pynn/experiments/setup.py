"""What every study is given, and what studies share."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import pynn
from pynn.data import Dataset
from pynn.errors import ShapeError
from pynn.report import Comparison, Report
from pynn.train.settings import Setting
from pynn.train.sweep import Result, RunFunction, Sweep

Arrays = tuple[NDArray[np.uint8], NDArray[Any]]
# A study yields, once, the sweeps it needs, is sent the results of each, and returns its report.
Study = Generator[list[Sweep], list[list[Result]], Report]


@dataclass(frozen=True)
class Setup:
    """How a study is to be run.

    Attributes:
        dataset: square grey images.
        out: folder for what the study leaves; exists.
        seed: of everything that is random.
        quick: a shortened run, of half a minute or so.
        jobs: runs at once.
        threads: of each run; None shares the processors among the jobs.
        progress: see `pynn.fit`.
        epochs: instead of the study's own number, where it has one.
        faces: folder with one subfolder of images for each person; None: some images of the data
            set stand in for them.
        weights: file with AlexNet's weights; None: features are pretrained first.
        squeezenet: file with SqueezeNet's weights; None: the study does without.
        pretrain: what features are pretrained on; None: half of the classes at hand.
    """

    dataset: Dataset
    out: Path
    seed: int = 0
    quick: bool = False
    jobs: int = 1
    threads: int | None = None
    progress: bool | str = "auto"
    epochs: int | None = None
    faces: Path | None = None
    weights: Path | None = None
    squeezenet: Path | None = None
    pretrain: Dataset | None = None

    def __post_init__(self) -> None:
        if self.faces is not None and not self.faces.is_dir():
            raise FileNotFoundError(f"the folder of faces {self.faces} does not exist")
        for what, path in (("AlexNet", self.weights), ("SqueezeNet", self.squeezenet)):
            if path is not None and not path.is_file():
                raise FileNotFoundError(f"the file of {what}'s weights {path} does not exist")
        channels, height, width = self.dataset.train_images.shape[1:]
        if channels != 1 or height != width or height not in (8, 28):
            raise ShapeError(
                "the studies take grey images of 28 x 28 or 8 x 8 pixels, got "
                f"{channels} x {height} x {width}"
            )

    @property
    def size(self) -> int:
        """Pixels along a side of an image: 28 or 8."""
        return int(self.dataset.train_images.shape[2])

    @property
    def compared(self) -> bool:
        """Whether results stand beside the published ones: MNIST, and a run of full length."""
        return self.dataset.name == "mnist" and not self.quick and self.epochs is None

    @property
    def train(self) -> Arrays:
        """All training images and labels."""
        return self.dataset.train_images, self.dataset.train_labels

    @property
    def test(self) -> Arrays:
        """The test images and labels."""
        return self.dataset.test_images, self.dataset.test_labels

    def held_out(self, of_mnist: int) -> int:
        """How many training images are held out: of MNIST's 60,000 so many, of smaller data sets
        two fifteenths (200 of the digits)."""
        count = len(self.dataset.train_labels)
        return of_mnist if count >= 60_000 else count * 2 // 15 + 1

    def sweep(
        self,
        function: RunFunction,
        settings: Sequence[Setting],
        *,
        monitor: str | None = None,
        data: Any = None,
        length: Callable[[Setting], float] | None = None,
        first: bool = False,
    ) -> Sweep:
        """Calls of a function for each setting, with some data, or else the data set, as
        `run.data`; see `Sweep`. Results are kept in out/runs, so that a study that was interrupted
        goes on where it stopped."""
        return Sweep(
            function, settings, self.out / "runs", data=self.dataset if data is None else data,
            seed=self.seed, monitor=monitor, length=length, first=first,
        )  # fmt: skip

    def comparison(
        self,
        name: str,
        published: float | str | None,
        ours: Any,
        bounds: tuple[float, float],
        *,
        remark: str = "",
    ) -> Comparison:
        """A published value beside ours; compared only where `compared` is true."""
        return Comparison(name, published, ours, *bounds, remark=remark, compared=self.compared)

    def report(
        self, study: str, title: str, *, ours: Mapping[str, Any] | None = None, **settings: Any
    ) -> Report:
        """An empty report with the settings that all studies have; `ours` are those that the study
        does not publish."""
        dataset = self.dataset
        report = Report(study, title, ours=dict(ours or {}))
        found: Mapping[str, Any] = pynn.config.config()
        report.settings = {
            "data": f"{dataset.name}, {len(dataset.train_labels)} training and "
            f"{len(dataset.test_labels)} test images of {self.size} x {self.size}",
            "length": "quick" if self.quick else "full",
            "seed": self.seed,
            "jobs": self.jobs,
            **settings,
            **found,
        }
        return report


def around(value: float, tolerance: float) -> tuple[float, float]:
    """Value - tolerance ... value + tolerance."""
    return value - tolerance, value + tolerance


def within_share(value: float, share: float) -> tuple[float, float]:
    """The values that differ from a positive one by no more than a share of it."""
    return value * (1 - share), value * (1 + share)


def within_factor(value: float, factor: float) -> tuple[float, float]:
    """Value / factor ... value * factor."""
    return value / factor, value * factor


def at_least(value: float) -> tuple[float, float]:
    """The values from this on."""
    return value, float("inf")
