"""The contracts of a training step: by hand, update, failure, storage, random, back ends."""

import copy
import pickle
import threading
import time
import weakref

import numpy as np
import pytest

import pynn
from pynn import nn, ops, optim

RNG = np.random.default_rng(3)
X = RNG.random((20, 1, 8, 8)).astype("f")
Y = RNG.integers(0, 10, 20)


def network(seed=0):
    pynn.manual_seed(seed)
    return nn.Sequential(
        nn.Conv2d(1, 4, 3, padding="same"), nn.BatchNorm2d(4), nn.ReLU(), nn.DropBlock2d(0.2, 2),
        nn.MaxPool2d(2), nn.Flatten(), nn.Dropout(0.3), nn.Linear(64, 10),
    )  # fmt: skip


def bits(model):
    return b"".join(array.tobytes() for array in model.state_dict().values())


OPTIMISERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.1),
    "momentum": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, weight_decay=1e-3),
    "averaged": lambda p: optim.SGD(p, lr=0.1, momentum=0.9, momentum_form="average"),
    "adam": lambda p: optim.Adam(p, lr=0.01, clip_norm=1.0),
    "adam_uncorrected": lambda p: optim.Adam(p, lr=0.01, eps=1e-3, eps_form="uncorrected"),
    "adamw": lambda p: optim.AdamW(p, lr=0.01, clip_value=0.1),
    "rmsprop": lambda p: optim.RMSprop(p, lr=0.01, momentum=0.3),
}


@pytest.fixture(params=OPTIMISERS)
def optimiser(request):
    return OPTIMISERS[request.param]


def test_by_hand_and_compiled_give_the_same_bits(optimiser):
    compiled = network()
    step = pynn.compile(compiled, nn.CrossEntropyLoss(), optimiser(compiled.parameters()))
    losses = [step(X, Y) for _ in range(5)]

    model = network()
    optimizer, loss = optimiser(model.parameters()), nn.CrossEntropyLoss()
    by_hand = []
    for _ in range(5):
        by_hand.append(loss(model(X), Y))
        model.backward(loss.backward())
        optimizer.step()
        optimizer.zero_grad()
    assert by_hand == losses
    assert bits(model) == bits(compiled)


def test_numpy_back_end_trains_to_the_same_losses(optimiser):
    def losses(name):
        model = network().astype("float64")
        step = pynn.compile(model, nn.CrossEntropyLoss(), optimiser(model.parameters()))
        with pynn.backend(name):
            return [step(X, Y) for _ in range(10)]

    np.testing.assert_allclose(losses("native"), losses("numpy"), rtol=1e-10)


@pytest.mark.parametrize("kind", [optim.Adam, optim.AdamW])
def test_eps_beside_the_uncorrected_root(kind):
    # Kingma and Ba 2015, the end of section 2, written out; AdamW's decay apart from it.
    lr, b1, b2, eps = 0.1, 0.9, 0.999, 1e-2
    parameter = nn.Parameter(np.array([1.0, -2.0, 0.5]))
    optimizer = kind([parameter], lr, (b1, b2), eps, eps_form="uncorrected", weight_decay=0.0)
    p, m, v = parameter.data.copy(), 0.0, 0.0
    for t in range(1, 6):
        g = np.array([0.3, -1e-3, 5.0]) / t
        parameter.grad = g.copy()
        optimizer.step()
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        p -= lr * np.sqrt(1 - b2**t) / (1 - b1**t) * m / (np.sqrt(v) + eps)
        np.testing.assert_allclose(parameter.data, p, rtol=1e-13)
    with pytest.raises(ValueError, match="eps_form must be 'corrected' or 'uncorrected', got 'no'"):
        kind([parameter], eps_form="no")


def test_bits_do_not_depend_on_the_number_of_threads(optimiser):
    x = RNG.random((100, 1, 8, 8)).astype("f")
    y = RNG.integers(0, 10, 100)

    def run(threads):
        kept = pynn.get_num_threads()
        pynn.set_num_threads(threads)
        try:
            model = network()
            step = pynn.compile(model, nn.CrossEntropyLoss(), optimiser(model.parameters()))
            return [step(x, y) for _ in range(4)], bits(model)
        finally:
            pynn.set_num_threads(kept)

    expected = run(1)
    for threads in (2, 3, 5, 8):
        assert run(threads) == expected


def test_gradients_are_none_after_a_step_unless_kept():
    model = network()
    pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()))(X, Y)
    assert all(parameter.grad is None for parameter in model.parameters())
    step = pynn.compile(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()), keep_gradients=True
    )
    step(X, Y)
    first = model[0].weight.grad.copy()
    step(X, Y)
    assert model[0].weight.grad is not None
    assert not np.array_equal(first, model[0].weight.grad)


def test_backward_adds_and_returns_the_input_gradient():
    model = nn.Sequential(nn.Linear(3, 2)).astype("float64")
    x, dy = RNG.random((4, 3)), RNG.random((4, 2))
    model(x)
    dx = model.backward(dy)
    np.testing.assert_allclose(dx, dy @ model[0].weight.data)
    once = model[0].weight.grad.copy()
    np.testing.assert_allclose(once, dy.T @ x)
    model(x)
    model.backward(dy)
    np.testing.assert_allclose(model[0].weight.grad, 2 * once)


@pytest.mark.parametrize("size", [3, 20])
def test_backward_may_be_called_again(size):
    model = network()
    model(X[:size])
    results = []
    for _ in range(3):
        dx = model.backward(np.ones((size, 10), "f"))
        results.append(b"".join([dx.tobytes(), *(p.grad.tobytes() for p in model.parameters())]))
        for parameter in model.parameters():
            parameter.grad = None
    assert len(set(results)) == 1


def test_backward_without_a_training_call_is_refused():
    model = network().eval()
    model(X)
    with pytest.raises(pynn.StateError, match="training mode"):
        model.backward(np.zeros((20, 10)))
    model.train()
    model(X)
    with pytest.raises(pynn.ShapeError, match=r"\(20, 10\), got \(20, 9\)"):
        model.backward(np.zeros((20, 9)))


def test_outputs_are_fresh_arrays():
    model = nn.Sequential(nn.Linear(4, 4)).eval()
    x = RNG.random((2, 4)).astype("f")
    first = model(x)
    kept = first.copy()
    model(x + 1)
    np.testing.assert_array_equal(first, kept)
    model = nn.Sequential(nn.Linear(4, 4), nn.Tanh())
    y = model(x)
    dx = model.backward(np.ones_like(y))
    y[:] = 0  # the caller's own: backward does not read it
    np.testing.assert_array_equal(model.backward(np.ones_like(y)), dx)
    for identity in (nn.Identity(), nn.Sequential(nn.Dropout()).eval()):
        y = identity(x)
        np.testing.assert_array_equal(y, x)
        assert not np.shares_memory(y, x)


@pytest.mark.parametrize("mode", ["loss", "norm"])
def test_a_step_that_fails_leaves_everything_as_it_was(mode, optimiser):
    model = network()
    optimizer = optimiser(model.parameters())
    if mode == "norm":
        optimizer.clip_norm = 1e-3
    step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer)
    step(X, Y)
    before, state = bits(model), optimizer.state_dict()
    steps, last = step.steps, step.last_finite_loss
    if mode == "loss":
        bad = X.copy()
        bad[3, 0, 2, 2] = np.nan
        with pytest.raises(pynn.NonFiniteError) as caught:
            step(bad, Y)
        message = str(caught.value)
        assert f"nan at step {steps + 1}" in message
        assert f"learning rate {optimizer.lr:g}" in message
        assert f"last finite loss {last:.6g}" in message
    else:

        class Exploding(nn.Loss):
            def value_and_gradient(self, output, target):
                return 1.0, np.full_like(output, np.inf)

        failing = pynn.compile(model, Exploding(), optimizer)
        with pytest.raises(pynn.NonFiniteError, match="norm of the gradients"):
            failing(X, Y)
    assert bits(model) == before
    after = optimizer.state_dict()
    assert after["steps"] == state["steps"]
    for old, new in zip(state["state"], after["state"], strict=True):
        assert {k: v.tobytes() for k, v in old.items()} == {k: v.tobytes() for k, v in new.items()}
    # and training goes on as if nothing had happened
    other = network()
    other_step = pynn.compile(other, nn.CrossEntropyLoss(), optimiser(other.parameters()))
    if mode == "norm":
        other_step.optimizer.clip_norm = 1e-3
    other_step(X, Y)
    assert step(X, Y) == other_step(X, Y)
    assert bits(model) == bits(other)


BAD_BATCHES = {
    "label": (
        X, np.where(np.arange(20) == 7, 10, Y), pynn.LabelError,
        "label 10 at row 7 is outside 0..9",
    ),
    "fewer_labels": (X, Y[:19], pynn.ShapeError, "x has 20 samples but y has 19"),
    "column_of_labels": (X, Y[:, None], pynn.ShapeError, r"\(20, 1\)"),
    "channels": (
        np.zeros((20, 3, 8, 8), "f"), Y, pynn.ShapeError,
        r"0 \(Conv2d\): expected 1 input channels, got 3 \(input shape \(20, 3, 8, 8\)\)",
    ),
    "image_size": (np.zeros((20, 1, 9, 8), "f"), Y, None, ""),
    "larger_image": (
        np.zeros((20, 1, 12, 8), "f"), Y, pynn.ShapeError,
        r"7 \(Linear\): expected 64 input features",
    ),
    "text": (np.array(["a"] * 20), Y, pynn.DTypeError, "real numbers"),
    "complex": (np.zeros((20, 1, 8, 8), complex), Y, pynn.DTypeError, "real numbers"),
    "masked": (np.ma.masked_array(X), Y, pynn.DTypeError, r"x must not be a masked array; fill it"),
    "masked_labels": (X, np.ma.masked_array(Y), pynn.DTypeError, r"y must not be a masked array"),
    "a_number": (1.0, Y, pynn.ShapeError, "batch axis"),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD_BATCHES)
def test_bad_batches_are_refused_and_change_nothing(name):
    x, y, error, message = BAD_BATCHES[name]
    model = network()
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.Adam(model.parameters()))
    if error is None:  # an odd row that pooling does not use: accepted, by the rule of pooling
        assert np.isfinite(step(x, y))
        return
    before = bits(model)
    with pytest.raises(error, match=message):
        step(x, y)
    assert bits(model) == before
    assert model._run_steps == step.steps == 0


@pytest.mark.parametrize(
    "convert",
    [
        lambda x: x.astype(np.float64), lambda x: x.astype(">f4"), lambda x: x[::-1][::-1],
        np.asfortranarray, lambda x: x.tolist(), lambda x: np.repeat(x, 2, axis=0)[::2],
    ],
    ids=["float64", "big_endian", "reversed_strides", "fortran", "list", "strided"],
)  # fmt: skip
@pytest.mark.parametrize("labels", [np.uint8, np.int32, np.int64, ">i2"])
def test_inputs_are_cast_to_the_model(convert, labels):
    def loss(x, y):
        model = network()
        return pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()))(x, y)

    assert loss(convert(X), Y.astype(labels)) == loss(X, Y)


def test_integer_and_half_inputs_are_cast():
    model = nn.Sequential(nn.Linear(3, 2)).eval()
    for dtype in (np.uint8, np.int64, np.bool_, np.float16):
        x = np.array([[0, 1, 1], [1, 0, 1]]).astype(dtype)
        np.testing.assert_array_equal(model(x), model(x.astype(np.float32)))


def test_frozen_parameters_and_those_outside_the_optimiser_stay():
    model = network()
    model[0].freeze()
    kept = [model[0].weight.data.copy(), model[7].bias.data.copy()]
    trained = [p for name, p in model.named_parameters() if name != "7.bias"]
    step = pynn.compile(
        model, nn.CrossEntropyLoss(), optim.SGD(trained, lr=0.1, weight_decay=0.1),
        keep_gradients=True,
    )  # fmt: skip
    moving = model[7].weight.data.copy()
    step(X, Y)
    assert model[0].weight.grad is None
    assert model[7].bias.grad is None
    np.testing.assert_array_equal(model[0].weight.data, kept[0])
    np.testing.assert_array_equal(model[7].bias.data, kept[1])
    assert not np.array_equal(model[7].weight.data, moving)


def test_hyper_parameters_are_read_at_every_step():
    model = network()
    head, rest = list(model[7].parameters()), list(model[0].parameters())
    optimizer = optim.SGD([{"params": head, "lr": 0.0}, {"params": rest}], lr=0.5)
    step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer)
    kept = head[0].data.copy()
    step(X, Y)
    np.testing.assert_array_equal(head[0].data, kept)
    optimizer.param_groups[0]["lr"] = 0.5
    step(X, Y)
    assert not np.array_equal(head[0].data, kept)
    optimizer.lr = 0.0
    kept = bits(nn.Sequential(model[7]))
    step(X, Y)
    assert bits(nn.Sequential(model[7])) == kept


def test_a_senseless_hyper_parameter_of_one_group_leaves_all_groups_alone():
    model = network()
    groups = [{"params": model[0].parameters()}, {"params": model[7].parameters()}]
    optimizer = optim.SGD(groups, lr=0.5)
    step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer)
    before = bits(model)
    optimizer.param_groups[1]["lr"] = -0.5
    with pytest.raises(ValueError, match="lr must be a number"):
        step(X, Y)
    assert bits(model) == before


def test_accumulated_batches_give_the_mean_gradient():
    def run(batches, accumulate):
        pynn.manual_seed(0)
        model = nn.Sequential(nn.Flatten(), nn.Linear(64, 10)).astype("float64")
        step = pynn.compile(
            model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1),
            accumulate=accumulate,
        )  # fmt: skip
        for part in np.split(np.arange(20), batches):
            step(X[part], Y[part])
        return model[1].weight.data

    np.testing.assert_allclose(run(4, 4), run(1, 1), rtol=1e-12, atol=1e-14)


def test_the_last_smaller_batch_is_ordinary():
    model = network()
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()))
    step(X, Y)
    assert np.isfinite(step(X[:7], Y[:7]))
    assert np.isfinite(step(X, Y))


def test_an_empty_batch_changes_nothing_it_should_not():
    model = network()
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    before = bits(model)  # its running statistics, and how many batches they saw, included
    assert step(X[:0], Y[:0]) == 0.0
    assert bits(model) == before
    assert model.eval()(X[:0]).shape == (0, 10)


def test_masks_follow_seed_and_step():
    model = nn.Sequential(nn.Dropout(0.5))
    x = np.ones((4, 50), "f")
    pynn.manual_seed(11)
    first, second = model(x), model(x)
    assert not np.array_equal(first, second)
    np.testing.assert_array_equal(first, ops.dropout(x, p=0.5, seed=11, step=0, node=0))
    np.testing.assert_array_equal(second, ops.dropout(x, p=0.5, seed=11, step=1, node=0))
    with pynn.backend("numpy"):
        np.testing.assert_array_equal(
            ops.dropout(x, p=0.5, seed=11, step=1, node=3), nn_native(x, 11, 1, 3)
        )


def nn_native(x, seed, step, node):
    with pynn.backend("native"):
        return ops.dropout(x, p=0.5, seed=seed, step=step, node=node)


def test_two_random_layers_draw_different_numbers():
    class Two(nn.Module):
        def __init__(self):
            self.drop = nn.Dropout(0.5)

        def forward(self, x):
            return ops.concat([self.drop(x), self.drop(x)])

    y = Two()(np.ones((3, 40), "f"))
    assert not np.array_equal(y[:, :40], y[:, 40:])


def test_running_statistics_move_only_with_a_step_that_succeeds():
    model = network()
    mean = model[1].running_mean
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()))
    step(X, Y)
    assert model[1].num_batches_tracked.data == 1
    kept = mean.data.copy()
    with pytest.raises(pynn.LabelError):
        step(X, Y + 100)
    np.testing.assert_array_equal(mean.data, kept)
    model.eval()
    model(X)
    np.testing.assert_array_equal(mean.data, kept)
    assert model[1].num_batches_tracked.data == 1


def test_an_exception_in_a_python_operator_leaves_the_model_whole():
    def backward(dy, x):
        if fail[0]:
            raise ZeroDivisionError("on purpose")
        return dy * 2

    fail = [False]
    ops.register("twice_or_fail", lambda x: x * 2, backward)
    try:

        class Net(nn.Module):
            def __init__(self):
                self.a, self.b = nn.Linear(64, 16), nn.Linear(16, 10)

            def forward(self, x):
                return self.b(ops.twice_or_fail(self.a(ops.flatten(x))))

        model = Net()
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        step(X, Y)
        before = bits(model)
        fail[0] = True
        with pytest.raises(ZeroDivisionError, match="on purpose"):
            step(X, Y)
        assert bits(model) == before
        assert all(p.grad is None for p in model.parameters())
        fail[0] = False
        step(X, Y)
        assert bits(model) != before
    finally:
        ops.unregister("twice_or_fail")


@pytest.mark.parametrize("copier", [copy.deepcopy, lambda o: pickle.loads(pickle.dumps(o))])
def test_a_copied_training_goes_on_alike(copier, optimiser):
    model = network()
    optimizer = optimiser(model.parameters())
    step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer)
    step(X, Y)
    other_model, other_optimizer = copier((model, optimizer))
    assert bits(other_model) == bits(model)
    other = pynn.compile(other_model, nn.CrossEntropyLoss(), other_optimizer)
    for _ in range(3):
        assert other(X, Y) == step(X, Y)
    assert bits(other_model) == bits(model)
    other_model[0].weight.data[...] = 0
    assert model[0].weight.data.any()


def test_astype_keeps_values_and_optimiser_state():
    model = network()
    optimizer = optim.Adam(model.parameters(), lr=0.01)
    step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer)
    step(X, Y)
    view = model[0].weight.data
    old = view.copy()
    model.astype("float64")
    assert model[0].weight.dtype == np.float64
    assert model[1].running_mean.data.dtype == np.float64
    assert model[1].num_batches_tracked.data.dtype == np.int64
    step(X, Y)
    np.testing.assert_array_equal(view, old)
    state = optimizer.state_dict()
    assert state["steps"] == [2] * 6
    assert state["state"][0]["mean"].dtype == np.float64
    assert state["state"][0]["mean"].any()


class Squares(nn.Loss):
    """As one writes it with NumPy: the gradient is float64 where the target is."""

    def value_and_gradient(self, output, target):
        difference = output - target
        return 0.5 * np.sum(difference**2), difference


def test_the_gradient_of_a_loss_is_cast_by_hand_and_compiled_alike():
    target = RNG.random((20, 10))
    by_hand, compiled, loss = network(), network(), Squares()
    value = loss(by_hand(X), target)
    by_hand.backward(loss.backward())
    optim.SGD(by_hand.parameters()).step()
    optimizer = optim.SGD(compiled.parameters())
    assert pynn.compile(compiled, loss, optimizer)(X, target) == value
    assert bits(compiled) == bits(by_hand)


def test_losses_that_break_their_promise_are_refused():
    class Misshapen(nn.Loss):
        def value_and_gradient(self, output, target):
            return 1.0, output[:1]

    class InPlace(nn.Loss):
        def value_and_gradient(self, output, target):
            output -= 1
            return 1.0, output

    model = network()
    before = bits(model)
    for loss, error, message in (
        (Misshapen(), pynn.ShapeError, r"gradient of shape \(1, 10\), expected \(20, 10\)"),
        (InPlace(), ValueError, "read-only"),
    ):
        with pytest.raises(error, match=message):
            pynn.compile(model, loss, optim.SGD(model.parameters()))(X, Y)
    assert bits(model) == before
    with pytest.raises(TypeError, match="loss must be a Loss, got <class"):
        pynn.compile(model, nn.CrossEntropyLoss, optim.SGD(model.parameters()))


def test_changing_x_before_backward_changes_nothing():
    model = nn.Sequential(nn.Linear(3, 2))
    x = RNG.random((4, 3)).astype("f")
    kept = x.copy()
    model(x)
    x[:] = 0
    model.backward(np.ones((4, 2)))
    np.testing.assert_allclose(model[0].weight.grad, np.ones((2, 4)) @ kept, rtol=1e-6)


@pytest.mark.parametrize("change", ["step", "load", "assign"])
def test_changed_parameters_between_call_and_backward_are_refused(change):
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2))
    optimizer = optim.SGD(model.parameters(), lr=0.1)
    x = RNG.random((4, 3)).astype("f")
    model(x)
    model.backward(np.ones((4, 2)))
    if change == "step":
        optimizer.step()
    elif change == "load":
        model.load_state_dict(model.state_dict())
    else:
        model[0].bias.data = np.ones(2)
    with pytest.raises(pynn.StateError, match="parameters have changed since the call"):
        model.backward(np.ones((4, 2)))
    model(x)
    model.backward(np.ones((4, 2)))


def test_training_nothing_is_refused():
    model, other = network(), network()
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(other.parameters()))
    with pytest.raises(ValueError, match="nothing would be trained"):
        step(X, Y)


@pytest.mark.parametrize("lr", [-1.0, float("inf"), float("nan"), "fast", None])
def test_senseless_learning_rates_are_refused(lr):
    with pytest.raises(ValueError, match="lr must be a number"):
        optim.SGD(network().parameters(), lr=lr)


@pytest.mark.parametrize("name", ["clip_norm", "clip_value"])
@pytest.mark.parametrize("value", [-1.0, 0.0, np.nan, "1"])
def test_senseless_limits_of_gradients_are_refused(name, value):
    with pytest.raises(ValueError, match=f"{name} must be positive, got {value!r}"):
        optim.SGD(network().parameters(), **{name: value})
    model = network()
    optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer)
    step(X, Y)
    before = model.state_dict()
    setattr(optimizer, name, value)
    with pytest.raises(ValueError, match=f"{name} must be positive"):
        step(X, Y)
    for key, values in model.state_dict().items():
        np.testing.assert_array_equal(values, before[key], err_msg=key)


@pytest.mark.parametrize(
    ("loss", "target"), [(nn.CrossEntropyLoss(), Y), (nn.MSELoss(), RNG.random((len(Y), 10)))]
)
@pytest.mark.parametrize("reduction", ["none", "max"])
def test_a_reduction_set_between_steps_is_one_that_trains(loss, target, reduction):
    loss, model = copy.copy(loss), network()
    step = pynn.compile(model, loss, optim.SGD(model.parameters(), lr=0.1))
    step(X, target)
    loss.reduction = reduction
    for call in (lambda: step(X, target), lambda: loss(model(X), target)):
        with pytest.raises(ValueError, match="reduction 'mean' or 'sum', got"):
            call()
    loss.reduction = "mean"
    assert np.isfinite(step(X, target))


def test_groups_need_parameters():
    with pytest.raises(TypeError, match="a group needs 'params', got only 'lr', 'momentum'"):
        optim.SGD([{"lr": 0.1, "momentum": 0.9}])


def test_a_parameter_reads_as_an_array():
    parameter = nn.Parameter(np.arange(6.0).reshape(2, 3))
    np.testing.assert_array_equal(np.asarray(parameter), parameter.data)


def test_an_initialiser_of_the_wrong_shape_is_refused():
    with pytest.raises(pynn.ShapeError, match=r"gave shape \(1,\), expected \(2, 3\)"):
        nn.Linear(3, 2, weight_init=lambda shape, rng, dtype: np.ones(1, dtype))


def test_an_epoch_is_its_steps():
    x, y = RNG.integers(0, 256, (70, 12)).astype("u1"), RNG.integers(0, 3, 70)
    order = RNG.permutation(70)[:50]

    def make():
        pynn.manual_seed(1)
        model = nn.Sequential(nn.Linear(12, 8), nn.ReLU(), nn.Linear(8, 3))
        optimizer = optim.SGD(model.parameters(), lr=0.1)
        return model, pynn.compile(model, nn.CrossEntropyLoss(), optimizer)

    model, step = make()
    losses = step.epoch(x, y, order, batch_size=20)
    other, by_hand = make()
    scaled = x.astype("f") * np.float32(1 / 255)
    expected = [by_hand(scaled[rows], y[rows]) for rows in np.split(order, [20, 40])]
    assert losses.tolist() == expected
    for name, array in model.state_dict().items():
        assert array.tobytes() == other.state_dict()[name].tobytes()
    with pytest.raises(IndexError, match=r"row 70 at place 1 of order is outside 0\.\.69"):
        step.epoch(x, y, [3, 70])
    assert step.epoch(x, y, []).shape == (0,)


def test_a_step_can_be_copied_and_keeps_no_batch_alive():
    model = nn.Sequential(nn.Linear(6, 3))
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
    x, y = RNG.random((20, 6)).astype("f"), RNG.integers(0, 3, 20)
    first = step(x, y)
    watched = weakref.ref(x)
    other = copy.deepcopy(step)
    assert other(x, y) == step(x, y) < first
    model.eval()(x)
    del x
    assert watched() is None


@pytest.mark.parametrize(
    "change", ["clip_norm", "clip_value", "group", "momentum", "state", "none"]
)
def test_what_changes_in_the_optimiser_between_steps_counts(change):
    x, y = RNG.random((20, 6)).astype("f"), RNG.integers(0, 3, 20)

    def train(**options):
        pynn.manual_seed(2)
        model = nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3))
        first, *others = model.parameters()
        optimizer = optim.SGD([first], lr=0.5) if change == "group" else None
        optimizer = optimizer or optim.SGD(model.parameters(), lr=0.5)
        step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer, **options)
        losses = [step(x, y)]
        if change == "group":
            optimizer.add_param_group({"params": others, "lr": 0.1})
        elif change == "momentum":
            optimizer.param_groups[0]["momentum"] = 0.9
        elif change == "state":
            optimizer.load_state_dict(optimizer.state_dict())
        elif change != "none":
            setattr(optimizer, change, 1e-3)
        losses += [step(x, y) for _ in range(4)]
        if change.startswith("clip"):
            setattr(optimizer, change, None)
            losses += [step(x, y) for _ in range(2)]
        return losses, model.state_dict(), optimizer.state_dict()["steps"]

    (losses, state, steps), expected = train(), train(keep_gradients=True)
    assert losses == expected[0]
    assert steps == expected[2]
    for name, array in state.items():
        assert array.tobytes() == expected[1][name].tobytes(), name


def test_only_parameters_that_get_gradients_count_updates():
    x, y = RNG.random((20, 6)).astype("f"), RNG.integers(0, 3, 20)

    def train(**options):
        pynn.manual_seed(2)
        model = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
        elsewhere = nn.Parameter(np.ones(3))
        optimizer = optim.Adam([*model.parameters(), elsewhere], lr=0.1)
        step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer, **options)
        model[0].freeze()
        losses = [step(x, y) for _ in range(3)]
        model[0].freeze(False)
        losses += [step(x, y) for _ in range(3)]
        return (
            losses,
            [p.data.tobytes() for p in model.parameters()],
            optimizer.state_dict()["steps"],
        )

    expected = train(keep_gradients=True)
    assert train() == expected
    assert expected[2] == [3, 3, 6, 6, 0]


class HalvedLoss(nn.CrossEntropyLoss):
    def value_and_gradient(self, output, target):
        value, gradient = super().value_and_gradient(output, target)
        return value / 2, gradient / 2


def halved(loss):
    """A loss whose method is replaced, not its class."""
    own = loss.value_and_gradient
    loss.value_and_gradient = lambda output, target: tuple(p / 2 for p in own(output, target))
    return loss


@pytest.mark.parametrize("samples", [16, 40, 70])
@pytest.mark.parametrize(
    "loss",
    [
        nn.CrossEntropyLoss(),
        nn.CrossEntropyLoss(label_smoothing=0.2, reduction="sum"),
        nn.CrossEntropyLoss(ignore_index=3),
        nn.CrossEntropyLoss(weight=np.linspace(0.5, 2, 5)),
        HalvedLoss(),
        halved(nn.CrossEntropyLoss()),
    ],
    ids=["plain", "smoothed_sum", "ignored", "weighted", "of_ones_own", "replaced"],
)
def test_labels_in_a_step_give_the_bits_of_a_step_by_hand(loss, samples):
    rng = np.random.default_rng(samples)
    x = rng.random((samples, 3, 4), dtype=np.float32)
    models = []
    for _ in range(2):
        pynn.manual_seed(1)
        models.append(nn.Sequential(nn.Flatten(), nn.Linear(12, 40), nn.ReLU(), nn.Linear(40, 5)))
    compiled, by_hand = models
    step = pynn.compile(compiled, loss, optim.SGD(compiled.parameters(), lr=0.5, momentum=0.9))
    optimizer = optim.SGD(by_hand.parameters(), lr=0.5, momentum=0.9)
    for dtype in (np.int64, np.int8, np.uint64):
        y = rng.integers(0, 5, samples).astype(dtype)
        value = step(x, y)
        output = by_hand(x)
        assert value == loss(output, y)
        np.testing.assert_array_equal(step.output, output)
        by_hand.backward(loss.backward())
        optimizer.step()
        optimizer.zero_grad()
        for one, other in zip(compiled.parameters(), by_hand.parameters(), strict=True):
            np.testing.assert_array_equal(one.data, other.data)


class DoubledError(nn.MSELoss):
    def value_and_gradient(self, output, target):
        value, gradient = super().value_and_gradient(output, target)
        return 2 * value, 2 * gradient


@pytest.mark.parametrize("samples", [1, 16, 70])
@pytest.mark.parametrize(
    "loss",
    [nn.MSELoss(), nn.MSELoss(reduction="sum"), DoubledError(), halved(nn.MSELoss())],
    ids=["mean", "sum", "of_ones_own", "replaced"],
)
def test_a_squared_error_in_a_step_gives_the_bits_of_a_step_by_hand(loss, samples):
    rng = np.random.default_rng(samples)
    x = rng.random((samples, 2, 6, 7), dtype=np.float32)
    models = []
    for _ in range(2):
        pynn.manual_seed(1)
        models.append(
            nn.Sequential(
                nn.Conv2d(2, 5, 3), nn.Tanh(), nn.Dropout(0.2), nn.Conv2d(5, 1, 3, padding="full")
            )
        )
    compiled, by_hand = models
    step = pynn.compile(compiled, loss, optim.SGD(compiled.parameters(), lr=0.01, momentum=0.9))
    optimizer = optim.SGD(by_hand.parameters(), lr=0.01, momentum=0.9)
    for dtype in (np.float32, np.float64, np.float32, np.float32):
        y = rng.random((samples, 1, 6, 7)).astype(dtype)
        value = step(x, y)
        output = by_hand(x)
        assert value == loss(output, y)
        np.testing.assert_array_equal(step.output, output)
        by_hand.backward(loss.backward())
        optimizer.step()
        optimizer.zero_grad()
        for one, other in zip(compiled.parameters(), by_hand.parameters(), strict=True):
            np.testing.assert_array_equal(one.data, other.data)


def test_several_threads_may_read_the_output():
    """As soon as a step that another thread makes is over."""
    model = nn.Linear(4, 3)
    step = pynn.compile(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
    x, y = np.ones((20, 4), "f"), np.ones((20, 3), "f")
    expected = model(x)
    step(x, y)
    outputs = []
    readers = [threading.Thread(target=lambda: outputs.append(step.output)) for _ in range(4)]
    with model._turn_to_train():
        for reader in readers:
            reader.start()
        time.sleep(0.05)  # so that all of them wait
    for reader in readers:
        reader.join()
    assert len(outputs) == 4
    for output in outputs:
        np.testing.assert_array_equal(output, expected)


@pytest.mark.parametrize(
    ("loss", "good", "bad"),
    [
        (nn.CrossEntropyLoss(), np.arange(20) % 3, np.arange(20) % 3),
        (nn.MSELoss(), np.ones((20, 3), "f"), np.full((20, 3), np.inf, "f")),
    ],
    ids=["labels", "values"],
)
def test_a_step_that_fails_keeps_the_output_of_the_one_before(loss, good, bad):
    model = nn.Linear(4, 3)
    step = pynn.compile(model, loss, optim.SGD(model.parameters(), lr=0.1))
    x = np.random.default_rng(0).random((20, 4), dtype=np.float32)
    step(x, good)
    expected = model.eval()(x)
    model.train()
    step(x, good)
    before = bits(model)
    with pytest.raises(pynn.NonFiniteError):
        step(np.where(x > 0.5, np.nan, x) if loss.of_labels() else x, bad)
    assert bits(model) == before
    np.testing.assert_array_equal(step.output, expected)
    clone = copy.copy(step)
    step(x[::-1].copy(), good[::-1].copy())
    np.testing.assert_array_equal(clone.output, expected)
    assert not np.array_equal(step.output, expected)


def changed_loss(label_smoothing):
    loss = nn.CrossEntropyLoss()
    loss.label_smoothing = label_smoothing
    return loss


@pytest.mark.parametrize(
    ("loss", "y", "error", "message"),
    [
        (nn.CrossEntropyLoss(), [0] * 19 + [5], pynn.LabelError, "label 5 at row 19"),
        (nn.CrossEntropyLoss(), [-1] * 20, pynn.LabelError, "label -1 at row 0"),
        (changed_loss(label_smoothing=2.0), [0] * 20, ValueError, "between 0 and 1"),
    ],
)
def test_labels_that_a_step_refuses_change_nothing(loss, y, error, message):
    model = nn.Sequential(nn.Linear(6, 5))
    optimizer = optim.SGD(model.parameters(), lr=0.5, momentum=0.9)
    step = pynn.compile(model, loss, optimizer)
    before = model.state_dict()
    with pytest.raises(error, match=message):
        step(np.ones((20, 6), np.float32), np.array(y))
    assert step.steps == 0
    assert optimizer.state_dict()["steps"] == [0, 0]
    for name, array in model.state_dict().items():
        np.testing.assert_array_equal(array, before[name])


class Switched(nn.Module):
    """Its graph depends on a list."""

    def __init__(self):
        super().__init__()
        self.layer, self.switches = nn.Linear(6, 3), [True]

    def forward(self, x):
        y = self.layer(x)
        return nn.relu(y) if self.switches[0] else y


@pytest.mark.parametrize("samples", [1, 20])
def test_a_list_that_changes_between_steps_counts(samples):
    x, y = RNG.standard_normal((samples, 6)).astype("f"), np.arange(samples) % 3

    def train(switch):
        pynn.manual_seed(0)
        model = Switched()
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        outputs = [model.eval()(x)]
        losses = [step(x, y)]
        model.switches[0] = switch
        return [*losses, step(x, y)], [*outputs, model(x)]

    (same, same_output), (other, other_output) = train(True), train(False)
    assert same[0] == other[0]
    assert same[1] != other[1]
    assert (same_output[1] >= 0).all()
    assert (other_output[1] < 0).any()


class Derived(np.ndarray):
    pass


@pytest.mark.parametrize("samples", [1, 20])
def test_whatever_holds_a_batch_trains_alike(samples):
    x, y = RNG.random((samples, 1, 8, 8)).astype("f"), np.arange(samples) % 10
    around = np.zeros((samples, 1, 8, 9), "f")
    around[..., 1:] = x
    bytes_ = np.zeros(4 * x.size + 1, np.uint8)
    misaligned = bytes_[1:].view("f").reshape(x.shape)
    misaligned[...] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    holders = {
        "plain": (x, y), "double": (x.astype("d"), y), "list": (x.tolist(), y.tolist()),
        "other byte order": (x.astype(">f4"), y.astype(">i8")), "strided": (around[..., 1:], y),
        "read-only": (frozen, y), "misaligned": (misaligned, y), "columns": (np.asfortranarray(x), y),
        "bytes": (x, y.astype(np.uint8)), "unsigned": (x, y.astype(np.uint64)),
        "every other": (x, np.repeat(y, 2)[::2]), "subclass": (x.view(Derived), y.view(Derived)),
    }  # fmt: skip
    results = {}
    for name, (inputs, labels) in holders.items():
        pynn.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        losses = [step(inputs, labels) for _ in range(3)]
        results[name] = losses, bits(model), model.eval()(inputs).tobytes()
        losses.append(step(x, y))  # after another kind of array
    for name, result in results.items():
        assert result == results["plain"], name


def test_the_number_of_threads_may_change_between_steps():
    x, y = RNG.random((200, 1, 8, 8)).astype("f"), RNG.integers(0, 10, 200)
    before = pynn.get_num_threads()

    def train(threads):
        pynn.manual_seed(0)
        model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 10))
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        losses = []
        for count in threads:
            pynn.set_num_threads(count)
            losses += [step(x, y), step(x[:3], y[:3]), float(model.eval()(x[:5]).sum())]
            model.train()
        return losses, bits(model)

    try:
        assert train([1, 1, 1, 1]) == train([1, 3, 2, 3])
    finally:
        pynn.set_num_threads(before)
