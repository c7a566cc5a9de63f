"""The training loop: history, callbacks, checkpoints, resuming, divergence."""

import json
import math
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest

import pynn
from pynn import nn, optim
from pynn.data import Batches
from pynn.train import Callback, Checkpoint, EarlyStopping, History
from pynn.train.best_iteration import BestIteration
from pynn.train.measuring import AccuracyEvery, Divergence

RNG = np.random.default_rng(2)
CENTRES = RNG.standard_normal((3, 8)) * 2
LABELS = RNG.integers(0, 3, 230)
POINTS = (CENTRES[LABELS] + RNG.standard_normal((230, 8))).astype("f")
TRAIN, VALID = (POINTS[:200], LABELS[:200]), (POINTS[200:], LABELS[200:])


def model(seed=0):
    pynn.manual_seed(seed)
    return nn.Sequential(
        nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2), nn.Linear(16, 3)
    )


def bits(net):
    return b"".join(array.tobytes() for array in net.state_dict().values())


def fit(net, optimizer, **options):
    options = {"valid": VALID, "epochs": 6, "batch_size": 32, "progress": False} | options
    return pynn.fit(net, nn.CrossEntropyLoss(), optimizer, options.pop("data", TRAIN), **options)


def test_history_has_what_was_measured():
    net = model()
    history = fit(net, optim.Adam(net.parameters(), lr=0.01))
    assert history.columns == [
        "epoch", "train_loss", "train_accuracy", "valid_loss", "valid_accuracy", "lr", "seconds",
    ]  # fmt: skip
    assert history["epoch"] == [1, 2, 3, 4, 5, 6]
    assert history["valid_accuracy"][-1] > 0.8
    measured = pynn.evaluate(net, nn.CrossEntropyLoss(), VALID)
    assert history[-1]["valid_loss"] == measured["loss"]
    assert history[-1]["valid_accuracy"] == measured["accuracy"]
    assert net.training
    assert history[:2] == history.rows[:2]
    assert history[np.int64(1)] == history.rows[1]
    with pytest.raises(KeyError, match="no column 'f1', only epoch"):
        history["f1"]


def test_epoch_means_weigh_batches_by_their_samples():
    net = nn.Sequential(nn.Linear(8, 3))
    history = fit(net, optim.SGD(net.parameters(), lr=0.0), epochs=1, valid=TRAIN)
    assert history[0]["train_loss"] == pytest.approx(history[0]["valid_loss"], rel=1e-6)
    assert history[0]["train_accuracy"] == history[0]["valid_accuracy"]


def test_same_seed_same_bits_and_any_source_of_batches():
    results = set()
    for data in (
        TRAIN, Batches(*TRAIN, 32, seed=5), Batches(*TRAIN, 32, seed=5, reuse=True),
        (TRAIN[0].astype(np.float64).tolist(), TRAIN[1].astype(np.uint8)),
    ):  # fmt: skip
        net = model()
        fit(net, optim.SGD(net.parameters(), lr=0.1), data=data, seed=5)
        results.add(bits(net))
    assert len(results) == 1


def test_ignored_labels_count_in_no_accuracy():
    net = nn.Sequential(nn.Linear(8, 3))
    x, labels = VALID
    some = np.where(np.arange(30) < 12, -100, labels)
    loss = nn.CrossEntropyLoss(ignore_index=-100)
    measured = pynn.evaluate(net, loss, (x, some), batch_size=7)
    assert measured == pytest.approx(pynn.evaluate(net, loss, (x[12:], labels[12:])), rel=1e-6)
    measured = pynn.evaluate(net, loss, (x, np.full(30, -100)))
    assert list(measured) == ["loss"]
    assert math.isnan(measured["loss"])


def test_fit_is_a_loop_over_step():
    net = model()
    fit(net, optim.SGD(net.parameters(), lr=0.1), epochs=2, seed=3)
    other = model()
    step = pynn.compile(other, nn.CrossEntropyLoss(), optim.SGD(other.parameters(), lr=0.1))
    batches = Batches(*TRAIN, 32, seed=3)
    for epoch in range(2):
        for x, y in batches.epoch(epoch):
            step(x, y)
    assert bits(net) == bits(other)


def test_regression_targets():
    net = nn.Sequential(nn.Linear(8, 2))
    target = TRAIN[0] @ RNG.standard_normal((8, 2)).astype("f")
    history = pynn.fit(
        net, nn.MSELoss(), optim.Adam(net.parameters(), lr=0.05), (TRAIN[0], target), epochs=60,
        progress=False,
    )  # fmt: skip
    assert history.columns == ["epoch", "train_loss", "lr", "seconds"]
    assert history["train_loss"][-1] < 1e-3 * history["train_loss"][0]


def test_schedules_step_with_epochs_or_batches():
    net = model()
    optimizer = optim.SGD(net.parameters(), lr=1e-3)
    history = fit(net, optimizer, schedule=optim.StepLR(optimizer, 2, gamma=0.5))
    assert history["lr"] == [1e-3, 1e-3, 5e-4, 5e-4, 2.5e-4, 2.5e-4]
    optimizer = optim.SGD(net.parameters(), lr=1.0)
    schedule = optim.OneCycleLR(optimizer, 1e-3, total_steps=6 * 7)
    fit(net, optimizer, schedule=schedule)
    assert schedule.steps == 42
    assert optimizer.lr == pytest.approx(1e-3 / 25 / 1e4)
    optimizer = optim.SGD(net.parameters(), lr=1e-3)
    cosine = optim.CosineAnnealingLR(optimizer, 6, floor=0.1)
    history = fit(net, optimizer, schedule=cosine)
    assert history["lr"][0] == 1e-3
    assert history["lr"][3] == pytest.approx(1e-3 * 0.55)
    assert optimizer.lr == pytest.approx(1e-4)


class Plateau(optim.ReduceLROnPlateau):
    """Remembers what it was given."""

    def step(self, metric=None):
        self.given = [*getattr(self, "given", []), metric]
        super().step(metric)


class Loader:
    """Batches that do not show before they are read."""

    def __iter__(self):
        return iter([VALID])


@pytest.mark.parametrize("mode", ["min", "max"])
@pytest.mark.parametrize("valid", [VALID, None, Loader()], ids=["valid", "none", "loader"])
def test_a_plateau_is_one_of_the_loss_or_the_accuracy(mode, valid):
    net = model()
    optimizer = optim.SGD(net.parameters(), lr=0.01)
    schedule = Plateau(optimizer, mode=mode)
    history = fit(net, optimizer, schedule=schedule, valid=valid)
    part, quantity = "train" if valid is None else "valid", {"min": "loss", "max": "accuracy"}[mode]
    assert schedule.given == history[f"{part}_{quantity}"]


def test_a_plateau_of_the_accuracy_needs_labels():
    shares = np.eye(3, dtype="f")[LABELS]

    def run(valid):
        optimizer = optim.SGD(net.parameters(), lr=0.01)
        schedule = optim.ReduceLROnPlateau(optimizer, mode="max")
        return fit(net, optimizer, data=(TRAIN[0], shares[:200]), valid=valid, schedule=schedule)

    net = model()
    before = bits(net)
    for valid in (None, (VALID[0], shares[200:])):
        with pytest.raises(ValueError, match=r"mode='max'\) is for the accuracy, but there are no"):
            run(valid)
    assert bits(net) == before
    assert "train_accuracy" not in run(VALID).columns


def test_early_stopping_restores_the_best_epoch():
    net = model()
    seen = {}

    class Keep(Callback):
        def on_epoch_end(self, run):
            seen[run.epoch] = bits(run.model)

    stopping = EarlyStopping("valid_loss", patience=2)
    history = fit(net, optim.SGD(net.parameters(), lr=1.5), epochs=60, callbacks=[Keep(), stopping])
    losses = history["valid_loss"]
    best = int(np.argmin(losses)) + 1
    assert stopping.best_epoch == best
    assert stopping.best == min(losses)
    assert len(history) == best + 3 < 60
    assert bits(net) == seen[best]


def test_early_stopping_never_takes_what_is_not_a_number_for_the_best():
    net = model()

    class Broken(nn.CrossEntropyLoss):
        def value_and_gradient(self, output, target):
            value, gradient = super().value_and_gradient(output, target)
            return (value if net.training or net._run_steps > 7 else np.nan), gradient

    stopping = EarlyStopping(patience=3)
    optimizer = optim.SGD(net.parameters())
    history = pynn.fit(
        net, Broken(), optimizer, TRAIN, valid=VALID, epochs=3, callbacks=[stopping], progress=False
    )
    assert np.isnan(history[0]["valid_loss"])
    assert stopping.best == min(history["valid_loss"][1:])


def test_validation_data_that_can_be_read_once_or_does_not_fit_is_refused():
    net = model()
    before = bits(net)
    with pytest.raises(TypeError, match="a generator gives its batches only once"):
        fit(net, optim.SGD(net.parameters()), valid=(batch for batch in [VALID]))
    assert bits(net) == before
    for labels, count in ((LABELS, "230"), (3, "no")):
        with pytest.raises(pynn.ShapeError, match=f"x has 30 samples but y has {count}"):
            pynn.evaluate(net, nn.CrossEntropyLoss(), (POINTS[:30], labels))


def few(count):
    return POINTS[:count], LABELS[:count]


UNFIT = {
    "no_samples": (few(0), ValueError, "has no batch: 0 samples"),
    "no_batches": ([], ValueError, "has no batch"),
    "only_a_smaller_batch": (
        Batches(*few(5), 8, drop_last=True), ValueError, "has no batch: 5 samples, batch size 8",
    ),
    "list": ([*VALID], TypeError, r"must be \(x, y\), since .* is a list, got a ndarray"),
    "batch": ([VALID, (1, 2, 3)], TypeError, r"batch 1 of .* must be \(x, y\), .* a tuple of 3"),
    "triple": ((*VALID, 3), TypeError, r"must be \(x, y\) or batches of them, got a tuple of 3"),
    "array": (POINTS, TypeError, r"batch 0 of .* must be \(x, y\), since .* is a ndarray"),
    "number": (3, TypeError, r"must be \(x, y\) or batches of them, got a int"),
    "no_axis": ((POINTS[0, 0], LABELS), pynn.ShapeError, "x has no samples but y has 230"),
    "shape": ((POINTS[:, :3], LABELS), pynn.ShapeError, "expected 8 input features, got 3"),
}  # fmt: skip


@pytest.mark.parametrize(("data", "error", "said"), UNFIT.values(), ids=UNFIT)
def test_data_that_cannot_be_measured_on_are_refused_before_training(data, error, said):
    net = model()
    before = bits(net)
    with pytest.raises(error, match=said):
        pynn.evaluate(net, nn.CrossEntropyLoss(), data)
    with pytest.raises(error, match=said):
        fit(net, optim.SGD(net.parameters()), valid=data)
    assert bits(net) == before


def test_an_iterator_is_measured_once():
    net, batches = model(), iter([VALID])
    assert pynn.evaluate(net, nn.CrossEntropyLoss(), batches)["loss"] > 0
    with pytest.raises(
        ValueError, match="data has no batch: a list_iterator gives its batches only"
    ):
        pynn.evaluate(net, nn.CrossEntropyLoss(), batches)


def test_early_stopping_says_when_it_watches_nothing():
    net = model()
    with pytest.raises(ValueError, match="watches 'valid_loss', but the history has only epoch"):
        fit(net, optim.SGD(net.parameters()), valid=None, callbacks=[EarlyStopping()])


OPTIMISERS = {
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9),
    "adam": lambda p: optim.Adam(p, lr=0.01),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.2),
}


@pytest.mark.parametrize("optimiser", OPTIMISERS.values(), ids=OPTIMISERS)
def test_resuming_gives_the_bits_of_a_training_never_interrupted(tmp_path, optimiser):
    def run(epochs, *, seed, resume=None):
        net = model(seed)
        optimizer = optimiser(net.parameters())
        history = fit(
            net, optimizer, epochs=epochs, resume=resume,
            schedule=optim.CosineAnnealingLR(optimizer, 6),
            callbacks=[EarlyStopping(patience=9), Checkpoint(tmp_path / "run.safetensors")],
        )  # fmt: skip
        return bits(net), [{k: v for k, v in row.items() if k != "seconds"} for row in history]

    whole = run(6, seed=1)
    run(3, seed=1)
    assert run(6, seed=99, resume=tmp_path / "run.safetensors") == whole


class Decay(Callback):
    def on_batch_end(self, run):
        run.optimizer.lr *= 0.9


@pytest.mark.parametrize(
    "schedule", [lambda o: optim.StepLR(o, 3), lambda o: optim.OneCycleLR(o, 0.1, 40)]
)
def test_resuming_keeps_a_learning_rate_that_a_callback_set(tmp_path, schedule):
    def run(epochs, resume=None):
        net = model()
        optimizer = optim.SGD(net.parameters(), lr=0.1)
        history = fit(
            net, optimizer, epochs=epochs, resume=resume, schedule=schedule(optimizer),
            callbacks=[Decay(), Checkpoint(tmp_path / "run")],
        )  # fmt: skip
        return bits(net), history["lr"]

    whole = run(4)
    run(2)
    assert run(4, tmp_path / "run") == whole


def test_resuming_between_accumulated_batches_gives_the_same_bits(tmp_path):
    def run(epochs, resume=None):
        net = model()
        fit(
            net, optim.Adam(net.parameters()), epochs=epochs, accumulate=2, resume=resume,
            callbacks=[Checkpoint(tmp_path / "run")],
        )  # fmt: skip
        return bits(net)

    whole = run(2)  # of 7 batches each: the last of the first epoch waits for the second
    run(1)
    assert run(2, tmp_path / "run") == whole


def test_a_checkpoint_holds_what_callbacks_listed_after_it_did(tmp_path):
    stopping = EarlyStopping("epoch", mode="max")
    net = model()
    fit(
        net, optim.SGD(net.parameters()), epochs=2,
        callbacks=[Checkpoint(tmp_path / "run"), stopping],
    )  # fmt: skip
    state = json.loads(pynn.io.load_metadata(tmp_path / "run")["pynn.checkpoint"])
    assert state["callbacks"][1]["state"]["best_epoch"] == stopping.best_epoch == 2


def test_a_checkpoint_that_cannot_be_written_is_refused_before_training(tmp_path):
    net = model()
    before = bits(net)
    for path, error, said in (
        (tmp_path / "no" / "run", FileNotFoundError, "the folder of the checkpoint .* does not exist"),
        (tmp_path, IsADirectoryError, "the checkpoint must be a file, but .* is a folder"),
    ):  # fmt: skip
        with pytest.raises(error, match=said):
            fit(net, optim.SGD(net.parameters()), callbacks=[Checkpoint(path)])
    assert bits(net) == before


@pytest.fixture
def checkpoint(tmp_path):
    net = model()
    path = tmp_path / "run.safetensors"
    fit(net, optim.Adam(net.parameters()), epochs=2, callbacks=[Checkpoint(path)])
    return path


def resume(path, net=None, kind=optim.Adam, callbacks=None, **options):
    net = net or model()
    before = bits(net)
    with pytest.raises((pynn.FormatError, OSError)) as caught:
        fit(
            net, kind(net.parameters()), resume=path,
            callbacks=[Checkpoint(path)] if callbacks is None else callbacks, **options,
        )  # fmt: skip
    assert bits(net) == before
    return str(caught.value)


def test_checkpoints_of_other_trainings_are_refused(checkpoint):
    assert "optimiser Adam, this training SGD" in resume(checkpoint, kind=optim.SGD)
    net = model()
    optimizer = optim.Adam(net.parameters())
    with pytest.raises(pynn.FormatError, match="schedule None, this training StepLR"):
        fit(net, optimizer, schedule=optim.StepLR(optimizer, 1), resume=checkpoint)
    assert "callbacks ['Checkpoint'], this training []" in resume(checkpoint, callbacks=[])
    net = nn.Sequential(nn.Linear(8, 3))
    assert "unknown 1.weight" in resume(checkpoint, net)
    wide = nn.Sequential(*model())
    wide[4] = nn.Linear(16, 5)
    assert "4.weight must have shape (5, 16), got (3, 16)" in resume(checkpoint, wide)
    assert "none.safetensors" in resume(checkpoint.with_name("none.safetensors"))


def test_a_plain_file_of_tensors_is_no_checkpoint(tmp_path):
    pynn.io.save(tmp_path / "plain", model().state_dict())
    assert "not a checkpoint" in resume(tmp_path / "plain")


def test_checkpoints_that_lack_a_tensor_or_count_below_zero_are_refused(checkpoint):
    tensors, metadata = pynn.io.load(checkpoint), pynn.io.load_metadata(checkpoint)
    moment = next(name for name in tensors if name.startswith("optimizer"))
    for changed in (
        {name: array for name, array in tensors.items() if name != moment},
        tensors | {"optimizer.0.third": tensors[moment]},
    ):
        pynn.io.save(checkpoint, changed, metadata)
        assert "not those that were saved" in resume(checkpoint)
    state = json.loads(metadata["pynn.checkpoint"])
    for key in ("epoch", "steps", "accumulated"):
        text = json.dumps(state | {key: -1})
        pynn.io.save(checkpoint, tensors, {"pynn.checkpoint": text})
        assert f"{key!r} is negative: -1" in resume(checkpoint)


def test_truncated_and_mutated_checkpoints_are_refused(checkpoint):
    whole = checkpoint.read_bytes()
    for size in (0, 7, 8, 100, len(whole) // 2, len(whole) - 1):
        checkpoint.write_bytes(whole[:size])
        resume(checkpoint)
    rng = np.random.default_rng(0)
    header = int.from_bytes(whole[:8], "little")
    loaded = 0
    for _ in range(150):
        damaged = bytearray(whole)
        for place in rng.integers(0, header, rng.integers(1, 4)):
            damaged[8 + place] = rng.integers(32, 127)
        checkpoint.write_bytes(damaged)
        net = model()
        try:
            fit(net, optim.Adam(net.parameters()), epochs=2, resume=checkpoint,
                callbacks=[Checkpoint(checkpoint)])  # fmt: skip
            loaded += 1
        except pynn.FormatError:
            pass
    assert loaded < 150


KILLED = """
import sys, numpy as np, pynn
from pynn import nn, optim
from pynn.train import Checkpoint
pynn.manual_seed(0)
net = nn.Sequential(nn.Linear(8, 4000), nn.ReLU(), nn.Linear(4000, 3))
x = np.random.default_rng(0).random((4, 8)).astype("f")
pynn.fit(net, nn.CrossEntropyLoss(), optim.Adam(net.parameters()), (x, np.arange(4) % 3), epochs=10**6,
         progress=False, callbacks=[Checkpoint(sys.argv[1])])
"""


@pytest.mark.skipif(os.name != "posix", reason="kills with SIGKILL")
def test_killed_while_a_checkpoint_is_written(tmp_path):
    path = tmp_path / "run.safetensors"
    epochs = []
    for delay in (0.0, 0.013, 0.031, 0.057):
        process = subprocess.Popen([sys.executable, "-c", KILLED, path])
        deadline = time.monotonic() + 60
        while not path.exists() and time.monotonic() < deadline:
            time.sleep(0.005)
        time.sleep(0.3 + delay)
        process.send_signal(signal.SIGKILL)
        process.wait()
        state = json.loads(pynn.io.load_metadata(path)["pynn.checkpoint"])
        assert len(pynn.io.load(path)) == 4 + 8
        epochs.append(state["epoch"])
        net = nn.Sequential(nn.Linear(8, 4000), nn.ReLU(), nn.Linear(4000, 3))
        x = np.random.default_rng(0).random((4, 8)).astype("f")
        history = pynn.fit(
            net, nn.CrossEntropyLoss(), optim.Adam(net.parameters()), (x, np.arange(4) % 3),
            epochs=state["epoch"] + 1, progress=False, resume=path,
            callbacks=[Checkpoint(tmp_path / "other")],
        )  # fmt: skip
        assert len(history) == state["epoch"] + 1
        path.unlink()
    assert min(epochs) > 0


def test_a_diverging_training_stops_and_says_where():
    net = nn.Sequential(nn.Linear(8, 16), nn.Linear(16, 2))
    optimizer = optim.SGD(net.parameters(), lr=1e6)
    with pytest.raises(pynn.NonFiniteError, match=r"the loss is (inf|nan) at step \d+") as caught:
        pynn.fit(
            net, nn.MSELoss(), optimizer, (TRAIN[0], np.zeros((200, 2), "f")), epochs=50,
            progress=False,
        )  # fmt: skip
    assert "learning rate 1e+06" in str(caught.value)
    assert "last finite loss" in str(caught.value)
    assert isinstance(caught.value.history, History)
    assert all(np.isfinite(array).all() for array in net.state_dict().values())


def test_history_files(tmp_path):
    history = History([{"epoch": 1.0, "train_loss": 0.5}, {"epoch": 2.0, "train_loss": 0.25}])
    history.to_csv(tmp_path / "h.csv")
    assert (tmp_path / "h.csv").read_text() == "epoch,train_loss\n1.0,0.5\n2.0,0.25\n"
    history.to_json(tmp_path / "h.json")
    assert json.loads((tmp_path / "h.json").read_text()) == history.rows


def test_history_files_are_json_whatever_the_numbers(tmp_path):
    history = History(
        [{"epoch": 1.0, "loss": math.nan, "lr": np.float32("inf")}, {"lr": -math.inf}]
    )
    history.to_json(tmp_path / "h.json")
    rows = json.loads((tmp_path / "h.json").read_text(), parse_constant=pytest.fail)
    assert rows == [{"epoch": 1.0, "loss": "nan", "lr": "inf"}, {"lr": "-inf"}]


def test_progress_prints_a_line_for_each_epoch(capsys):
    net = model()
    fit(net, optim.SGD(net.parameters()), epochs=2, progress=True)
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("epoch 1/2  train loss ")
    assert "valid accuracy" in lines[1]
    with pytest.raises(ValueError, match="progress must be"):
        fit(net, optim.SGD(net.parameters()), progress="loud")


def test_nothing_is_shown_where_there_is_no_standard_error(monkeypatch, capsys):
    monkeypatch.setattr(sys, "stderr", None)
    net = model()
    for progress in ("auto", True):
        assert len(fit(net, optim.SGD(net.parameters()), epochs=1, progress=progress)) == 1
    assert capsys.readouterr().out == ""


def test_all_callbacks_end_and_the_first_error_is_raised():
    ended = []

    class Ends(Callback):
        def __init__(self, name, wrong=False):
            self.name, self.wrong = name, wrong

        def on_end(self, run):
            ended.append(self.name)
            if self.wrong:
                raise RuntimeError(self.name)

    def run(loss):
        net, ended[:] = model(), []
        callbacks = [Ends("a"), Ends("b", wrong=True), Ends("c"), Ends("d", wrong=True), Ends("e")]
        pynn.fit(net, loss, optim.SGD(net.parameters()), TRAIN, callbacks=callbacks, progress=False)

    class Broken(nn.CrossEntropyLoss):
        def value_and_gradient(self, output, target):
            return math.nan, super().value_and_gradient(output, target)[1]

    for loss, error, said in (
        (nn.CrossEntropyLoss(), RuntimeError, "^d"), (Broken(), pynn.NonFiniteError, "nan"),
    ):  # fmt: skip
        with pytest.raises(error, match=said) as caught:
            run(loss)
        assert ended == [*"edcba"]
        assert "Ends.on_end raised RuntimeError('b')" in caught.value.__notes__[-1]


def test_no_epochs_and_no_samples():
    net = model()
    before = bits(net)
    assert len(fit(net, optim.SGD(net.parameters()), epochs=0)) == 0
    assert bits(net) == before
    empty = (POINTS[:0], LABELS[:0])
    with pytest.raises(ValueError, match="no batch: 0 samples"):
        fit(net, optim.SGD(net.parameters()), data=empty, epochs=1)


def test_what_would_fail_midway_or_change_nothing_is_refused_at_once():
    net = model().eval()
    before = bits(net)
    optimizer, other = optim.SGD(net.parameters()), optim.SGD(net.parameters())
    for options, error, said in (
        ({"schedule": optim.StepLR(other, 2)}, ValueError, "the schedule is another optimiser's"),
        ({"schedule": 3}, TypeError, "schedule must be one of pynn.optim, or of its kind, got 3"),
        ({"callbacks": [EarlyStopping]}, TypeError, "objects of pynn.train.Callback, got <class"),
        ({"epochs": 1.5}, TypeError, "epochs must be a whole number, got 1.5"),
    ):
        with pytest.raises(error, match=said):
            fit(net, optimizer, **options)
    assert bits(net) == before
    assert not net.training
    assert len(fit(net, optimizer, epochs=2, callbacks=(each for each in [Divergence()]))) == 2


def test_options_of_schedules_and_callbacks():
    optimizer = optim.SGD(model().parameters())
    for make, error in (
        (lambda: optim.StepLR(optimizer, 1.5), TypeError),
        (lambda: optim.OneCycleLR(optimizer, 0.1, 10, start_divisor=0), ValueError),
        (lambda: optim.ReduceLROnPlateau(optimizer, patience=-1), ValueError),
        (lambda: EarlyStopping(patience=-1), ValueError),
    ):
        with pytest.raises(error, match="must be"):
            make()


def test_a_last_batch_that_cannot_be_trained_on_is_refused_at_once():
    net = model()
    before = bits(net)
    with pytest.raises(pynn.ShapeError, match=r"1 \(BatchNorm1d\): batch_norm needs more than one"):
        fit(net, optim.SGD(net.parameters()), data=(POINTS[:65], LABELS[:65]))
    assert bits(net) == before


def test_callbacks_forget_an_earlier_training():
    def run(callbacks):
        net = model(3)
        history = fit(net, optim.SGD(net.parameters(), lr=0.0), epochs=9, callbacks=callbacks)
        return bits(net), len(history), [getattr(c, "rows", None) for c in callbacks]

    def callbacks():
        parts = {"valid": VALID}
        return [
            EarlyStopping(patience=2), AccuracyEvery(150, parts),
            BestIteration(5, parts, nn.CrossEntropyLoss()), Divergence(),
        ]  # fmt: skip

    used = callbacks()
    net = model(1)
    fit(net, optim.Adam(net.parameters(), lr=0.05), epochs=12, callbacks=used)
    assert run(used) == run(callbacks())


class Worsening(nn.CrossEntropyLoss):
    """Each step makes the model worse."""

    def value_and_gradient(self, output, target):
        value, gradient = super().value_and_gradient(output, target)
        return value, -gradient


def test_resuming_keeps_what_callbacks_have_measured(tmp_path):
    def run(epochs, resume=None):
        net = model()
        parts = {"valid": VALID}
        watchers = [
            AccuracyEvery(100, parts), BestIteration(4, parts, nn.CrossEntropyLoss()), Divergence(2.0),
        ]  # fmt: skip
        history = pynn.fit(
            net, Worsening(), optim.SGD(net.parameters(), lr=0.02), TRAIN, epochs=epochs,
            batch_size=32, resume=resume, progress=False,
            callbacks=[*watchers, Checkpoint(tmp_path / "run")],
        )  # fmt: skip
        accuracy, best, divergence = watchers
        return bits(net), len(history), accuracy.rows, best.rows, best.best, divergence.message

    whole = run(40)
    assert "more than 2 times its first value" in whole[-1]
    run(2)
    assert run(40, tmp_path / "run") == whole


def test_numbers_of_numpy_fit_into_checkpoints_and_histories(tmp_path):
    class Loss(nn.MSELoss):
        def value_and_gradient(self, output, target):
            return ((output - target) ** 2).mean(), (2 / output.size) * (output - target)

    net = nn.Linear(8, 8)
    optimizer = optim.SGD(net.parameters(), lr=np.float32(0.1), momentum=np.float32(0.5))
    history = pynn.fit(
        net, Loss(), optimizer, (POINTS, POINTS), callbacks=[Checkpoint(tmp_path / "run")],
        progress=False,
    )  # fmt: skip
    history.to_json(tmp_path / "history.json")
    (row,) = json.loads((tmp_path / "history.json").read_text())
    assert row["train_loss"] == history[0]["train_loss"]
    state = json.loads(pynn.io.load_metadata(tmp_path / "run")["pynn.checkpoint"])
    assert state["optimizer"]["groups"][0]["lr"] == np.float32(0.1)


def test_data_is_a_pair_or_batches():
    for data, got in (([TRAIN] * 3, "a list of 3"), (POINTS, "a ndarray")):
        with pytest.raises(TypeError, match=rf"data must be \(x, y\) or a data.Batches, got {got}"):
            pynn.fit(model(), nn.CrossEntropyLoss(), optim.SGD(model().parameters()), data)


def test_batch_sizes_of_an_evaluation():
    for size in (0, -5):
        with pytest.raises(ValueError, match=f"batch_size must be 1 or more, got {size}"):
            pynn.evaluate(model(), nn.CrossEntropyLoss(), VALID, batch_size=size)


def test_a_state_that_is_none_leaves_the_optimiser_as_it_is():
    net = model()
    optimizer = optim.SGD(net.parameters(), lr=0.1, momentum=0.9)
    fit(net, optimizer, epochs=1)
    before = optimizer.state_dict()
    for change in (
        {"steps": ["a"] * len(before["steps"])},
        {"steps": [-1] * len(before["steps"])},
        {"steps": [1.5] * len(before["steps"])},
        {"steps": [2**63] * len(before["steps"])},
        {"state": [{n: a + 1j for n, a in s.items()} for s in before["state"]]},
        {"state": [{n: np.full(a.shape, "a") for n, a in s.items()} for s in before["state"]]},
    ):
        groups = [{**group, "lr": 0.7} for group in before["groups"]]
        with pytest.raises(pynn.FormatError):
            optimizer.load_state_dict({**before, "groups": groups, **change})
        assert optimizer.lr == 0.1
    with pytest.raises(pynn.FormatError, match="it has no state, steps"):
        optimizer.load_state_dict({"groups": before["groups"]})
