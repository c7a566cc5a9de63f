"""What a compiled step promises, on the device: who owns the parameters, what failure leaves, what is
read anew at every step."""

import copy

import numpy as np
import pytest

import pynn
from pynn import nn, optim


def perceptron():
    pynn.manual_seed(3)
    return nn.Sequential(nn.Linear(6, 8), nn.ReLU(), nn.Linear(8, 3))


def batch(count=12, seed=0):
    rng = np.random.default_rng(seed)
    return rng.standard_normal((count, 6)).astype(np.float32), rng.integers(0, 3, count)


def compiled(model, **options):
    opt = optim.SGD(model.parameters(), lr=0.1, momentum=0.9, **options)
    return pynn.compile(model, nn.CrossEntropyLoss(), opt), opt


def test_parameters_come_back_when_they_are_read(on_cuda):
    model = perceptron()
    step, opt = compiled(model)
    x, y = batch()
    step(x, y)
    view = model[0].weight.data
    before = view.copy()
    step(x, y)
    np.testing.assert_array_equal(view, before)  # a view that was taken before has the old values
    after = model[0].weight.data
    assert not np.array_equal(after, before)
    np.testing.assert_array_equal(view, after)  # it is a view of the same memory
    assert not np.array_equal(opt.state_dict()["state"][0]["velocity"], np.zeros((8, 6)))


def test_what_is_written_on_the_host_counts(on_cuda):
    model, other = perceptron(), perceptron()
    (step, opt), (step_other, opt_other) = compiled(model), compiled(other)
    x, y = batch()
    step(x, y)
    step_other(x, y)
    model[0].weight.data = np.full((8, 6), 0.1)
    other.load_state_dict(model.state_dict())
    opt_other.load_state_dict(opt.state_dict())
    assert step(x, y) == step_other(x, y)
    for key, value in model.state_dict().items():
        np.testing.assert_array_equal(other.state_dict()[key], value)


def test_the_processor_goes_on_where_the_device_stopped():
    model, expected = perceptron(), perceptron()
    (step, opt), (step_expected, opt_expected) = compiled(model), compiled(expected)
    x, y = batch(32)
    for name in ("native", "cuda", "native", "cuda", "native"):
        try:
            with pynn.backend(name):
                got = step(x, y)
        except pynn.BackendError as error:
            pytest.skip(str(error))
        assert got == pytest.approx(step_expected(x, y), rel=1e-4)
    for key, value in expected.state_dict().items():
        np.testing.assert_allclose(model.state_dict()[key], value, rtol=1e-4, atol=1e-6)
    for got, want in zip(
        opt.state_dict()["state"], opt_expected.state_dict()["state"], strict=True
    ):
        np.testing.assert_allclose(got["velocity"], want["velocity"], rtol=1e-4, atol=1e-6)


def test_the_learning_rate_is_read_at_every_step(on_cuda):
    model = perceptron()
    step, opt = compiled(model)
    x, y = batch()
    for _ in range(3):
        step(x, y)
    opt.lr = 0.0
    before = model.state_dict()
    step(x, y)
    after = model.state_dict()
    for key, value in before.items():
        np.testing.assert_array_equal(after[key], value)


def test_a_loss_that_is_not_finite_changes_nothing(on_cuda):
    model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
    step, opt = compiled(model)
    x, y = batch()
    for _ in range(3):
        step(x, y)
    state, optimizer = model.state_dict(), opt.state_dict()
    bad = x.copy()
    bad[3, 2] = np.nan
    with pytest.raises(pynn.NonFiniteError, match=r"at step 4 .*as before this step"):
        step(bad, y)
    for key, value in state.items():
        np.testing.assert_array_equal(model.state_dict()[key], value, err_msg=key)
    for got, want in zip(opt.state_dict()["state"], optimizer["state"], strict=True):
        np.testing.assert_array_equal(got["velocity"], want["velocity"])
    assert opt.state_dict()["steps"] == optimizer["steps"]
    assert step.steps == 3
    step(x, y)
    assert step.steps == 4


def test_an_epoch_stops_at_the_first_bad_batch(on_cuda):
    model, expected = perceptron(), perceptron()
    (step, _), (step_expected, _) = compiled(model), compiled(expected)
    x, y = batch(12 * 20)
    x[12 * 13 + 5] = np.inf
    with pytest.raises(pynn.NonFiniteError, match="at step 14 "):
        step.epoch(x, y, np.arange(len(x)), batch_size=12)
    for i in range(13):
        step_expected(x[12 * i : 12 * (i + 1)], y[12 * i : 12 * (i + 1)])
    for key, value in expected.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[key], value)
    assert step.steps == 13


def test_an_epoch_gathers_scales_and_shuffles(on_cuda):
    rng = np.random.default_rng(5)
    images = rng.integers(0, 256, (50, 2, 3), np.uint8)
    labels = rng.integers(0, 3, 50)
    order = rng.permutation(50)

    def make():
        pynn.manual_seed(3)
        model = nn.Sequential(
            nn.Flatten(), nn.Linear(6, 8), nn.Tanh(), nn.Dropout(0.2), nn.Linear(8, 3)
        )
        return model, compiled(model)[0]

    (model, step), (expected, step_expected) = make(), make()
    losses = step.epoch(images, labels, order, batch_size=8)
    x = images.astype(np.float32) * np.float32(1 / 255)
    want = [step_expected(x[order[i : i + 8]], labels[order[i : i + 8]]) for i in range(0, 50, 8)]
    np.testing.assert_array_equal(losses, want)
    for key, value in expected.state_dict().items():
        np.testing.assert_array_equal(model.state_dict()[key], value)
    again = step.epoch(pynn.cuda.asarray(images), pynn.cuda.asarray(labels), order, batch_size=8)
    more = [step_expected(x[order[i : i + 8]], labels[order[i : i + 8]]) for i in range(0, 50, 8)]
    np.testing.assert_array_equal(again, more)
    np.testing.assert_array_equal(step.output, step_expected.output)


def test_an_epoch_leaves_its_targets_on_the_device(on_cuda, monkeypatch):
    x, y = batch(24)[0], batch(24, seed=1)[0][:, :3]

    def losses(x, y):
        model = perceptron()
        step = pynn.compile(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
        return step.epoch(x, y, np.arange(24), batch_size=8, scale=1.0)

    def refuse(*arguments, **options):
        raise AssertionError("the targets were copied to the host")

    there = pynn.cuda.asarray(x), pynn.cuda.asarray(y)
    monkeypatch.setattr(pynn.cuda.Array, "__array__", refuse)
    np.testing.assert_array_equal(losses(*there), losses(x, y))


@pytest.mark.parametrize("wrong", ["label", "row", "order"])
def test_an_epoch_checks_before_it_begins(wrong, on_cuda):
    model = perceptron()
    step, _ = compiled(model)
    x, y = batch(48)
    order = np.arange(48)
    error, words = {
        "label": (pynn.LabelError, "label 3 at row 47 is outside 0..2"),
        "row": (IndexError, "row 48 at place 2 of order is outside 0..47"),
        "order": (pynn.DTypeError, "order must hold integers"),
    }[wrong]
    if wrong == "label":
        y[47] = 3
    elif wrong == "row":
        order[2] = 48
    else:
        order = order / 2
    before = model.state_dict()
    with pytest.raises(error, match=words):
        step.epoch(x, y, order, batch_size=12)
    for key, value in before.items():
        np.testing.assert_array_equal(model.state_dict()[key], value)


def test_labels_are_checked_by_a_step(on_cuda):
    step, _ = compiled(perceptron())
    x, y = batch()
    y[7] = 5
    with pytest.raises(pynn.LabelError, match=r"label 5 at row 7 is outside 0\.\.2"):
        step(x, y)


def test_a_loss_of_ones_own(on_cuda):
    class Absolute(nn.losses.Loss):
        def value_and_gradient(self, output, target):
            difference = output - target
            return float(np.abs(difference).mean()), np.sign(difference) / difference.size

    def run(name):
        model = perceptron()
        opt = optim.Adam(model.parameters(), lr=0.01)
        x, _ = batch()
        target = np.random.default_rng(1).standard_normal((12, 3)).astype(np.float32)
        with pynn.backend(name):
            step = pynn.compile(model, Absolute(), opt)
            return [step(x, target) for _ in range(5)], model.state_dict()

    (losses, state), (expected, state_expected) = run("cuda"), run("native")
    np.testing.assert_allclose(losses, expected, rtol=1e-5)
    for key, value in state_expected.items():
        np.testing.assert_allclose(state[key], value, rtol=1e-3, atol=1e-5)


def test_losses_that_the_device_has_not_run_on_what_it_gave(on_cuda):
    x, y = batch()
    weight = [1.0, 2.0, 0.5]

    def run(name):
        model = perceptron()
        with pynn.backend(name):
            opt = optim.SGD(model.parameters(), lr=0.1)
            step = pynn.compile(model, nn.CrossEntropyLoss(weight=weight), opt)
            return [step(x, y) for _ in range(3)]

    np.testing.assert_allclose(run("cuda"), run("native"), rtol=1e-5)


@pytest.mark.parametrize(
    "options", [{"label_smoothing": 0.1}, {"ignore_index": 1}, {"reduction": "sum"}]
)
def test_options_of_cross_entropy(options, on_cuda):
    x, y = batch()

    def run(name):
        model = perceptron()
        with pynn.backend(name):
            opt = optim.SGD(model.parameters(), lr=0.01)
            step = pynn.compile(model, nn.CrossEntropyLoss(**options), opt)
            return [step(x, y) for _ in range(3)]

    np.testing.assert_allclose(run("cuda"), run("native"), rtol=1e-5)


def test_python_operators_run_on_the_host(on_cuda):
    pynn.ops.register("cuda_doubled", lambda x: 2 * x, lambda dy, x: 2 * dy)
    try:

        class Net(nn.Module):
            def __init__(self):
                super().__init__()
                self.a, self.b = nn.Linear(6, 8), nn.Linear(8, 3)

            def forward(self, x):
                return self.b(pynn.ops.cuda_doubled(nn.relu(self.a(x))))

        def run(name):
            pynn.manual_seed(1)
            model = Net()
            with pynn.backend(name):
                step, _ = compiled(model)
                losses = [step(*batch()) for _ in range(3)]
                return losses, model.state_dict(), step

        (losses, state, step), (expected, state_expected, _) = run("cuda"), run("native")
        np.testing.assert_allclose(losses, expected, rtol=1e-5)
        for key, value in state_expected.items():
            np.testing.assert_allclose(state[key], value, rtol=1e-3, atol=1e-5)
        text = step.plan((12, 6)).explain()
        assert "cuda_doubled (not on the GPU: runs on the host, with copies)" in text
    finally:
        pynn.ops.unregister("cuda_doubled")


def test_explain_says_what_runs(on_cuda):
    model = nn.Sequential(
        nn.Conv2d(1, 4, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(36, 3)
    )
    text = compiled(model)[0].plan((5, 1, 8, 8)).explain()
    assert "conv2d 3 x 3, 1 -> 4 channels + relu + max_pool2d 2 x 2" in text
    assert "part of the product above" in text
    assert "[4][3][3][5]" in text
    assert "batch of 5, float32" in text


def test_frozen_and_accumulated_and_kept(on_cuda):
    def run(name, **options):
        model = perceptron()
        model[0].freeze()
        with pynn.backend(name):
            opt = optim.SGD(model.parameters(), lr=0.1)
            step = pynn.compile(model, nn.CrossEntropyLoss(), opt, **options)
            losses = [step(*batch(seed=i)) for i in range(4)]
        gradients = [p.grad is None for p in model.parameters()]
        return losses, model.state_dict(), gradients

    for options in ({}, {"accumulate": 2}, {"keep_gradients": True}):
        got, expected = run("cuda", **options), run("native", **options)
        np.testing.assert_allclose(got[0], expected[0], rtol=1e-5)
        for key, value in expected[1].items():
            np.testing.assert_allclose(got[1][key], value, rtol=1e-4, atol=1e-6)
        assert got[2] == expected[2]


def test_a_norm_that_is_not_finite_changes_nothing(on_cuda):
    x, y = batch()

    def trained(*, fails):
        pynn.manual_seed(0)
        model = nn.Sequential(nn.Linear(6, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Linear(8, 3))
        optimizer = optim.SGD(model.parameters(), lr=0.1, clip_norm=1.0)
        step = pynn.compile(model, nn.CrossEntropyLoss(reduction="sum"), optimizer)
        step(x, y)
        if fails:  # weights whose loss is finite, and whose gradients are not
            changed = (model[1].weight, model[1].bias, model[3].weight, model[3].bias)
            before = [parameter.data.copy() for parameter in changed]
            signs = np.sign(np.random.default_rng(0).standard_normal((3, 8)))
            values = np.full(8, 1e-38), np.zeros(8), 3e38 * signs, np.zeros(3)
            for parameter, value in zip(changed, values, strict=True):
                parameter.data = value.astype(np.float32)
            with pytest.raises(pynn.NonFiniteError, match="norm of the gradients is"):
                step(3 * x + 1, y)
            for parameter, value in zip(changed, before, strict=True):
                parameter.data = value
        step(x, y)
        return model.state_dict()

    failed = trained(fails=True)
    for key, value in trained(fails=False).items():
        np.testing.assert_array_equal(failed[key], value, err_msg=key)


def test_copies_and_pickles_take_the_devices_values(on_cuda):
    model = perceptron()
    step, opt = compiled(model)
    x, y = batch()
    step(x, y)
    twin = copy.deepcopy((model, opt))
    state = model.state_dict()
    for key, value in twin[0].state_dict().items():
        np.testing.assert_array_equal(value, state[key])
    for got, want in zip(twin[1].state_dict()["state"], opt.state_dict()["state"], strict=True):
        np.testing.assert_array_equal(got["velocity"], want["velocity"])


def test_a_changed_model_is_compiled_anew(on_cuda):
    model = perceptron()
    step, opt = compiled(model)
    x, y = batch()
    step(x, y)
    model[2] = nn.Linear(8, 3)
    opt.add_param_group({"params": list(model[2].parameters())})
    loss = step(x, y)
    with pynn.backend("native"):
        assert np.isfinite(loss)
    model.astype("float64")
    assert np.isfinite(step(x, y))
    assert model[0].weight.data.dtype == np.float64
