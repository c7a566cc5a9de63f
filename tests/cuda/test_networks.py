"""Networks: forward, gradients and training on the device against float64 on the processor."""

import numpy as np
import pytest

import pynn
from pynn import nn, optim

IMAGES, VECTORS = (2, 10, 10), (12,)


class Skip(nn.Module):
    """A value used three times, a product with numbers, a sum with a parameter."""

    def __init__(self):
        super().__init__()
        self.a, self.b, self.c = nn.Linear(12, 12), nn.Linear(12, 12), nn.Linear(24, 4)
        self.scale = nn.Parameter(np.linspace(0.5, 1.5, 12))

    def forward(self, x):
        h = nn.relu(self.a(x)) * 0.5 + x
        h = h + self.b(h) * self.scale
        return self.c(pynn.ops.concat([h, nn.tanh(x)]))


class Shared(nn.Module):
    """A layer used twice, so that its gradients are added."""

    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(12, 12), nn.Linear(12, 4)

    def forward(self, x):
        return self.b(nn.relu(self.a(nn.sigmoid(self.a(x)))))


class Fire(nn.Module):
    """As in SqueezeNet."""

    def __init__(self):
        super().__init__()
        self.squeeze, self.one = nn.Conv2d(2, 3, 1), nn.Conv2d(3, 4, 1)
        self.three, self.last = nn.Conv2d(3, 4, 3, padding=1), nn.Conv2d(8, 4, 1)

    def forward(self, x):
        x = nn.relu(self.squeeze(x))
        x = pynn.ops.concat([nn.relu(self.one(x)), nn.relu(self.three(x))])
        return pynn.ops.flatten(pynn.ops.global_avg_pool2d(self.last(x)))


# Name -> (a function that makes it, shape of a sample, loss).
NETWORKS = {
    "softmax_regression": (lambda: nn.Sequential(nn.Linear(12, 4)), VECTORS, "labels"),
    "perceptron": (
        lambda: nn.Sequential(nn.Linear(12, 9), nn.ReLU(), nn.Linear(9, 7), nn.ReLU(), nn.Linear(7, 4)),
        VECTORS, "labels",
    ),
    "perceptron_dropout": (
        lambda: nn.Sequential(nn.Linear(12, 16), nn.Sigmoid(), nn.Dropout(0.4), nn.Linear(16, 4)),
        VECTORS, "labels",
    ),
    "lenet": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 3, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(3, 5, 3, padding=1), nn.MaxPool2d(2),
            nn.ReLU(), nn.Flatten(), nn.Linear(20, 6), nn.Tanh(), nn.Linear(6, 4)),
        IMAGES, "labels",
    ),
    "denoiser": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.Tanh(), nn.Conv2d(4, 2, 3, padding="full"), nn.Bias((2, 10, 10)), nn.Sigmoid()),
        IMAGES, "values",
    ),
    "alexnet": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, stride=2, padding=1), nn.ReLU(), nn.MaxPool2d(3, stride=2), nn.Conv2d(4, 6, 3, padding=1),
            nn.ReLU(), nn.Flatten(), nn.Dropout(0.5), nn.Linear(24, 8), nn.ReLU(), nn.Linear(8, 4)),
        IMAGES, "labels",
    ),
    "batch_norm": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.AvgPool2d(2), nn.Flatten(), nn.Linear(64, 6),
            nn.BatchNorm1d(6), nn.LeakyReLU(0.1), nn.Linear(6, 4)),
        IMAGES, "labels",
    ),
    "drop_block": (
        lambda: nn.Sequential(
            nn.Conv2d(2, 4, 3, groups=2), nn.ReLU(), nn.DropBlock2d(0.3, 3), nn.MaxPool2d(3, stride=2, padding=1),
            nn.Flatten(), nn.Linear(64, 4)),
        IMAGES, "labels",
    ),
    "fire": (Fire, IMAGES, "labels"),
    "skip": (Skip, VECTORS, "labels"),
    "shared": (Shared, VECTORS, "labels"),
}  # fmt: skip


def make(name, dtype="float32"):
    """A network of the table, always the same, and its loss."""
    pynn.manual_seed(7)
    build, _, kind = NETWORKS[name]
    return build().astype(dtype), nn.MSELoss() if kind == "values" else nn.CrossEntropyLoss()


def data(name, count, dtype="float32"):
    """Inputs and targets for it."""
    _, shape, kind = NETWORKS[name]
    rng = np.random.default_rng(3)
    x = rng.standard_normal((count, *shape)).astype(dtype)
    if kind == "values":
        return x, rng.random((count, *shape)).astype(dtype)
    return x, rng.integers(0, 4, count)


BATCH = 9
OPTIMIZERS = {
    "sgd": lambda p: optim.SGD(p, lr=0.05),
    "momentum": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, nesterov=True, weight_decay=1e-3),
    "average": lambda p: optim.SGD(p, lr=0.1, momentum=0.8, momentum_form="average"),
    "adam": lambda p: optim.Adam(p, lr=1e-3),
    "adamw": lambda p: optim.AdamW(p, lr=1e-3),
    "rmsprop": lambda p: optim.RMSprop(p, lr=1e-3, momentum=0.5),
    "clipped_norm": lambda p: optim.SGD(p, lr=0.05, momentum=0.9, clip_norm=0.3),
    "clipped_value": lambda p: optim.Adam(p, lr=1e-3, clip_value=0.01),
}
# Ten steps multiply the roundings of one: a relative error of some hundred units in the last place.
AFTER_TEN_STEPS = {"rtol": 2e-4, "atol": 2e-5}


@pytest.fixture(params=NETWORKS)
def name(request, cuda):
    return request.param


def by_hand(name, backend_name, dtype):
    """Output, gradient of the input and of every parameter."""
    model, loss = make(name, dtype)
    x, y = data(name, BATCH, dtype)
    with pynn.backend(backend_name):
        output = model(x)
        loss(output, y)
        dx = model.backward(loss.backward())
    return {"output": output, "x": dx} | {n: p.grad for n, p in model.named_parameters()}


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_forward_and_gradients(name, dtype):
    got, expected = by_hand(name, "cuda", dtype), by_hand(name, "native", "float64")
    eps = np.finfo(dtype).eps
    for key, value in expected.items():
        # A bias before a normalisation has no gradient: what is computed for it is the rounding of
        # sums of terms of about 0.1.
        bound = 400 * eps * max(np.abs(value).max(), 1e-2)
        np.testing.assert_allclose(got[key], value, rtol=100 * eps, atol=bound, err_msg=key)


def train(name, backend_name, dtype="float32", optimizer="momentum", steps=10, epoch=False):
    """The losses and the state after some steps; the last batch is smaller."""
    model, loss = make(name, dtype)
    opt = OPTIMIZERS[optimizer](model.parameters())
    x, y = data(name, BATCH * (steps - 1) + 5, dtype)
    with pynn.backend(backend_name):
        step = pynn.compile(model, loss, opt)
        if epoch:
            order = np.arange(len(x))
            losses = step.epoch(x, y, order, batch_size=BATCH, scale=1.0)
        else:
            losses = [step(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    return np.array(losses), model.state_dict(), opt.state_dict()


def assert_like(got, expected, bounds):
    np.testing.assert_allclose(got[0], expected[0], err_msg="losses", **bounds)
    for key, value in expected[1].items():
        np.testing.assert_allclose(got[1][key], value, err_msg=key, **bounds)
    for ours, theirs in zip(got[2]["state"], expected[2]["state"], strict=True):
        for key, value in theirs.items():
            np.testing.assert_allclose(ours[key], value, err_msg=key, **bounds)
    assert got[2]["steps"] == expected[2]["steps"]


def assert_same_bits(got, expected):
    assert got[0].tobytes() == expected[0].tobytes()
    for key, value in expected[1].items():
        assert got[1][key].tobytes() == value.tobytes(), key
    for ours, theirs in zip(got[2]["state"], expected[2]["state"], strict=True):
        for key, value in theirs.items():
            assert ours[key].tobytes() == value.tobytes(), key


def test_ten_steps(name):
    got = train(name, "cuda")
    assert_like(got, train(name, "native", "float64"), AFTER_TEN_STEPS)
    assert_same_bits(train(name, "cuda"), got)


def test_ten_steps_of_float64(name):
    expected = train(name, "native", "float64")
    assert_like(train(name, "cuda", "float64"), expected, {"rtol": 1e-10, "atol": 1e-12})


def test_large_products(name, large_products):
    got = train(name, "cuda")
    assert_like(got, train(name, "native", "float64"), AFTER_TEN_STEPS)
    assert_same_bits(train(name, "cuda"), got)
    assert_same_bits(train(name, "cuda", epoch=True), got)


@pytest.mark.parametrize("network", ["lenet", "denoiser", "alexnet", "drop_block", "fire"])
def test_large_convolutions(network, large_convolutions):
    got = train(network, "cuda")
    assert_like(got, train(network, "native", "float64"), AFTER_TEN_STEPS)
    assert_same_bits(train(network, "cuda"), got)
    assert_same_bits(train(network, "cuda", epoch=True), got)


def test_an_epoch_is_its_steps(name):
    assert_same_bits(train(name, "cuda", epoch=True, steps=30), train(name, "cuda", steps=30))


@pytest.mark.parametrize("optimizer", OPTIMIZERS)
def test_every_optimizer(optimizer, cuda):
    got = train("lenet", "cuda", optimizer=optimizer)
    assert_like(got, train("lenet", "native", "float64", optimizer), AFTER_TEN_STEPS)
    assert_same_bits(train("lenet", "cuda", optimizer=optimizer, epoch=True), got)


def test_by_hand_and_compiled_have_the_same_bits(name):
    model, loss = make(name)
    opt = OPTIMIZERS["momentum"](model.parameters())
    x, y = data(name, BATCH * 3)
    losses = []
    with pynn.backend("cuda"):
        for i in range(0, len(x), BATCH):
            output = model(x[i : i + BATCH])
            losses.append(loss(output, y[i : i + BATCH]))
            model.backward(loss.backward())
            opt.step()
            opt.zero_grad()
    compiled = train(name, "cuda", steps=4)
    model_again, loss = make(name)
    opt_again = OPTIMIZERS["momentum"](model_again.parameters())
    with pynn.backend("cuda"):
        step = pynn.compile(model_again, loss, opt_again)
        again = [step(x[i : i + BATCH], y[i : i + BATCH]) for i in range(0, len(x), BATCH)]
    assert compiled is not None
    assert_same_bits(
        (np.array(losses), model.state_dict(), opt.state_dict()),
        (np.array(again), model_again.state_dict(), opt_again.state_dict()),
    )


def test_evaluation(name):
    model, _ = make(name)
    x, _ = data(name, 300)  # more than runs at once
    model.eval()
    expected = model(x)
    with pynn.backend("cuda"):
        np.testing.assert_allclose(model(x), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(model(x[:1]), expected[:1], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
@pytest.mark.parametrize("name", ["perceptron", "lenet"])
def test_precisions(name, precision, cuda):
    check_precision(name, precision)


@pytest.mark.parametrize("precision", ["tf32", "bf16"])
def test_precisions_of_large_products(precision, large_products, cuda):
    check_precision("perceptron", precision, may_be_exact="emulated" not in cuda.describe())


def test_tf32_of_large_convolutions(large_convolutions, cuda):
    check_precision("lenet", "tf32", may_be_exact="emulated" not in cuda.describe())


def check_precision(name, precision, *, may_be_exact=False):
    """Factors are rounded to 11 or 8 bits: sums of K products of them are off by about sqrt(K)
    roundings of a term, here of some tens of terms. NVIDIA's libraries need not round."""

    def output(**options):
        model, _ = make(name)
        with pynn.backend("cuda", **options):
            return model.eval()(data(name, BATCH)[0])

    exact, rounded = output(), output(precision=precision)
    unit = {"tf32": 2.0**-11, "bf16": 2.0**-8}[precision]
    scale = np.abs(exact).max()
    assert np.abs(exact - rounded).max() <= 16 * unit * scale
    assert may_be_exact or np.abs(exact - rounded).max() > 0
    assert output().tobytes() == exact.tobytes()


def test_fit_and_evaluate(cuda):
    model, loss = make("perceptron")
    opt = optim.SGD(model.parameters(), lr=0.1)
    x, y = data("perceptron", 64)
    with pynn.backend("cuda"):
        history = pynn.fit(
            model, loss, opt, (x, y), valid=(x, y), epochs=2, batch_size=16, progress=False
        )
    again, loss = make("perceptron")
    opt = optim.SGD(again.parameters(), lr=0.1)
    expected = pynn.fit(
        again, loss, opt, (x, y), valid=(x, y), epochs=2, batch_size=16, progress=False
    )
    for got, want in zip(history.rows, expected.rows, strict=True):
        for key in ("train_loss", "valid_loss", "train_accuracy"):
            assert got[key] == pytest.approx(want[key], rel=1e-4)
    assert isinstance(model, nn.Module)
