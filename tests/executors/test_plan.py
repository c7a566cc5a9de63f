"""Plans against the NumPy reference, on any number of threads and every instruction set."""

import itertools
import re

import numpy as np
import pytest

import pynn
from pynn import _core, nn, ops, optim

RNG = np.random.default_rng(0)


class Residual(nn.Module):
    """Values that are used twice, and a parameter that is."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(3, 3, 3, padding=1)
        self.out = nn.Linear(48, 5)

    def forward(self, x):
        y = nn.relu(self.conv(x)) + x
        y = self.conv(y) + y
        return self.out(ops.flatten(y)) + self.out(ops.flatten(x))


class Unused(nn.Module):
    """A branch that does not reach the output."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(6, 6), nn.Linear(6, 6)

    def forward(self, x):
        self.b(x)
        return self.a(x)


class Foreign(nn.Module):
    """Operators that plans do not know, between those that they know."""

    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(2, 4, 3, padding="same"), nn.BatchNorm2d(4)
        self.scale = nn.Parameter(np.linspace(0.5, 2, 4).reshape(4, 1, 1))
        self.out = nn.Linear(8, 3)

    def forward(self, x):
        y = self.norm(self.conv(x)) * self.scale
        y = ops.concat([nn.relu(y), nn.tanh(y)], axis=1)
        y = ops.avg_pool2d(y, 2)
        y = ops.reshape(ops.global_avg_pool2d(y), (x.shape[0], 8))
        return ops.softmax(self.out(y))


class ReadTwice(nn.Module):
    """What relu gave is read by a pool and by a convolution."""

    def __init__(self):
        super().__init__()
        self.first, self.second = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(4, 4, 2, stride=2)

    def forward(self, x):
        y = nn.relu(self.first(x))
        return ops.max_pool2d(y, 2) + self.second(y)


class ResidualOfMany(nn.Module):
    """Gradients of images of many channels that are added to others."""

    def __init__(self):
        super().__init__()
        self.first, self.second = (nn.Conv2d(41, 41, 3, padding=1) for _ in range(2))

    def forward(self, x):
        y = nn.relu(self.first(x)) + x
        return nn.relu(self.second(y)) + y


# What Winograd's filtering suits: it runs with it, in blocks of samples.
WINOGRAD = {
    "winograd_same": ((40, 14, 14), lambda: nn.Conv2d(40, 53, 3, padding="same")),
    "winograd_odd": ((48, 9, 11), lambda: nn.Sequential(nn.Conv2d(48, 40, 3, padding=1), nn.ReLU())),
    "winograd_full": ((40, 14, 13), lambda: nn.Conv2d(40, 44, 3, padding="full", bias=False)),
    "winograd_without_padding": ((64, 8, 10), lambda: nn.Conv2d(64, 64, 3)),
    "winograd_uneven_padding": (
        (40, 20, 17), lambda: nn.Sequential(nn.Conv2d(40, 40, 3, padding=(3, 0, 1, 4)), nn.Tanh()),
    ),
    "winograd_groups": ((80, 10, 10), lambda: nn.Conv2d(80, 96, 3, padding=1, groups=2)),
    "winograd_deep": (
        (40, 13, 13),
        lambda: nn.Sequential(
            nn.Conv2d(40, 72, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(72, 56, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(2016, 4),
        ),
    ),
    "winograd_residual": ((41, 8, 8), ResidualOfMany),
}  # fmt: skip

POOLED = {  # convolutions that run the pools behind them, rows of windows at a time
    "pooled": (
        (1, 28, 28),
        lambda: nn.Sequential(
            nn.Conv2d(1, 8, 3, padding=1), nn.MaxPool2d(2), nn.Conv2d(8, 9, 3, padding=1),
            nn.ReLU(), nn.MaxPool2d(2), nn.Flatten(), nn.Linear(441, 3),
        ),
    ),
    "pooled_groups": (  # windows that overlap in their columns, or leave some out
        (4, 18, 17),
        lambda: nn.Sequential(
            nn.Conv2d(4, 8, 5, padding=2, groups=2), nn.ReLU(),
            nn.MaxPool2d((3, 3), stride=(3, 2), padding=(0, 1)),
            nn.Conv2d(8, 7, (3, 2), stride=(1, 2)), nn.MaxPool2d(2), nn.Flatten(),
        ),
    ),
    "pooled_products": (  # matrix products, of which the second's gradient is needed in one piece
        (33, 8, 7),
        lambda: nn.Sequential(
            nn.Conv2d(33, 34, 1), nn.ReLU(), nn.MaxPool2d(2, stride=(2, 1)),
            nn.Conv2d(34, 5, 1), nn.MaxPool2d(4, stride=(4, 3)), nn.Flatten(),
        ),
    ),
}  # fmt: skip

NETWORKS = {
    "dense": ((7,), lambda: nn.Sequential(nn.Linear(7, 5), nn.ReLU(), nn.Linear(5, 3))),
    "dense_wide": ((33,), lambda: nn.Sequential(nn.Linear(33, 130), nn.Tanh(), nn.Linear(130, 18))),
    "dense_thin": ((90,), lambda: nn.Sequential(nn.Linear(90, 40), nn.ReLU(), nn.Linear(40, 17))),
    "dense_without_bias": ((16,), lambda: nn.Linear(16, 16, bias=False)),
    "one_pixel": ((1, 1, 1), lambda: nn.Sequential(nn.Conv2d(1, 2, 1), nn.Flatten())),
    "pointwise": (
        (20, 5, 6),
        lambda: nn.Sequential(
            nn.Conv2d(20, 23, 1), nn.ReLU(), nn.Conv2d(23, 34, 1, stride=2), nn.Conv2d(34, 64, 1),
            nn.Conv2d(64, 96, 1, groups=2), nn.Flatten(),
        ),
    ),
    "images_far": (  # from the first-level cache
        (24, 14, 15),
        lambda: nn.Sequential(
            nn.Conv2d(24, 11, (3, 4), padding="same"), nn.Conv2d(11, 7, 5, padding=2),
        ),
    ),
    "dense_far": (  # weights that no near cache holds
        (3,), lambda: nn.Sequential(nn.Linear(3, 700), nn.Tanh(), nn.Linear(700, 800)),
    ),
    "padded": (
        (3, 9, 7),
        lambda: nn.Sequential(
            nn.Conv2d(3, 8, 3, padding="same"), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(8, 5, 3, padding=1), nn.Sigmoid(), nn.Flatten(), nn.Linear(60, 4),
        ),
    ),
    "full": (
        (1, 8, 8),
        lambda: nn.Sequential(
            nn.Conv2d(1, 6, 5), nn.Tanh(), nn.Conv2d(6, 1, 5, padding="full"), nn.Bias((1, 8, 8)),
            nn.Sigmoid(),
        ),
    ),
    "into_few_channels": (
        (8, 9, 10),
        lambda: nn.Sequential(
            nn.Conv2d(8, 8, (4, 3), padding=(3, 3, 2, 2), groups=4), nn.ReLU(),
            nn.Conv2d(8, 2, 3, stride=(2, 1), dilation=(2, 3), padding=(1, 4, 2, 3)), nn.ReLU(),
            nn.Conv2d(2, 1, (9, 3), padding="same"),
        ),
    ),
    "full_into_two": ((9, 5, 4), lambda: nn.Conv2d(9, 2, (2, 3), padding="full", bias=False)),
    "strided": (
        (2, 11, 12),
        lambda: nn.Sequential(
            nn.Conv2d(2, 7, (3, 4), stride=(2, 3), padding=(2, 0, 1, 3)), nn.LeakyReLU(0.1),
            nn.MaxPool2d(3, stride=2, padding=1), nn.Flatten(),
        ),
    ),
    "dilated_groups": (
        (6, 10, 10),
        lambda: nn.Sequential(
            nn.Conv2d(6, 9, 3, dilation=2, groups=3, padding=2), nn.ReLU(),
            nn.Conv2d(9, 9, 3, stride=2, groups=9), nn.MaxPool2d(2, ceil_mode=True),
        ),
    ),
    "overlapping_pools": (
        (2, 13, 13),
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(3, stride=2), nn.MaxPool2d(3), nn.Flatten(),
        ),
    ),
    "pools_of_relu": (  # of 255 pixels, and of 256: more than codes have room for
        (2, 21, 22),
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d((3, 2), stride=(1, 2), padding=1),
            nn.Conv2d(4, 3, 2), nn.ReLU(), nn.MaxPool2d((17, 9), stride=1, padding=(8, 4)),
            nn.Conv2d(3, 2, 1), nn.ReLU(), nn.MaxPool2d((15, 17), stride=6, padding=(7, 8)),
            nn.Conv2d(2, 2, 1), nn.ReLU(), nn.MaxPool2d(16, stride=1, padding=8),
        ),
    ),
    **POOLED,
    "relu_read_twice": ((3, 8, 8), ReadTwice),
    "dropout": (
        (3, 6, 5),
        lambda: nn.Sequential(
            nn.Dropout(0.3), nn.Conv2d(3, 4, 3, padding=1), nn.Dropout(0.6), nn.Flatten(),
            nn.Linear(120, 9), nn.Dropout(0.0), nn.Linear(9, 2), nn.Dropout(1.0),
        ),
    ),
    "padding_beyond_the_image": ((1, 2, 2), lambda: nn.Conv2d(1, 2, 2, padding=3)),
    "input_of_a_pool": ((2, 6, 6), lambda: nn.Sequential(nn.MaxPool2d(2), nn.ReLU())),
    "residual": ((3, 4, 4), Residual),
    "unused": ((6,), Unused),
    "foreign": ((2, 6, 6), Foreign),
    **WINOGRAD,
}  # fmt: skip


def assert_same_bits_by_hand(start, x, target):
    """start() gives a model, its loss and its optimiser: three steps, compiled and by hand."""
    model, loss, optimizer = start()
    step = pynn.compile(model, loss, optimizer)
    losses = [step(x, target) for _ in range(3)]
    by_hand, loss, optimizer = start()
    for expected in losses:
        assert loss(by_hand(x), target) == expected
        by_hand.backward(loss.backward())
        optimizer.step()
        optimizer.zero_grad()
    for (path, one), other in zip(model.named_parameters(), by_hand.parameters(), strict=True):
        np.testing.assert_array_equal(one.data, other.data, err_msg=path)


def in_blocks(plan):
    """Whether the values of a plan lie in blocks of samples."""
    layouts = re.findall(r"\s((?:\[[\d +]+\]){4,5})\s", plan.explain())
    assert layouts
    return all(layout.count("[") == 5 and layout.endswith("[16]") for layout in layouts)


def run(name, batch, dtype="float64", backend="native"):
    """Output, dx and gradients of a network in training mode."""
    shape, make = NETWORKS[name]
    pynn.manual_seed(3)
    pynn.set_winograd(name in WINOGRAD)
    try:
        with pynn.backend(backend):
            model = make().astype(dtype)
            rng = np.random.default_rng(1)
            x = rng.standard_normal((batch, *shape)).astype(dtype)
            y = model(x)
            dx = model.backward(rng.standard_normal(y.shape).astype(dtype))
        plan = model.plan(x.shape)
    finally:
        pynn.set_winograd(False)
    assert in_blocks(plan) or batch < 16
    assert ("Winograd" in plan.explain()) == (name in WINOGRAD and in_blocks(plan))
    return {"y": y, "dx": dx} | {
        path: np.zeros(p.shape) if p.grad is None else p.grad
        for path, p in model.named_parameters()
    }


@pytest.mark.parametrize("batch", [1, 2, 3, 7, 15, 16, 23, 50])
@pytest.mark.parametrize("name", NETWORKS)
def test_equal_the_reference(name, batch):
    expected = run(name, batch, backend="numpy")
    for path, array in run(name, batch).items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-10, atol=1e-11, err_msg=path)
    single = run(name, batch, "float32")
    for path, array in single.items():
        np.testing.assert_allclose(array, expected[path], rtol=2e-4, atol=2e-4, err_msg=path)


@pytest.mark.parametrize("batch", [1, 5, 12, 130])
@pytest.mark.parametrize("name", NETWORKS)
def test_same_bits_on_any_number_of_threads(name, batch):
    before = pynn.get_num_threads()
    try:
        pynn.set_num_threads(1)
        expected = run(name, batch, "float32")
        for threads in (2, 3, 5, 8):
            pynn.set_num_threads(threads)
            for path, array in run(name, batch, "float32").items():
                assert array.tobytes() == expected[path].tobytes(), (threads, path)
    finally:
        pynn.set_num_threads(before)


def trained(model, batch, shape):
    """The losses of three steps that keep their gradients, those of the last, and what became of
    the parameters."""
    rng = np.random.default_rng(2)
    step = pynn.compile(
        model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.01), keep_gradients=True
    )
    x = rng.standard_normal((batch, *shape)).astype(model.dtype)
    y = rng.integers(0, 3, batch)
    losses = np.array([step(x, y) for _ in range(3)])
    left = {path: parameter.data for path, parameter in model.named_parameters()}
    gradients = {
        f"{path}.grad": parameter.grad
        for path, parameter in model.named_parameters()
        if parameter.grad is not None
    }
    return {"losses": losses} | left | gradients


@pytest.mark.parametrize("frozen", [None, "weight", "bias"])
@pytest.mark.parametrize("batch", [16, 23, 50])
@pytest.mark.parametrize("name", POOLED)
def test_convolutions_train_with_the_pools_behind_them(name, batch, frozen):
    shape, make = POOLED[name]

    def run_on(backend, dtype):
        pynn.manual_seed(4)
        model = make().astype(dtype)
        if frozen:
            getattr(model[0], frozen).requires_grad = False
        lines = model.plan((batch, *shape)).explain().splitlines()
        pools = sum(isinstance(layer, nn.MaxPool2d) for layer in model)
        assert sum("conv2d" in line and "max_pool2d" in line for line in lines) == pools
        with pynn.backend(backend):
            return trained(model, batch, shape)

    expected = run_on("numpy", "float64")
    for path, array in run_on("native", "float64").items():
        np.testing.assert_allclose(array, expected[path], rtol=1e-9, atol=1e-11, err_msg=path)
    for path, array in run_on("native", "float32").items():
        np.testing.assert_allclose(array, expected[path], rtol=2e-4, atol=2e-4, err_msg=path)


@pytest.mark.parametrize("name", POOLED)
def test_pools_behind_convolutions_have_the_same_bits_on_any_number_of_threads(name):
    shape, make = POOLED[name]
    before = pynn.get_num_threads()
    results = []
    try:
        for threads in (1, 2, 3, 5, 8):
            pynn.set_num_threads(threads)
            pynn.manual_seed(4)
            results.append(trained(make(), 100, shape))
    finally:
        pynn.set_num_threads(before)
    for other in results[1:]:
        for path, array in results[0].items():
            assert array.tobytes() == other[path].tobytes(), path


@pytest.mark.parametrize("frozen", [False, True])
@pytest.mark.parametrize("batch", [7, 16, 40])
@pytest.mark.parametrize("name", POOLED)
def test_pools_behind_convolutions_have_the_same_bits_by_hand_and_compiled(name, batch, frozen):
    """The gradient of a convolution's image lies in memory by hand, where that of the input is
    wanted; in a step it may lie nowhere as a whole. Behind a frozen layer, it is the other way."""
    shape, make = POOLED[name]
    rng = np.random.default_rng(9)
    x = rng.standard_normal((batch, *shape)).astype("f")
    target = rng.standard_normal(make()(x).shape).astype("f")

    def start():
        pynn.manual_seed(4)
        model = make()
        if frozen:
            model[0].freeze()
        return model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1)

    assert_same_bits_by_hand(start, x, target)


@pytest.mark.parametrize(
    "pool",
    [
        nn.MaxPool2d(3, stride=2),  # windows that share rows
        nn.MaxPool2d(4),  # rows that no window covers
        nn.MaxPool2d(5, padding=2),
        nn.MaxPool2d(2, stride=3),
        nn.MaxPool2d((2, 150), stride=(2, 1)),  # more pixels than a code has room for
    ],
    ids=repr,
)
def test_other_pools_run_by_themselves(pool):
    model = nn.Sequential(nn.Conv2d(1, 2, 1), pool)
    lines = model.plan((16, 1, 10, 160)).explain().splitlines()
    assert lines[2].startswith("1 (MaxPool2d)  max_pool2d ")


def test_pools_behind_long_sums_run_by_themselves():
    model = nn.Sequential(nn.Conv2d(57, 2, 3), nn.MaxPool2d(2))
    lines = model.plan((16, 57, 10, 10)).explain().splitlines()
    assert lines[2].startswith("1 (MaxPool2d)  max_pool2d ")


def test_subnormal_numbers_count_as_zero_within_a_step_alone():
    small = np.float32(2e-38)
    layer = nn.Linear(16, 16, bias_init="zeros", weight_init="zeros")
    layer.weight.data = np.full((16, 16), small)
    step = pynn.compile(layer, nn.MSELoss(), optim.SGD(layer.parameters(), lr=0.75, weight_decay=1))
    zeros = np.zeros((16, 16), np.float32)
    assert step(zeros, zeros) == 0
    assert (layer.weight.data == 0).all()  # a quarter of it: less than the smallest normal number
    assert small * np.float32(0.25) > 0


SCRIPT = """
from executors.test_plan import NETWORKS, run
print(json.dumps([[name, batch, {k: v.ravel().tolist() for k, v in run(name, batch, "float32").items()}]
                  for name in NETWORKS for batch in (1, 9, 20)]))
"""


@pytest.mark.parametrize("isa", _core.config()["available_isas"])
def test_every_instruction_set(isa, printed_on):
    for name, batch, arrays in printed_on(isa, SCRIPT):
        expected = run(name, batch, backend="numpy")
        for path, values in arrays.items():
            np.testing.assert_allclose(
                values,
                expected[path].ravel(),
                rtol=2e-4,
                atol=2e-4,
                err_msg=f"{name} {batch} {path}",
            )


def test_a_batch_is_its_rows():
    """What a sample gives does not depend on the others, nor on where in the batch it stands; of
    dense layers, among batches that lie in blocks, and among those in arrays."""
    convolutions = nn.Sequential(
        nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()
    ).eval()
    whole_model = nn.Sequential(convolutions, nn.Linear(64, 10)).eval()
    x = RNG.random((100, 1, 8, 8)).astype("f")
    whole = whole_model(x)
    np.testing.assert_array_equal(whole_model(x[30:57]), whole[30:57])
    np.testing.assert_array_equal(whole_model(x[::-1]), whole[::-1])
    features, few = convolutions(x), whole_model(x[41:50])
    np.testing.assert_allclose(few, whole[41:50], rtol=1e-5, atol=1e-6)
    for size in (1, 2, 9, 12, 15):
        part = x[41 : 41 + size]
        assert in_blocks(whole_model.plan(part.shape)) == (size >= 12)
        expected = whole[41 : 41 + size] if size >= 12 else few[:size]
        np.testing.assert_array_equal(convolutions(part), features[41 : 41 + size])
        np.testing.assert_array_equal(whole_model(part), expected)


@pytest.mark.parametrize("batch", [9, 20])
def test_nan_and_infinity_are_carried(batch):
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Flatten()).eval()
    x = RNG.random((batch, 1, 8, 8)).astype("f")
    x[3, 0, 2, 2], x[7, 0, 5, 5] = np.nan, np.inf
    with pynn.backend("numpy"), np.errstate(invalid="ignore"):
        expected = model(x)
    actual = model(x)
    np.testing.assert_array_equal(np.isnan(actual), np.isnan(expected))
    np.testing.assert_array_equal(np.isinf(actual), np.isinf(expected))
    assert np.isfinite(np.delete(actual, [3, 7], axis=0)).all()


def test_gradients_add_up_over_calls():
    model = nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(72, 3)).astype("float64")
    x, dy = RNG.random((16, 1, 8, 8)), RNG.random((16, 3))
    model(x)
    model.backward(dy)
    once = [p.grad.copy() for p in model.parameters()]
    model(x)
    model.backward(dy)
    for parameter, gradient in zip(model.parameters(), once, strict=True):
        np.testing.assert_allclose(parameter.grad, 2 * gradient, rtol=1e-12)


def test_two_calls_have_memory_of_their_own():
    first, second = nn.Linear(4, 4), nn.Linear(4, 4)
    x = RNG.random((16, 4)).astype("f")
    y = first(x)
    second(x)
    first(2 * x)
    np.testing.assert_array_equal(y, first(x))


@pytest.mark.parametrize("batch", [9, 16])
def test_images_that_are_done_with_leave_their_memory_to_others(batch):
    def size(layers):
        model = nn.Sequential(*[nn.Conv2d(8, 8, 1) for _ in range(layers)]).eval()
        return model.plan((batch, 8, 20, 20)).core.bytes

    assert size(9) == size(3)


@pytest.mark.parametrize("batch", [16, 50])
def test_what_relu_gave_to_a_pool_is_not_kept(batch):
    def size(*between):
        model = nn.Sequential(
            nn.Conv2d(3, 8, 3), *between, nn.MaxPool2d(2), nn.Flatten(), nn.Linear(1152, 2)
        )
        step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters(), lr=0.1))
        return step.plan((batch, 3, 26, 26)).core.bytes

    assert size(nn.ReLU()) == size()


@pytest.mark.parametrize("batch", [9, 20])
def test_gradients_at_nan_are_the_reference_s(batch):
    def gradients():
        rng = np.random.default_rng(5)
        model = nn.Sequential(nn.Conv2d(1, 2, 1, bias=False), nn.ReLU(), nn.MaxPool2d(2))
        model[0].weight.data = np.array([1, -1], "f").reshape(2, 1, 1, 1)
        x = rng.standard_normal((batch, 1, 6, 6)).astype("f")
        x[::3, 0, 2, 3], x[1::3, 0, 1:3] = np.nan, 0
        return model(x), model.backward(rng.standard_normal((batch, 2, 3, 3)).astype("f"))

    with pynn.backend("numpy"), np.errstate(invalid="ignore"):
        expected = gradients()
    for one, other in zip(gradients(), expected, strict=True):
        np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize(
    "make_optimizer",
    [
        lambda p: optim.SGD(p, lr=0.1),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, nesterov=True, weight_decay=0.01),
        lambda p: optim.SGD(p, lr=0.1, momentum=0.9, momentum_form="average"),
        lambda p: optim.Adam(p, lr=0.01),
        lambda p: optim.AdamW(p, lr=0.01),
        lambda p: optim.RMSprop(p, lr=0.01, momentum=0.5),
    ],
)
@pytest.mark.parametrize("batch", [1, 6, 30, 50])
@pytest.mark.parametrize(
    "layers",
    [
        lambda: [
            nn.Conv2d(1, 6, 3, padding=1), nn.ReLU(), nn.Bias((6, 9, 9)), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(96, 30), nn.Dropout(0.2), nn.Linear(30, 4),
        ],
        lambda: [
            nn.Flatten(), nn.Linear(81, 70), nn.ReLU(), nn.Linear(70, 66), nn.ReLU(),
            nn.Linear(66, 4),
        ],
    ],
    ids=["conv", "dense"],
)  # fmt: skip
def test_updates_within_the_backward_pass_give_the_same_bits(make_optimizer, layers, batch):
    x, y = RNG.random((60, 1, 9, 9)).astype("f"), RNG.integers(0, 4, 60)

    def train(**options):
        pynn.manual_seed(5)
        model = nn.Sequential(*layers())
        optimizer = make_optimizer(model.parameters())
        step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer, **options)
        losses = []
        for number in range(6):
            optimizer.lr = 0.01 / (1 + number)
            losses.append(step(x[number : number + batch], y[number : number + batch]))
        return losses, model.state_dict(), optimizer.state_dict()

    (losses, state, optimizer_state), expected = train(), train(keep_gradients=True)
    assert losses == expected[0]
    for name, array in state.items():
        assert array.tobytes() == expected[1][name].tobytes(), name
    assert optimizer_state["steps"] == expected[2]["steps"]
    for ours, theirs in zip(optimizer_state["state"], expected[2]["state"], strict=True):
        assert {name: a.tobytes() for name, a in ours.items()} == {
            name: a.tobytes() for name, a in theirs.items()
        }


@pytest.mark.parametrize("sizes", [(96, 40, 17, 5), (96, 9), (90, 40, 6), (96, 40, 300, 5)])
@pytest.mark.parametrize("batch", [20, 100])
def test_thin_networks_train_to_the_same_bits_on_any_number_of_threads(sizes, batch):
    """Their small updates are done beside the first layer's."""
    rng = np.random.default_rng(8)
    x = rng.random((batch, 1, sizes[0]), np.float32)
    y = rng.integers(0, sizes[-1], batch)

    def train(threads, **options):
        pynn.set_num_threads(threads)
        pynn.manual_seed(7)
        layers = [nn.Linear(*ends) for ends in itertools.pairwise(sizes)]
        model = nn.Sequential(
            nn.Flatten(), *(part for layer in layers for part in (layer, nn.ReLU()))
        )
        optimizer = optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
        step = pynn.compile(model, nn.CrossEntropyLoss(), optimizer, **options)
        losses = [step(x, y) for _ in range(4)]
        return [losses, step.output.tobytes(), *(p.data.tobytes() for p in model.parameters())]

    before = pynn.get_num_threads()
    try:
        expected = train(1, keep_gradients=True)
        for threads in (1, 2, 3, 5, 8):
            assert train(threads) == expected
    finally:
        pynn.set_num_threads(before)


def test_explain_says_what_runs():
    model = nn.Sequential(
        nn.Conv2d(1, 8, 3, padding="same"), nn.ReLU(), nn.BatchNorm2d(8), nn.Flatten(),
        nn.Linear(392, 10),
    )  # fmt: skip
    step = pynn.compile(model, nn.CrossEntropyLoss(), optim.SGD(model.parameters()))
    text = step.plan((20, 1, 7, 7)).explain()
    assert "conv2d 3 x 3, 1 -> 8 channels + relu" in text
    assert "[2][8][7][7][16]" in text
    assert "batch_norm (not in plans: runs on arrays (N, ...))" in text
    assert "linear 392 -> 10" in text
    assert text.splitlines()[-1].startswith("batch of 20, float32: ")
    assert "backward" not in model.plan((20, 1, 7, 7)).explain().splitlines()[-1]
    assert "[3][8][7][7] " in step.plan((3, 1, 7, 7)).explain()
    with pytest.raises(pynn.errors.ShapeError, match=r"no plan for input shape \(0, 1, 7, 7\)"):
        model.plan((0, 1, 7, 7))


@pytest.mark.parametrize(
    ("layers", "fewest", "fewest_trained"),
    [
        (lambda: [nn.Conv2d(1, 8, 3), nn.Conv2d(8, 1, 3, padding="full")], 11, 3),
        (lambda: [nn.Conv2d(1, 8, 3), nn.ReLU(), nn.Conv2d(8, 8, 3), nn.MaxPool2d(2)], 11, 4),
        (lambda: [nn.Conv2d(1, 64, 3), nn.Conv2d(64, 64, 3)], 11, 8),
        (lambda: [nn.Conv2d(1, 8, 1), nn.Conv2d(8, 8, 1)], 15, 15),
        (lambda: [nn.Flatten(), nn.Linear(196, 30)], 16, 16),
        (lambda: [nn.MaxPool2d(2), nn.Flatten(), nn.Linear(49, 2)], 16, 16),
    ],
)
def test_from_how_many_samples_on_they_lie_in_blocks(layers, fewest, fewest_trained):
    model = nn.Sequential(*layers())
    step = pynn.compile(model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.1))
    for make_plan, least in ((step.plan, fewest_trained), (model.plan, fewest)):
        sizes = [n for n in range(1, 20) if in_blocks(make_plan((n, 1, 14, 14)))]
        assert sizes == list(range(least, 20))


@pytest.mark.parametrize("batch", [2, 3, 4, 7, 12, 15])
def test_a_few_samples_have_the_same_bits_by_hand_and_compiled(batch):
    """Whether their gradients are wanted, too, or not."""
    rng = np.random.default_rng(3)
    x = rng.random((batch, 1, 12, 12), np.float32)
    target = rng.random((batch, 1, 12, 12), np.float32)

    def start():
        pynn.manual_seed(6)
        model = nn.Sequential(
            nn.Conv2d(1, 6, 3), nn.Tanh(), nn.Conv2d(6, 1, 3, padding="full", bias=False)
        )
        return model, nn.MSELoss(), optim.SGD(model.parameters(), lr=0.5, momentum=0.9)

    assert_same_bits_by_hand(start, x, target)


@pytest.mark.parametrize(
    ("name", "shapes", "attributes"),
    [
        (
            "conv2d",
            [(16, 3, 5000, 5000), (8, 3, 3, 3), (8,), (16, 8, 5000, 5000)],
            {"stride": 1, "padding": 1, "dilation": 1, "groups": 1},
        ),
        ("linear", [(16, 1 << 16), (1 << 15, 1 << 16), (1 << 15,), (16, 1 << 15)], {}),
    ],
)
def test_what_is_too_large_for_offsets_runs_on_arrays(name, shapes, attributes):
    stored = [False, True, True, False]
    plan = _core.Plan(
        False, shapes, stored, [], [0], [(name, (0, 1, 2), 3, attributes, None)], 3, False
    )
    assert plan.foreign == [0]


def test_convolutions_whose_halos_do_not_fit_together():
    """Rows of the one and columns of the other would make an image of billions of zeros."""

    class Cross(nn.Module):
        def __init__(self):
            d = 760
            self.rows = nn.Conv2d(64, 4, (3, 1), dilation=(d, 1), padding=(d, d, 0, 0))
            self.columns = nn.Conv2d(64, 4, (1, 3), dilation=(1, d), padding=(0, 0, d, d))

        def forward(self, x):
            return self.rows(x) + self.columns(x)

    model = Cross().eval()
    x = np.random.default_rng(0).random((16, 64, 8, 8), np.float32)
    np.testing.assert_allclose(model(x)[:8], model(x[:8]), rtol=1e-5, atol=1e-6)
